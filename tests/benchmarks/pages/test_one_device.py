"""What the page of one device says of intervals: a source is held by the errors of the others."""

from __future__ import annotations

from benchmarks.pages.one_device import LEFT_OUT, coverage


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
