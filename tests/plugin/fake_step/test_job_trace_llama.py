"""A 7B model before launch: the cost of tracing it, and its figures against hand formulas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WIDTH, HIDDEN, LAYERS, VOCAB, TOKENS, MICRO_BATCHES = 4096, 11008, 32, 32000, 4096, 8


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return the benchmark's figures, from a new process."""
    pytest.importorskip("peft", reason="the benchmark has models with adapters, too")
    output = tmp_path_factory.mktemp("cost") / "cost.json"
    command = [sys.executable, "-m", "benchmarks.speed.trace_job_cost", "--json", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(output.read_text())
    return figures


def test_tracing_a_7b_model_takes_less_than_three_gigabytes(figures: dict[str, float]) -> None:
    """Peak resident memory of the whole process, torch and Lightning included; the weights alone would be 13.5 GB."""
    assert figures["peak_rss_bytes"] <= 3e9


def test_a_7b_model_has_the_parameters_and_flops_of_its_formulas(figures: dict[str, float]) -> None:
    """Within 1 %: 6 FLOPs a weight and token, and flash attention's 14 FLOPs a pair of positions and channel."""
    block = 4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN
    products = LAYERS * block + VOCAB * WIDTH
    assert figures["parameters"] == products + VOCAB * WIDTH + (2 * LAYERS + 1) * WIDTH
    # Two products forward, five backward (the scores are computed again), 2 FLOPs each; causal is not halved.
    attention = LAYERS * 14 * TOKENS * TOKENS * WIDTH
    assert figures["step_flops"] == pytest.approx(
        MICRO_BATCHES * (6 * products * TOKENS + attention), rel=0.01
    )
    assert figures["coverage"] > 0.99
