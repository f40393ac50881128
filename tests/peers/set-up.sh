#!/usr/bin/env bash
# Installs the Python and Node.js peers, in the versions pinned here, into target/peers. Does nothing twice.
set -euo pipefail
cd "$(dirname "$0")"
to=../../target/peers
mkdir -p "$to"
exec 9>"$to/lock"
flock 9
if ! cmp -s requirements.txt "$to/requirements.txt"; then
    python3 -m venv "$to/venv"
    "$to/venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$to/requirements.txt"
fi
if ! cmp -s package.json "$to/node/package.json"; then
    mkdir -p "$to/node"
    cp package.json package-lock.json "$to/node/"
    (cd "$to/node" && npm ci --silent --no-audit --no-fund) || { rm "$to/node/package.json"; exit 1; }
fi
