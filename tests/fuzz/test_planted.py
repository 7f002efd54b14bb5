"""A fault in a reader is found: planted in a copy of each, it is reported by the target within some inputs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.planted import MOST_INPUTS, plant_copy, plant_faults
from fuzz.targets import TARGETS

TOP = Path(__file__).parents[2]
ROOTS = ("core", "providers", "plugin")


def test_a_fault_is_planted_before_each_refusal() -> None:
    """At a `raise`, in an `except`, and where an `if` returns a reason."""
    source = "def read(x):\n    if x:\n        return None\n    try:\n        y = x[0]\n    except KeyError:\n        y = 1\n"
    text, planted = plant_faults(source + "    raise ValueError(y)\n", "a.py")
    assert planted == text.count("raise SystemExit('planted in a.py')") == 3
    compile(text, "a.py", "exec")


def count_inputs(folder: Path, *names: str) -> dict[str, int | None]:
    """Return after how many inputs the targets of a copy report a fault."""
    path = os.pathsep.join([*(str(folder / root) for root in ROOTS), str(TOP / "tests")])
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.planted", *names],
        cwd=TOP, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    inputs: dict[str, int | None] = json.loads(done.stdout)
    return inputs


def copy_sources(folder: Path) -> None:
    for root in ROOTS:
        shutil.copytree(TOP / root, folder / root, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.sources
def test_every_target_reports_a_fault_in_its_reader(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """From its seeds and their changes alone, without what earlier runs have learned."""
    copy_sources(tmp_path)
    assert sum(plant_copy(tmp_path).values()) > len(TARGETS)
    inputs = count_inputs(tmp_path)
    assert {name for name, target in TARGETS.items() if target.modules} == set(inputs)
    assert [name for name, number in inputs.items() if number is None] == []
    record_property("{} fuzz targets report a fault planted in their reader", len(inputs))
    record_property(
        f"at most {{}} inputs until then, {MOST_INPUTS} allowed",
        max(number or 0 for number in inputs.values()),
    )


@pytest.mark.sources
def test_a_writer_that_takes_no_odd_byte_is_reported(tmp_path: Path) -> None:
    """The target of file names has no reader of its own; a SARIF log must take any name."""
    copy_sources(tmp_path)
    path = tmp_path / "plugin" / "trainfare" / "report" / "policy" / "formats.py"
    source = path.read_text(encoding="utf-8")
    path.write_text(
        source.replace('_BYTES: Final = "surrogateescape"', '_BYTES: Final = "strict"'), encoding="utf-8"
    )
    assert path.read_text(encoding="utf-8") != source
    number = count_inputs(tmp_path, "file_name")["file_name"]
    assert number == 2, "the second seed has such a byte"
