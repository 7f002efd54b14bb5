"""The fit of language models: it finds what made the rows, predicts no row that it saw, and its widths hold what they say."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

from builders.profiles import gpt_profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_core.prediction.language_models.step import decoder_times
from trainfare_core.prediction.language_models.sums import DEEPSPEED_SUFFIX, LIBRARY_PRECISION
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.fitting.language_model_sums import (
    KINDS,
    PARAMETERS,
    Rows,
    coefficients,
    empty_fit,
    solve,
    stack_of,
)
from trainfare_research.fitting.language_models import (
    GROUPS,
    LARGEST_SOURCE,
    LEVELS,
    coverage,
    folds,
    measure_held_out,
    repeats_of,
    repeats_once,
)
from trainfare_research.fitting.language_models_held_out import decoder_answers
from trainfare_research.fitting.one_plan import Answer
from trainfare_research.pages.language_models import document
from trainfare_research.runners.language_model_terms import TERMS, scores_without
from trainfare_research.truth_table import STEP_TABLES
from trainfare_research.workloads.language.decoder_plans import Plan
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import DecoderRun

BENCH = """device,bench,dtype,m,n,k,achieved_tflops
A100-SXM4-80GB,matmul_best_shape(MAMF),bf16,1024,10240,5120,271.2
H100-SXM5-80GB,matmul_best_shape(MAMF),bf16,2048,2048,13312,794.5
"""
DEEPSPEED = 1.3
SLOPE = 0.2


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "microbench_achieved.csv").write_text(BENCH, encoding="utf-8")
    for name in STEP_TABLES:
        (tmp_path / name).write_text("", encoding="utf-8")
    return tmp_path


def _rows(fit: DecoderFit, copies: int = 1) -> Rows:
    """Return rows that `decoder_times` made with the coefficients above: five sources, two chips, three sizes."""
    decoder_fit = fit.model_copy(update={"deepspeed_factor": DEEPSPEED, "framework_slope": SLOPE})
    runs: list[DecoderRun] = []
    lines: list[dict[str, str]] = []
    for source, framework in (
        ("a", "pytorch/one"),
        ("b", "nemo"),
        ("c", "pytorch/two"),
        ("d", "maxtext/jax"),
        ("e", "megatron-deepspeed"),
    ):
        for name in ("A100-SXM-80GB", "H100-SXM-80GB"):
            for width, micro in ((1024, 8.0), (2048, 4.0), (4096, 2.0)):
                job = gpt_profile(layers=24, width=width, heads=16)
                if source in "bd":
                    job = job.model_copy(update={"precision": LIBRARY_PRECISION})
                if source == "e":
                    job = job.model_copy(update={"precision": job.precision + DEEPSPEED_SUFFIX})
                plan = Plan(devices=8, machines=1, gbit_per_s=0.0, sharded=True)
                parameters = 24 * 12 * width**2
                runs.append(
                    DecoderRun(
                        accelerator(name),
                        job,
                        plan,
                        micro,
                        1,
                        1.0,
                        1.0,
                        parameters,
                        experts=False,
                        assumed=(),
                    )
                )
                lines.append({"source": source, "framework": framework, "precision": "bf16"})
    rows = Rows.of(runs * copies, lines * copies, fit, calibration())
    return replace(
        rows, log_measured=np.log(decoder_times(rows.ledger, rows.devices, rows.spread, decoder_fit).step_s)
    )


def test_the_fit_finds_what_made_the_rows(data: Path) -> None:
    fit = empty_fit(data, "2026-01-31")
    rows = _rows(fit)
    decoder_fit = coefficients(solve(rows, fit).theta, fit)
    assert decoder_fit.framework_slope == pytest.approx(SLOPE, abs=0.05)
    assert decoder_fit.deepspeed_factor == pytest.approx(DEEPSPEED, rel=0.05)
    times = decoder_times(rows.ledger, rows.devices, rows.spread, decoder_fit)
    assert np.abs(np.log(times.step_s) - rows.log_measured).max() < 0.1
    assert decoder_fit.matmul_ceiling["bf16"]["H100-SXM-80GB"] == pytest.approx(794.5 / 989.4, abs=1e-3)


def test_a_term_that_made_rows_is_missed_where_it_is_left_out(data: Path) -> None:
    fit = empty_fit(data, "2026-01-31")
    terms = {name: TERMS[name] for name in ("PyTorch on faster chips", "products of integers")}
    whole, slope, integers = scores_without(_rows(fit), fit, terms)
    assert [line["term left out"] for line in (whole, slope, integers)] == ["(none)", *terms]
    assert float(slope["source_all_mape_pct"]) > float(whole["source_all_mape_pct"]) + 2
    assert integers["source_all_mape_pct"] == whole["source_all_mape_pct"], "no row has any"
    assert whole["source_experts_mape_pct"] == "", "no row has experts"


def test_a_term_is_held_where_it_changes_nothing(data: Path) -> None:
    """Shares and factors are 1, costs and slopes 0: what the roofline of the same coefficients has."""
    base = empty_fit(data, "2026-01-31")
    values_by_key = {name: value for term in TERMS.values() for name, value in term.items()}
    theta = np.array([values_by_key.get(name, mean) for name, (mean, _, _) in PARAMETERS.items()])
    fit = coefficients(theta, base)
    assert set(fit.kind_factor.values()) == {1.0}
    for name in values_by_key.keys() - set(KINDS):
        neutral = 0.0 if name in ("shard_unit_s", "data_exposed") or name.endswith("_slope") else 1.0
        assert getattr(fit, name) == pytest.approx(neutral, abs=1e-6), name


def test_a_combination_that_a_source_repeats_counts_once(data: Path) -> None:
    """Its stages and blocks make many rows of few timings; rows on several machines and of others all count."""
    rows = _rows(empty_fit(data, "2026-01-31"), copies=2)
    mine = np.array([line["source"] == "a" for line in rows.lines])
    lines = [{**line, "source": LARGEST_SOURCE} if line["source"] == "a" else line for line in rows.lines]
    far = np.arange(len(mine)) == int(np.flatnonzero(mine)[0])
    machines = np.where(far, 2.0, rows.spread.machines)
    rows = replace(rows, lines=lines, spread=replace(rows.spread, machines=machines))
    values = repeats_of(rows)
    assert set(values[mine & ~far].tolist()) == {0, 1, 2}, "three widths, each with one micro-batch"
    assert (values[far | ~mine] == -1).all()
    errors = np.where(mine, 1.0 + np.arange(len(mine)), 0.0)
    errors[~mine] = np.nan
    errors[far] = -5.0
    once = repeats_once(rows, errors)
    expected = [float(np.median(errors[values == number])) for number in range(3)]
    assert once.tolist() == [-5.0, *expected]


def test_a_row_left_out_is_not_seen(data: Path) -> None:
    """What a source measured shifts its own errors by as much, so none of it went into its prediction."""
    fit = empty_fit(data, "2026-01-31")
    rows = _rows(fit)
    start = solve(rows, fit).theta
    mine = np.array([line["source"] == "a" for line in rows.lines])
    slow = replace(rows, log_measured=rows.log_measured + np.where(mine, 1.0, 0.0))
    before, after = (measure_held_out(rows, "source", fit, start) for rows in (rows, slow))
    assert before.errors[mine] - after.errors[mine] == pytest.approx(np.ones(mine.sum()), abs=1e-9)
    assert np.isfinite(before.with_stack).sum() == 0, "no trainer ran for two sources"


def test_folds_share_nothing_that_is_left_out(data: Path) -> None:
    rows = _rows(empty_fit(data, "2026-01-31"))
    predicted = np.zeros(len(rows.runs), dtype=int)
    for inside, seen in folds(rows, "device and source"):
        predicted += inside
        for of in GROUPS["device and source"]:
            names = np.array([of(run, line) for run, line in zip(rows.runs, rows.lines, strict=True)])
            assert not set(names[inside]) & set(names[seen])
    assert (predicted == 1).all()
    assert not list(folds(rows, "vendor")), "there is one vendor: nothing would be left to fit"


def test_widths_hold_as_many_rows_as_they_say(data: Path) -> None:
    rows = _rows(empty_fit(data, "2026-01-31"), copies=30)
    noise = np.random.default_rng(1).normal(0.0, 0.2, len(rows.runs))
    values_by_key = coverage(rows, dict.fromkeys(GROUPS, noise), "source")
    for level in LEVELS:
        # Five sources are few, so the widths of programs, each source the same, lean to the safe side.
        assert level / 100 - 0.05 <= values_by_key[str(level)] <= level / 100 + 0.1
        assert values_by_key[f"{level} dense"] == pytest.approx(level / 100, abs=0.08)
        assert all(
            values_by_key[f"{level} {label}"] >= level / 100 - 0.08 for label in ("pytorch", "framework")
        )
        assert f"{level} moe" not in values_by_key, "no row has experts"


def test_the_trainer_is_read_from_the_framework() -> None:
    names = (
        "nemo/megatron",
        "nemo megatron-bridge",
        "pytorch/torchtitan+compile",
        "megatron(-deepspeed)",
        "pytorch Eager [-]",
    )
    assert [stack_of({"framework": name}) for name in names] == [
        "nemo",
        "nemo",
        "torchtitan",
        "megatron",
        "eager",
    ]


STEP = {
    "source": "x", "model": "llama-1b-like", "model_family": "llama", "task": "pretrain", "params": "", "batch_per_device": "1",
    "global_batch": "64", "sequence_length": "256", "precision": "bf16", "accelerator": "H100-SXM5-80GB", "devices": "8",
    "nodes": "1", "strategy": "fsdp8", "activation_checkpointing": "none", "optimizer": "", "throughput": "80000",
    "throughput_unit": "tokens/s", "step_time_ms": "", "step_time_origin": "", "mfu": "", "model_tflops_per_device": "",
    "framework": "pytorch/torchtitan", "measured": "", "notes": "hidden=512;layers=4;heads=8", "source_ref": "",
}  # fmt: skip


def _write(path: Path, lines: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(STEP))
        writer.writeheader()
        writer.writerows(lines)


def test_a_row_left_out_is_predicted_from_every_table(data: Path, tmp_path: Path) -> None:
    """The rows of one table are all of one device: what is left to fit is in the other, and is seen."""
    mine = [{**STEP, "batch_per_device": str(batch)} for batch in (1, 2, 4)]
    values = []
    for tokens in ("80000", "20000"):
        others = [
            {**STEP, "accelerator": "A100-SXM4-80GB", "source": f"y{i}", "throughput": tokens}
            for i in range(8)
        ]
        _write(data / STEP_TABLES[0], mine)
        _write(data / STEP_TABLES[1], others)
        answer = decoder_answers(mine, DecoderTraces(tmp_path / "traces"), "device", data)[0]
        assert isinstance(answer, Answer)
        values.append(answer.predicted_s)
    assert values[1] > 1.2 * values[0], "four times as slow in the other table"


def test_the_page_has_every_table(data: Path, tmp_path: Path) -> None:
    lines = [
        {**STEP, "source": source, "accelerator": name, "batch_per_device": str(batch)}
        for source in ("x", "y") for name in ("A100-SXM4-80GB", "H100-SXM5-80GB") for batch in (1, 2, 4)
    ]  # fmt: skip
    _write(data / STEP_TABLES[0], [*lines, {**STEP, "accelerator": "NoSuch-1GB"}])
    page = document(data, tmp_path / "traces")
    assert "12 measured steps" in page
    assert "| H100 | x | torchtitan | bf16 | dense | 3 |" in page
    assert "NoSuch-1GB is not in the catalogue | 1 |" in page
    assert "12 of 13 rows" in page
    assert "## Intervals" in page
