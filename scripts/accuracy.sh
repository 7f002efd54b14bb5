#!/usr/bin/env bash
# Runs `make accuracy`: one runner per truth table, with results in a temporary folder, then the page made from them.
# BIN, DATA (folder of the tables), CACHE (of traces), STEPS (further flags of step_time.py), NOTE (goes into the page),
# RESIDUALS (held-out errors that fit_calibration.py wrote).
set -euo pipefail
results=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$results"' EXIT

score() { # name of the results, table, flags...; the runner is the name without "_apart"
    local name=$1 runner=${1%_apart} table=$DATA/$2 release truth files=()
    shift 2
    for release in "" _2; do # both releases of a table in one process: they share traces and fits
        truth=${table/.csv/$release.csv}
        [ -f "$truth" ] || continue
        files+=(--truth "$truth" --json "$results/$name$release.json")
        case $name in step_time | time_to_train | memory) files+=(--rows "$results/$name$release.csv") ;; esac
    done
    if [ ! -f "benchmarks/$runner.py" ] || [ ${#files[@]} = 0 ]; then
        echo "$name: skipped, no runner or no $table"
        return
    fi
    echo "$name ..."
    "$BIN/python" -m "benchmarks.$runner" "${files[@]}" "$@" > "$results/$name.log" ||
        { cat "$results/$name.log"; return 1; }
}

# Two processes at a time. The traces of a first run take most of it: those of steps in one, those of memory in the other.
score memory strategy/memory_reference.csv --cache "$CACHE" --leave-one-source-out &
memory=$!
# shellcheck disable=SC2086 # STEPS is a list of flags
score step_time calibration/throughput_train.csv --cache "$CACHE" $STEPS
score kernels calibration/kernels.csv.gz
score strategy strategy/transfer_results.csv
score decline_hindcast cost_decline/technology_curves.csv
wait "$memory"
# With the chip of every row left out of the fit of one device: the score of several devices on unseen chips.
# shellcheck disable=SC2086
score step_time_apart calibration/throughput_train.csv --cache "$CACHE" --several --leave-out device \
    --data "$DATA/calibration" $STEPS &
apart=$!
score time_to_train calibration/time_to_train.csv --cache "$CACHE" --leave-out benchmark --data "$DATA/calibration"
wait "$apart"
if [ -f "$results/step_time.csv" ]; then
    echo "pick_cheapest ..."
    "$BIN/python" -m benchmarks.pick_cheapest --rows "$results/step_time.csv" --json "$results/pick_cheapest.json" \
        ${RESIDUALS:+--residuals "$RESIDUALS"} > "$results/pick_cheapest.log"
fi
[ -z "$RESIDUALS" ] || cp "$RESIDUALS" "$results/residuals.csv"
"$BIN/python" -m benchmarks.pages.accuracy --results "$results" --note "$NOTE"
echo "make accuracy: wrote docs/accuracy.md"
