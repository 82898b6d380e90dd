#!/usr/bin/env bash
# Installs the clients that check.py and check.mjs use, from their registries, into target/clients.
set -euo pipefail
cd "$(dirname "$0")"
folder=${1:-../../target/clients}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
[ -x "$folder/python/bin/python" ] || python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
if command -v npm >/dev/null; then
    mkdir -p "$folder/node"
    cp package.json check.mjs "$folder/node/"
    (cd "$folder/node" && npm install --silent --no-audit --no-fund --ignore-scripts)
fi
