#!/usr/bin/env bash
# target/debian/*.deb of both programs, from release binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
packaging/setup.sh build
packaging/setup.sh deb
cargo build --release --locked -p idr-site -p idr-central --bin idr-site --bin idr-central
rm -f target/debian/idr-{site,central}_*.deb
for package in idr-site idr-central; do
    cargo deb --locked --no-build -p "$package"
done
