"""`research/trainfare_research/runners/strategy.py` and `research/trainfare_research/fitting/strategy.py`: what they score, and the bars they must pass."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainfare_core.methods.choice import WIDENING, comparisons
from trainfare_research.data import TABLES

pytestmark = pytest.mark.sources

TOP = Path(__file__).parents[3]
PUBLISHED = TABLES / "strategy" / "transfer_results.parquet"
CURVES = PUBLISHED.with_name("learning_curves.parquet")
FIELDS = (
    "row_id", "comparison_id", "domain", "dataset", "train_size", "train_unit", "model", "params_m",
    "pretrain_source", "method", "method_detail", "metric", "direction", "value", "value_sd", "n_seeds",
    "steps", "epochs", "compute", "source_id", "source",
)  # fmt: skip


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"trainfare_research.{script}", *map(str, arguments)],
        cwd=TOP, check=False, capture_output=True, text=True,
    )  # fmt: skip


def score(truth: Path, out: Path) -> dict[str, Any]:
    """Score by the easier protocol, which takes seconds."""
    easier = ("--leave-out", "source", "--rules", "shipped")
    done = run("runners.strategy", "--truth", truth, "--json", out, *easier)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


def make_published_rows() -> list[dict[str, object]]:
    """The shipped table as rows of runs, with values that have its advantages."""
    rows = []
    for index, comparison in enumerate(comparisons()):
        for strategy, advantage_pct in comparison.advantage_pct.items():
            ratio = comparison.scratch_step_ratio
            epochs = comparison.scratch_epochs if strategy == "scratch" else ""
            if strategy == "full_finetune" and comparison.scratch_epochs and ratio:
                epochs = comparison.scratch_epochs / ratio
            rows.append(
                {
                    "comparison_id": index, "domain": comparison.domain, "dataset": comparison.dataset, "model": comparison.model,
                    "train_size": comparison.samples or "", "metric": comparison.metric, "direction": "max",
                    "method": strategy, "value": 50 * math.exp(advantage_pct / 100), "epochs": epochs,
                    "source_id": comparison.source, "source": comparison.published_in,
                }
            )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    where = tmp_path_factory.mktemp("strategy")
    return score(write(where / "truth.csv", make_published_rows()), where / "out.json")


def test_the_bars_of_the_specification_hold(scored: dict[str, Any]) -> None:
    """Section 6: each comparison answered with its source left out of everything that was fitted."""
    assert scored["n"] == len(comparisons())
    assert scored["winner"] >= 0.80
    assert scored["within_1pct"] >= 0.88
    assert scored["mean_regret"] <= 0.008
    assert scored["answered"] >= 0.80 * scored["n"]
    assert scored["of_answered"]["winner"] >= 0.90
    assert 0.75 <= scored["coverage"]["80"] <= 0.85


def test_it_beats_the_baselines_on_sources_it_has_not_seen(scored: dict[str, Any]) -> None:
    """Better than LoRA-when-offered and the fixed rules, in winners and in regret."""
    for name in ("always_full_finetune", "lora_when_offered", "rule_r", "prior"):
        rival = scored["baselines"][name]
        assert scored["winner"] > rival["winner"], name
        assert scored["mean_regret"] < rival["mean_regret"], name
        assert scored["macro_regret"] < rival["macro_regret"], name


def test_every_group_adds_up(scored: dict[str, Any]) -> None:
    """Domains and sources partition the cases; each domain has its baselines."""
    for group in ("by_domain", "by_source"):
        assert sum(one["n"] for one in scored[group].values()) == scored["n"]
        assert sum(one["answered"] for one in scored[group].values()) == scored["answered"]
    assert all(set(one["baselines"]) == set(scored["baselines"]) for one in scored["by_domain"].values())


def test_other_published_rows_can_be_put_to_it(tmp_path: Path) -> None:
    """A new source, a loss, a tie, a lone strategy, another method and an empty value."""
    base: dict[str, object] = {
        "domain": "llm-ift", "dataset": "D", "train_size": "2000", "model": "M", "metric": "val_loss",
        "direction": "min", "source_id": "new-source", "source": "somewhere",
    }  # fmt: skip
    values = [
        ("a", "lora", 0.9), ("a", "lora", 0.8), ("a", "full_finetune", 1.0), ("a", "qlora", 0.8),
        ("b", "lora", 0.9), ("c", "peft_other", 0.5), ("d", "lora", ""), ("", "lora", 1.0),
        ("e", "full_finetune", 0.0), ("e", "scratch", 0.0),
    ]  # fmt: skip
    truth = write(
        tmp_path / "truth.csv",
        [{**base, "comparison_id": case, "method": method, "value": value} for case, method, value in values],
    )
    out = score(truth, tmp_path / "out.json")
    assert out["n"] == 2
    assert out["winner"] == 1.0
    assert out["skipped"] == {
        "only one strategy in its comparison": 1, "method peft_other": 1, "no value": 1, "no comparison_id": 1
    }  # fmt: skip
    assert "new-source" not in out["fitted_on"]


def test_a_file_without_comparisons_is_said(tmp_path: Path) -> None:
    """Not a table of zeros."""
    done = run("runners.strategy", "--truth", write(tmp_path / "truth.csv", []))
    assert done.returncode == 1
    assert "no comparison of two strategies" in done.stderr


def test_the_shipped_table_and_constants_are_what_the_rows_give() -> None:
    """Written by the fit, and not edited since."""
    done = run("fitting.strategy", PUBLISHED, "--check")
    assert done.returncode == 0, done.stderr
    assert f"WIDENING {WIDENING:.2f}, " in done.stdout


def test_the_runner_scores_learning_curves(tmp_path: Path) -> None:
    """Runs of one family, each answered from the others: the order holds and the intervals cover."""
    rows = ["run,step,train_loss_window250"]
    random = np.random.default_rng(3)
    for run in range(20):
        floor, scale = 0.3 + 0.05 * run, 0.5 + 0.1 * random.random()
        rows += [f"r{run},{step},{floor + scale * step**-0.5:.5f}" for step in range(50, 1001, 50)]
    truth, out = tmp_path / "curves.csv", tmp_path / "out.json"
    truth.write_text("\n".join(rows) + "\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "trainfare_research.runners.strategy",
        "--truth",
        str(truth),
        "--json",
        str(out),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=TOP)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["n"] == 20
    for seen in ("20", "30", "50", "70"):
        one = found["by_seen"][seen]
        assert one["pairs_in_order"] > 0.95
        assert one["mae_usual_drop"] < one["mae_last_value"]
        assert 0.5 <= one["coverage"]["80"] <= 1.0


def test_the_shipped_drops_are_what_the_curves_give() -> None:
    """Written by the fit, and not edited since."""
    command = [sys.executable, "-m", "trainfare_research.fitting.strategy_curves", str(CURVES), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=TOP)
    assert done.returncode == 0, done.stderr
