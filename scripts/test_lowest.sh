#!/usr/bin/env bash
# Installs the lowest versions that pyproject.toml admits, and that are built for this Python, into an environment of its
# own for each family of packages, and runs the family's tests there. FAMILY names one: base, torch, huggingface or mcp.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$top"

test_family() { # name, extras, tests
    local env="$work/$1" extras=()
    for extra in $2; do extras+=(--extra "$extra"); done
    "$python" -m venv "$env"
    "$env/bin/python" -m pip install --quiet --upgrade "pip>=25.1" uv
    "$env/bin/python" -m uv pip compile --quiet --resolution lowest-direct --only-binary :all: "${extras[@]}" \
        --group "lowest-$1" --python "$env/bin/python" pyproject.toml --output-file "$work/$1.txt"
    "$env/bin/python" -m pip install --quiet -r "$work/$1.txt"
    "$env/bin/python" -m pip install --quiet --no-deps --editable .
    # Old packages use what newer ones call deprecated: that is no error here.
    # shellcheck disable=SC2086 # the tests are words
    "$env/bin/python" -m pytest --quiet --numprocesses=3 --dist=worksteal -m "not sources" \
        -W ignore::DeprecationWarning -W ignore::FutureWarning $3
    echo "make test-lowest: $1 passed with $(grep -c == "$work/$1.txt") packages; nothing was written"
    rm -rf "$env"
}

for family in ${FAMILY:-base torch huggingface mcp}; do
    case $family in
        base) test_family base "aws azure gcp report ci" "tests/core tests/providers tests/plugin/report tests/plugin/prices" ;;
        torch) test_family torch "lightning" "tests/plugin/job tests/plugin/trace tests/plugin/fake_step tests/plugin/lightning tests/plugin/plain_loop tests/plugin/script" ;;
        huggingface) test_family huggingface "lightning huggingface lora" "tests/plugin/huggingface tests/plugin/methods" ;;
        mcp) test_family mcp "mcp" "tests/plugin/cli/test_mcp.py" ;;
        *) echo "FAMILY=$family: give base, torch, huggingface or mcp" >&2 && exit 2 ;;
    esac
done
