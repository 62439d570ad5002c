#!/usr/bin/env bash
# Installs the Debian packages named that are missing. Asks the package lists only when something is.
set -euo pipefail
missing=()
for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [[ $status == ii* ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0
if ((EUID != 0)); then
    echo "missing packages (run as root, or: apt-get install ${missing[*]})" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# A package must not start its service here: containerd's would take a name that nobody asked for.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null; }
echo "installing ${missing[*]}"
{ apt-get update -qq && install; } || { sleep 5; apt-get update -qq && install; }
