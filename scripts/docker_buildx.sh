#!/usr/bin/env bash
# Docker Buildx for the tests, which look at registries with it. Where the host has it, it is used; else Debian's is
# unpacked into the folder named, from a newer suite where this one has none, without installing anything.
set -euo pipefail
folder=$1
suite=trixie
mkdir -p "$folder"
folder=$(realpath "$folder")
[[ -x $folder/docker-buildx ]] && exit 0
docker buildx version >/dev/null 2>&1 && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# The mirror that this host's apt uses, whatever it is; its own lists and cache stay as they are.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
mkdir -p lists/partial cache/archives/partial parts
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >sources.list
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o "Dir::Etc::sourceparts=$work/parts"
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
# What cannot be fetched is said here and by the tests that are left out: no other test needs it.
if ! { "${apt[@]}" update && "${apt[@]}" download docker-buildx; }; then
    echo "docker-buildx cannot be fetched: the tests with it will be skipped" >&2
    exit 0
fi
dpkg-deb -x ./*.deb unpacked
install -m 755 unpacked/usr/libexec/docker/cli-plugins/docker-buildx "$folder/docker-buildx"
"$folder/docker-buildx" version
