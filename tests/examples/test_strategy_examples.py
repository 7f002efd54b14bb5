"""The two examples of `trainfare strategy`: a vision transformer with pilots, a language model with adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.cli import capture_main, run_python

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the command in this process; exit codes 0 and 3 are valid."""
    result = capture_main(capsys, "strategy", *arguments, "--format", "json")
    assert result.exit_code in (0, 3)
    return json.loads(result.stdout)


def test_the_vision_example_gives_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """A ViT-B/16 of 86M parameters: what each strategy trains, on a machine of its own, within the given limits."""
    only = ("--strategies", "linear_probe", "--strategies", "full_finetune")
    answer = ask(capsys, str(EXAMPLES / "strategy_vision.toml"), *only)
    lines = {line["strategy"]: line for line in answer["lines"]}
    full, probe = lines["full_finetune"], lines["linear_probe"]
    assert full["traced"]["parameters"] == pytest.approx(86e6, rel=0.01)
    assert probe["traced"]["trainable_parameters"] == 768 * 102 + 102
    # The forward pass alone: a third of the work, and the memory of a small card.
    assert probe["traced"]["flops_per_sample"] == pytest.approx(
        full["traced"]["flops_per_sample"] / 3, rel=0.05
    )
    assert probe["usd"]["mid"] < full["usd"]["mid"]
    assert {line["machine"]["purchase_option"] for line in (full, probe)} == {"on_demand"}
    assert full["p_within"] > 0.9
    assert full["quality_value"]["mid"] == pytest.approx(0.93, abs=0.01)


def test_the_vision_pilots_are_recorded_and_ranked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two real runs on digits: the whole network is ahead of a head on random features."""
    code = "import sys, warnings; warnings.simplefilter('ignore'); sys.path.insert(0, sys.argv[1]); import strategy_vision as e; e.main(1, 'runs')"
    run_python("-c", code, EXAMPLES, cwd=tmp_path, check=True)
    curves = sorted(str(path) for path in tmp_path.glob("runs/*/trainfare-curve.json"))
    assert len(curves) == 2
    report = ask(capsys, "--pilot", *curves, "--metric", "val_accuracy")
    assert report["higher_is_better"]
    assert [line["strategy"] for line in report["lines"]] == ["full_finetune", "linear_probe"]
    assert report["lines"][0]["final"]["mid"] > report["lines"][1]["final"]["mid"]


def test_the_language_example_gives_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """GPT-2 by LoRA of rank 16 on its 48 linear layers: less than the work of full fine-tuning, few trained weights."""
    pytest.importorskip("peft")
    answer = ask(capsys, str(EXAMPLES / "strategy_language.toml"), "--strategies", "lora")
    lines = {line["strategy"]: line for line in answer["lines"]}
    traced = lines["lora"]["traced"]
    adapters = 12 * 16 * (768 + 2304 + 768 + 768 + 768 + 3072 + 3072 + 768)
    assert traced["trainable_parameters"] == adapters
    assert traced["parameters"] == 124_439_808 + adapters
    products = 12 * 12 * 768 * 768 + 50257 * 768
    # 4 P and 6 P_t a token by the usual formulas; attention comes on top.
    by_the_books = 512 * (4 * products + 6 * adapters)
    assert by_the_books < traced["flops_per_sample"] < 1.2 * by_the_books
    assert traced["optimizer_state_bytes"] == pytest.approx(8 * adapters, rel=0.02)
    assert lines["lora"]["usd"]["mid"] > 0
    assert lines["linear_probe"]["impossible_because"]
