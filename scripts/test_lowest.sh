#!/usr/bin/env bash
# Installs the lowest versions that pyproject.toml admits, and that are built for this Python, into an environment of its
# own and runs the tests there.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --upgrade "pip>=25.1" uv
cd "$top"
"$work/venv/bin/python" -m uv pip compile --quiet --resolution lowest-direct --only-binary :all: --extra all --extra demo \
    --group test --python "$work/venv/bin/python" pyproject.toml --output-file "$work/lowest.txt"
"$work/venv/bin/python" -m pip install --quiet -r "$work/lowest.txt"
"$work/venv/bin/python" -m pip install --quiet --no-deps --editable .
"$work/venv/bin/python" -m pytest --quiet --numprocesses=3 --dist=worksteal -m "not sources"
# Apart: the lowest mcp needs a newer pydantic than the rest.
"$work/venv/bin/python" -m uv pip compile --quiet --resolution lowest-direct --only-binary :all: --extra mcp --group test \
    --python "$work/venv/bin/python" pyproject.toml --output-file "$work/mcp.txt"
"$work/venv/bin/python" -m pip install --quiet -r "$work/mcp.txt"
"$work/venv/bin/python" -m pytest --quiet tests/plugin/cli/test_mcp.py
echo "make test-lowest: passed with $(grep -c == "$work/lowest.txt") packages at their lowest; nothing was written"
