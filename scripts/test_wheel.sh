#!/usr/bin/env bash
# Builds the wheel, installs it into a virtual environment of its own, and runs the tests against it from a
# folder without the sources, so that they test what a user installs.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
"$work/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$work/dist" "$top"
wheel=$(ls "$work"/dist/*.whl)
mkdir "$work/away"
cp -r "$top/tests" "$top/examples" "$top/benchmarks" "$top/docs" "$top/pyproject.toml" "$top"/*.md "$work/away/"
cd "$work/away"
"$work/venv/bin/python" -m pip install --quiet "$wheel[all,demo]" --group test
"$work/venv/bin/python" -m pytest --quiet --numprocesses=3 --dist=worksteal -m "not sources"
echo "make test-wheel: passed on $(basename "$wheel"); nothing was written"
