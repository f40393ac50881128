#!/usr/bin/env bash
# smoke-test.sh [PACKAGE…]: what must hold after an installation and after an upgrade. Run as root where the package is installed.
set -euo pipefail
failures=0
check() { # what, command…
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "ok    $what"; else echo "FAIL  $what"; failures=$((failures + 1)); fi
}

# Before the first configuration: exit 78, and the missing key is named. Later: in order.
configured() { grep -q '^environment' "/etc/$1/$1.toml"; }
check_config() {
    local status=0 output
    output=$("$1" check-config 2>&1) || status=$?
    if configured "$1"; then ((status == 0)); else ((status == 78)) && grep -q environment <<<"$output"; fi
}
disabled() { configured "$1" || [[ ! -e /etc/systemd/system/multi-user.target.wants/$1.service ]]; }
owned() { [[ $(stat -c '%U %a' "$2") == "$1 700" ]]; }
conffiles() { [[ $(dpkg-query -W -f '${Conffiles}' "$1" | grep -c /etc/"$1"/rules/) -ge 10 ]]; }

packages=("$@")
((${#packages[@]})) || packages=(idr-site idr-central)
for package in "${packages[@]}"; do
    check "$package: installed" dpkg-query -W "$package"
    check "$package: user exists" getent passwd "$package"
    check "$package: state folder is the user's alone" owned "$package" "/var/lib/$package"
    check "$package: rules are configuration files" conffiles "$package"
    check "$package: check-config says what is missing" check_config "$package"
    check "$package: not enabled before it is configured" disabled "$package"
    if command -v man >/dev/null; then check "$package: man page opens" man -P cat 8 "$package"; else echo "skip  $package: no man here"; fi
    if command -v systemd-analyze >/dev/null; then
        check "$package: unit is in order" systemd-analyze verify "/lib/systemd/system/$package.service"
    else
        echo "skip  $package: no systemd-analyze here"
    fi
done
exit $((failures > 0))
