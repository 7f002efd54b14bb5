"""The misses on other vendors' software: of rows that no fit read, by the coefficients that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainfare_core.prediction.vendor_errors import VendorError, load_vendor_errors
from trainfare_research.data import TABLES
from trainfare_research.fitting.launched_rows import read_launched_rows
from trainfare_research.runners.vendor_errors import (
    LATER_TABLE,
    Miss,
    list_later,
    read_misses,
    score_left_out,
)
from trainfare_research.workloads.cache import ProfileCache


def test_the_table_has_what_the_command_writes_of_the_later_rows(tmp_path: Path) -> None:
    """Of ResNet-50 on MI325X, the quickest to trace; rows of NVIDIA's are left out."""
    rows = read_launched_rows(TABLES / LATER_TABLE)
    chosen = [row for row in rows if "resnet50" in row["model"] or row["source"] == "megatron-golden"]
    (line,) = list_later(read_misses(chosen, ProfileCache(tmp_path)))
    found = VendorError.model_validate(line, strict=False)
    (shipped,) = (error for error in load_vendor_errors() if "resnet50" in error.model)
    assert found.model_dump(exclude={"bias"}) == shipped.model_dump(exclude={"bias"})
    assert found.bias == pytest.approx(shipped.bias, abs=0.002)


def test_a_model_is_scored_without_its_own_misses() -> None:
    """The other model missed by nothing: of rows twice as slow none is inside, and one as predicted is."""
    other, own = (
        VendorError(
            vendor="amd", source="s", model=f"{model}: transformers in 16 bits", language_model=False,
            accelerators="MI300X", rows=3, bias=bias, scatter=0.05, fitted=False,
        )
        for model, bias in (("other", 0.0), ("own", 0.7))
    )  # fmt: skip
    misses = [Miss("MI300X", "own", error, 0.1) for error in (0.7, 0.69, 0.0)]
    assert score_left_out([other, own], {("s", own.model): misses}) == (1, 3)
