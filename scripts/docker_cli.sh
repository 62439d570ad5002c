#!/usr/bin/env bash
# A docker client for the tests. Where the host has one it is used; else Debian's is unpacked into the folder named,
# without installing the daemon that comes in the same package.
set -euo pipefail
folder=$1
mkdir -p "$folder"
if command -v docker >/dev/null; then
    exit 0
fi
[[ -x $folder/docker ]] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
package=docker.io
apt-cache show docker-cli >/dev/null 2>&1 && package=docker-cli
apt-get download -qq "$package"
dpkg-deb -x ./*.deb unpacked
install -m 755 unpacked/usr/bin/docker "$folder/docker"
"$folder/docker" --version
