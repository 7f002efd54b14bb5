"""What the page of one device says of intervals: a source is held by the errors of the others."""

from __future__ import annotations

from benchmarks.pages.one_device import LEFT_OUT, bars, coverage


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
    found = {(timed, what): inside for timed, what, _, inside in coverage(lines)}
    assert found["a trainer's loop", "the source"] == [0.5, 0.5, 0.5]
    assert found["bare steps", "the source"] == [0.5, 0.5, 0.5]


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
    found = {what: (bar, score) for what, bar, score in bars(lines)}
    bar, score = found["AMP or bf16, PyTorch 2.x, unseen model, seen device"]
    assert bar == "13 mean, 9 median"
    assert score["n"] == 2
    assert score["worst_ape"] < 0.5
    assert found["AMP or bf16, PyTorch 2.x, unseen device and model"][1]["n"] == 2
