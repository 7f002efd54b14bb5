#!/usr/bin/env bash
# Builds the wheel and the source archive into dist/, and the bill of materials of the wheel with all its extras.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$top"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) # the archives hold no other time, so that the same commit gives the same bytes
export SOURCE_DATE_EPOCH
rm -rf dist
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
"$work/tools/bin/python" -m pip install --quiet hatchling --group release
"$work/tools/bin/python" -m hatchling build -d dist
"$python" -m venv "$work/wheel"
"$work/wheel/bin/python" -m pip install --quiet "$(ls dist/*.whl)[all]"
"$work/tools/bin/python" scripts/sbom.py "$work/wheel" -o "dist/$(basename dist/*.tar.gz .tar.gz).cdx.json"
echo "make dist: wrote $(ls dist | tr '\n' ' ')"
