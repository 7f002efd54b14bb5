"""The worked example of a third-party cloud: built, installed in a folder, and found by its entry point."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from builders.cli import CliResult, run_python

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "example_cloud"

pytestmark = pytest.mark.sources


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's wheel in it, as an installer leaves it: package and dist-info."""
    folder = tmp_path_factory.mktemp("example_cloud")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source)
    run_python("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source, check=True)
    site = folder / "site"
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(site)
    return site


def run(site: Path, *arguments: str) -> CliResult:
    """Run Python with the folder on its path."""
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    return run_python(*arguments, environment={"PYTHONPATH": path})


def test_its_offers_are_listed(installed: Path) -> None:
    """Installing it is all: `trainfare offers` knows the cloud, a whole-year price is divided by its hours."""
    done = run(installed, "-m", "trainfare", "offers", "--provider", "example", "--format", "json")
    assert done.exit_code == 0, done.stderr
    offers = {
        (o["instance_type"], o["purchase_option"]): o["usd_per_hour"]
        for o in json.loads(done.stdout)["offers"]
    }
    assert offers == {
        ("ex-h100-8", "on_demand"): 24.80,
        ("ex-h100-8", "spot"): 11.20,
        ("ex-h100-8", "reserved_1y"): 16.0,
        ("ex-l4-1", "on_demand"): 0.62,
    }


def test_its_rows_are_counted(installed: Path) -> None:
    """`prices status` says what became of every row, the machine without accelerator included."""
    done = run(installed, "-m", "trainfare", "prices", "status", "--format", "json")
    (ours,) = (s for s in json.loads(done.stdout)["services"] if s["provider"] == "example")
    assert (ours["rows_read"], ours["accepted"]) == (5, 4)
    assert ours["filtered"] == [{"reason": "machine without an accelerator", "rows": 1}]


def test_it_conforms(installed: Path) -> None:
    """The kit that CONTRIBUTING.md names, as its author would run it."""
    done = run(installed, "-m", "trainfare_providers.conformance", "example_cloud_prices:ExampleCloud")
    assert (done.exit_code, done.stdout) == (0, "conforms\n"), done.stderr


def test_without_it_the_cloud_is_unknown() -> None:
    """The test above would pass for the wrong reason if the example were installed already."""
    done = run(EXAMPLE.parent, "-m", "trainfare", "offers", "--provider", "example")
    assert done.exit_code == 2
