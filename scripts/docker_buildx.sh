#!/usr/bin/env bash
# Docker Buildx for the tests, which look at registries with it. Where the host has it, it is used; else Debian's.
set -euo pipefail
folder=$1
[[ -x $folder/docker-buildx ]] && exit 0
docker buildx version >/dev/null 2>&1 && exit 0
# What cannot be fetched is said here and by the tests that are left out: no other test needs it.
"$(dirname "$0")/debian_plugin.sh" docker-buildx "$folder" ||
    echo "docker-buildx cannot be fetched: the tests with it will be skipped" >&2
