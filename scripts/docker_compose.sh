#!/usr/bin/env bash
# Docker Compose for the tests. Where the host has it (of version 2) it is used; else Debian's.
set -euo pipefail
folder=$1
[[ -x $folder/docker-compose ]] && exit 0
docker compose version >/dev/null 2>&1 && exit 0
docker-compose version --short 2>/dev/null | grep -q '^v\?2' && exit 0
"$(dirname "$0")/debian_plugin.sh" docker-compose "$folder"
