"""The one-way doors of the house: a planted violation of each import-linter contract is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
ROOMS = ("core", "providers", "plugin")
"""Source roots; `benchmarks` is a package at the top."""

pytestmark = pytest.mark.sources

VIOLATIONS = {
    "rooms": ("core/trainfare_core/errors.py", "import trainfare_providers"),
    "rooms, from the providers": ("providers/trainfare_providers/__init__.py", "import trainfare.cli"),
    "stages": ("core/trainfare_core/job_profile.py", "import trainfare_core.ranking.rank"),
    "stages, inside one step": ("core/trainfare_core/prediction/table.py", "import trainfare_core.run_cost"),
    "decline alone": ("core/trainfare_core/decline/rates.py", "import trainfare_core.errors"),
    "clouds": ("providers/trainfare_providers/aws/quotas.py", "import trainfare_providers.gcp"),
    "prediction": (
        "core/trainfare_core/prediction/network/collectives.py",
        "import trainfare_core.prediction.roofline.features",
    ),
    "plugin": ("plugin/trainfare/trace/step_facts.py", "import trainfare.meter.run_plan"),
    "plugin, report": ("plugin/trainfare/report/escape.py", "import trainfare.cli.offers"),
    "plugin, beside": ("plugin/trainfare/prices/lock.py", "import trainfare.prelaunch.job_trace"),
    "benchmarks": ("benchmarks/workloads/cache.py", "import benchmarks.fitting.links"),
    "rooms, benchmarks": ("plugin/trainfare/recommendation.py", "import benchmarks.scoring"),
    "core-pure": ("core/trainfare_core/hardware/accelerators.py", "import torch"),
    "core-pure, clock": ("core/trainfare_core/prices/book.py", "import time"),
    "core-pure, network": ("core/trainfare_core/run_cost.py", "import socket"),
    "providers-light": ("providers/trainfare_providers/__init__.py", "import pytorch_lightning"),
    "cli-light": ("plugin/trainfare/cli/offers.py", "import torch"),
    "cli-light, report": ("plugin/trainfare/report/escape.py", "import lightning"),
}


def copy_of_the_house(folder: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(TOP / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TOP / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "pyproject.toml", folder)
    return folder


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    script = "import sys; sys.path[:0] = sys.argv[1:]; from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    paths = [str(house), *(str(house / room) for room in ROOMS)]
    return subprocess.run(
        [sys.executable, "-c", script, *paths],
        cwd=house,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_house_keeps_its_doors(tmp_path: Path) -> None:
    """The house as it stands breaks no contract."""
    result = lint_imports(copy_of_the_house(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("door", VIOLATIONS)
def test_planted_violation_is_found(door: str, tmp_path: Path) -> None:
    """An import through a closed door fails the check."""
    house = copy_of_the_house(tmp_path)
    where, line = VIOLATIONS[door]
    target = house / where
    assert target.is_file(), "a violation must be planted in a real file"
    with target.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    result = lint_imports(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout
