#!/usr/bin/env bash
# Runs `make accuracy`: one runner per truth table, with results in a temporary folder, then the page made from them.
# BIN, DATA (folder of the tables), CACHE (of traces), STEPS (further flags of step_time.py), NOTE (goes into the page),
# RESIDUALS (held-out errors that fit_calibration.py wrote).
set -euo pipefail
results=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$results"' EXIT

score() { # name of the results, table, flags...; the runner is the name without the number of a later table
    local name=$1 runner=${1%_2} table=$DATA/$2
    runner=${runner%_apart}
    shift 2
    if [ ! -f "benchmarks/$runner.py" ] || [ ! -f "$table" ]; then
        echo "$name: skipped, no runner or no $table"
        return
    fi
    echo "$name ..."
    "$BIN/python" -m "benchmarks.$runner" --truth "$table" --json "$results/$name.json" "$@" > "$results/$name.log" ||
        { cat "$results/$name.log"; return 1; }
}

# The two tables of a promise are scored at the same time: the traces of a first run take most of it.

# shellcheck disable=SC2086 # STEPS is a list of flags
score step_time calibration/throughput_train.csv --cache "$CACHE" --rows "$results/step_time.csv" $STEPS &
# shellcheck disable=SC2086
score step_time_2 calibration/throughput_train_2.csv --cache "$CACHE" --rows "$results/step_time_2.csv" $STEPS
wait $!
# The same with every row's chip left out of the fit of one device: the score of several devices on unseen chips.
unseen=(--leave-out device --data "$DATA/calibration" --cache "$CACHE")
# shellcheck disable=SC2086
score step_time_apart calibration/throughput_train.csv "${unseen[@]}" $STEPS &
# shellcheck disable=SC2086
score step_time_apart_2 calibration/throughput_train_2.csv "${unseen[@]}" $STEPS
wait $!
apart=(--leave-out benchmark --data "$DATA/calibration")
score time_to_train calibration/time_to_train.csv --cache "$CACHE" --rows "$results/time_to_train.csv" "${apart[@]}" &
score time_to_train_2 calibration/time_to_train_2.csv --cache "$CACHE" --rows "$results/time_to_train_2.csv" "${apart[@]}"
wait $!
score memory strategy/memory_reference.csv --cache "$CACHE" --rows "$results/memory.csv" --leave-one-source-out \
    --with "$DATA/strategy/memory_reference_2.csv" &
score memory_2 strategy/memory_reference_2.csv --cache "$CACHE" --rows "$results/memory_2.csv" --leave-one-source-out \
    --with "$DATA/strategy/memory_reference.csv"
wait $!
score kernels calibration/kernels.csv.gz
score strategy strategy/transfer_results.csv
score decline_hindcast cost_decline/technology_curves.csv
if [ -f "$results/step_time.csv" ]; then
    echo "pick_cheapest ..."
    "$BIN/python" -m benchmarks.pick_cheapest --rows "$results/step_time.csv" --json "$results/pick_cheapest.json" \
        ${RESIDUALS:+--residuals "$RESIDUALS"} > "$results/pick_cheapest.log"
fi
[ -z "$RESIDUALS" ] || cp "$RESIDUALS" "$results/residuals.csv"
"$BIN/python" -m benchmarks.pages.accuracy --results "$results" --note "$NOTE"
echo "make accuracy: wrote docs/accuracy.md"
