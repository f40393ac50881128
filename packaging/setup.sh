#!/usr/bin/env bash
# Installs what building (`build`), the test runner (`runner`), the tests (`peers`), fuzzing (`fuzz`) and packages (`deb`) need on a
# bare Debian 12 with Rust.
# Asks nothing, does nothing twice.
set -euo pipefail
want=${1:?build, runner, peers, fuzz or deb}

case $want in
build) packages=(libsystemd-dev pkg-config gcc make) ;;
runner) packages=() ;;
peers) packages=(curl dcmtk orthanc xmlsec1 libxml2-utils dicom3tools strace python3 python3-venv nodejs npm postgresql) ;;
fuzz) packages=(g++) ;;
deb) packages=(dpkg-dev) ;;
*) echo "setup.sh: 'build', 'runner', 'peers', 'fuzz' or 'deb', not '$want'" >&2; exit 2 ;;
esac

present() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }
# A Node.js from elsewhere serves as well as Debian's.
satisfied() { present "$1" || { [[ $1 == nodejs || $1 == npm ]] && command -v "${1/nodejs/node}" >/dev/null; }; }

missing=()
for package in "${packages[@]}"; do satisfied "$package" || missing+=("$package"); done
if ((${#missing[@]})); then
    echo "setup: installing ${missing[*]}"
    sudo=$([[ $EUID -eq 0 ]] || echo sudo)
    $sudo apt-get update -qq
    # The tests start servers of their own: Debian's package shall not make and start one for the machine.
    if [[ " ${missing[*]} " == *" postgresql "* ]] && ! present postgresql-common; then
        $sudo install -d -m 755 /etc/postgresql-common
        echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
fi
if [[ $want == runner ]] && ! cargo nextest --version >/dev/null 2>&1; then
    echo "setup: installing cargo-nextest"
    cargo install --quiet --locked cargo-nextest
fi
if [[ $want == deb ]] && ! cargo deb --version >/dev/null 2>&1; then
    echo "setup: installing cargo-deb"
    cargo install --quiet --locked --version 3.8.0 cargo-deb
fi
