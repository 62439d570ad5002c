#!/usr/bin/env bash
# A plugin of the docker CLI from Debian (`docker-compose`), unpacked into the folder named, from a newer suite where this
# one has none or one too old, without installing anything.
set -euo pipefail
plugin=$1
mkdir -p "$2"
folder=$(realpath "$2")
suite=trixie
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# The mirror that this host's apt uses, whatever it is; its own lists and cache stay as they are.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
mkdir -p lists/partial cache/archives/partial parts
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >sources.list
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o "Dir::Etc::sourceparts=$work/parts"
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
"${apt[@]}" download "$plugin"
dpkg-deb -x ./*.deb unpacked
install -m 755 "unpacked/usr/libexec/docker/cli-plugins/$plugin" "$folder/$plugin"
"$folder/$plugin" version
