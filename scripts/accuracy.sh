#!/usr/bin/env bash
# Runs `make accuracy`: one runner per truth table, with results in a temporary folder, then the page made from them.
# BIN, DATA (folder of the tables), CACHE (of traces), STEPS (further flags of step_time.py), NOTE (goes into the page),
# RESIDUALS (held-out errors that fit_calibration.py wrote).
set -euo pipefail
results=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$results"' EXIT

score() { # name of the results, releases of the table, its first release, flags...; the runner is the name without "_apart"
    local name=$1 runner=${1%_apart} table=$DATA/$3 log=$results/$1-${2// /}.log release of files=()
    for release in $2; do # several in one process share traces and fits
        of=${release#1}
        of=${of:+_$of}
        [ -f "${table/.csv/$of.csv}" ] || continue
        files+=(--truth "${table/.csv/$of.csv}" --json "$results/$name$of.json")
        case $name in step_time | time_to_train | memory) files+=(--rows "$results/$name$of.csv") ;; esac
    done
    if [ ! -f "benchmarks/$runner.py" ] || [ ${#files[@]} = 0 ]; then
        echo "$name: skipped, no runner or no release $2 of $table"
        return
    fi
    echo "$name $2 ..."
    shift 3
    "$BIN/python" -m "benchmarks.$runner" "${files[@]}" "$@" > "$log" || { cat "$log"; return 1; }
}

# The traces of a first run take most of it. Two cores are busy to the end: when the second table is done, its process
# traces the first one's rows from the last on, until it meets the process that comes from the first.
score memory "1 2" strategy/memory_reference.csv --cache "$CACHE" --leave-one-source-out &
memory=$!
# shellcheck disable=SC2086 # STEPS is a list of flags
score step_time 1 calibration/throughput_train.csv --cache "$CACHE" $STEPS &
steps=$!
# shellcheck disable=SC2086
score step_time 2 calibration/throughput_train.csv --cache "$CACHE" $STEPS
backwards=
if [ "$SECONDS" -gt 300 ] && [ -f "$DATA/calibration/throughput_train.csv" ]; then # a first run: later ones are here within a minute
    # shellcheck disable=SC2086
    "$BIN/python" -m benchmarks.step_time --truth "$DATA/calibration/throughput_train.csv" --cache "$CACHE" \
        --trace-backwards $STEPS &
    backwards=$!
fi
wait "$steps"
[ -z "$backwards" ] || kill "$backwards" 2> /dev/null || true # what it has not traced yet, the other process has
score kernels 1 calibration/kernels.csv.gz
score strategy 1 strategy/transfer_results.csv
score decline_hindcast 1 cost_decline/technology_curves.csv
wait "$memory"
# With the chip of every row left out of the fit of one device: the score of several devices on unseen chips.
# shellcheck disable=SC2086
score step_time_apart "1 2" calibration/throughput_train.csv --cache "$CACHE" --several --leave-out device \
    --data "$DATA/calibration" $STEPS &
apart=$!
score time_to_train "1 2" calibration/time_to_train.csv --cache "$CACHE" --leave-out benchmark --data "$DATA/calibration"
wait "$apart"
if [ -f "$results/step_time.csv" ]; then
    echo "pick_cheapest ..."
    "$BIN/python" -m benchmarks.pick_cheapest --rows "$results/step_time.csv" --json "$results/pick_cheapest.json" \
        ${RESIDUALS:+--residuals "$RESIDUALS"} > "$results/pick_cheapest.log"
fi
[ -z "$RESIDUALS" ] || cp "$RESIDUALS" "$results/residuals.csv"
"$BIN/python" -m benchmarks.pages.accuracy --results "$results" --note "$NOTE"
echo "make accuracy: wrote docs/accuracy.md"
