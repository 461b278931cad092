#!/usr/bin/env bash
# The committed stubs are those of the protos, and the protos do not break the last landed contract.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
bash protos/generate.sh "$fresh"
(cd "$fresh" && find . -type f | sort) | while read -r stub; do
    diff -u "clients/$stub" "$fresh/$stub" || { echo "$stub is out of date: run 'make protos'"; exit 1; }
done

# The commit whose protos clients may already use; set to the landed commit with every landing.
landed=$(cat protos/landed_commit)
git cat-file -e "$landed^{commit}" 2>/dev/null || { echo "protos/landed_commit: no commit $landed here"; exit 1; }
.venv/bin/buf breaking protos --against ".git#commit=$landed,subdir=protos"
echo "stubs are up to date; no breaking change since $landed"
