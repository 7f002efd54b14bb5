"""What the page of one device says of intervals: a source is held by the errors of the others."""

from __future__ import annotations

import numpy as np
import pytest

from trainfare_research.pages.one_device import LEFT_OUT, bars, coverage, siblings


def _line(timed: str, source: str, error: float) -> dict[str, str]:
    return {"source": source, "timed": timed, **{f"{name}_left_out": str(error) for name in LEFT_OUT}}


def test_a_source_is_held_by_the_errors_of_other_sources() -> None:
    """One of two sources is ten times as far off: its rows lie outside the other's errors, the other's inside of its."""
    lines = [
        _line(timed, source, size * (1 + i))
        for timed in ("trainer", "steps")
        for source, size in (("near", 0.01), ("far", -0.1))
        for i in range(10)
    ]
    texts_by_key = {(timed, what): inside for timed, what, _, inside in coverage(lines)}
    assert texts_by_key["a trainer's loop", "the source"] == [0.5, 0.5, 0.5]
    assert texts_by_key["bare steps", "the source"] == [0.5, 0.5, 0.5]


def test_the_bars_of_recent_software_are_of_its_rows_alone() -> None:
    """Mixed precision under PyTorch 2.x; neither an older release nor fp32."""
    common = {"model": "ResNet-50", "accelerator": "L4-24GB"}
    lines = [
        {**_line("steps", "a source", error), **common, "precision": precision, "framework": framework}
        for error, precision, framework in (
            (0.1, "bf16", "PyTorch 2.5.1+cu121"), (0.3, "amp_fp16", "pytorch 2.0 nightly"),
            (5.0, "amp_fp16", "pytorch 1.13.0"), (7.0, "fp32", "pytorch 2.1"),
        )
    ]  # fmt: skip
    fields = {what: (bar, score) for what, bar, score in bars(lines)}
    bar, score = fields["AMP or bf16, PyTorch 2.x, unseen model, seen device"]
    assert bar == "13 mean, 9 median"
    assert score["n"] == 2
    assert score["worst_ape"] < 0.5
    assert fields["AMP or bf16, PyTorch 2.x, unseen device and model"][1]["n"] == 2


def test_siblings_are_compared_on_the_same_run() -> None:
    """Devices of one die that ran the same, whatever the order of the rows; not other batches, and no other die."""
    common = {"model": "ResNet-50", "precision": "bf16", "framework": "PyTorch 2.5"}
    lines = [
        {**_line("steps", "a source", error), **common, "accelerator": name, "batch_per_device": batch}
        for name, batch, error in (
            ("A100-SXM4-80GB", "64", 0.3), ("A100-PCIe-40GB", "64", 0.1), ("A100-PCIe-40GB", "32", 5.0),
            ("L4-24GB", "64", 5.0), ("H200-NVL-141GB", "64", 0.2), ("H100-SXM5-80GB", "64", 0.0),
        )
    ]  # fmt: skip
    values_by_key = {name: score["bias"] for name, score in siblings(lines)}
    assert values_by_key == {
        "A100-PCIE-40GB over A100-SXM-80GB, a source": pytest.approx(np.expm1(-0.2)),
        "H100-SXM-80GB over H200-NVL-141GB, a source": pytest.approx(np.expm1(-0.2)),
    }
