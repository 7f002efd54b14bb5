"""The built wheel: three typed packages with their data, which work without the source tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGES = {"trainfare", "trainfare_core", "trainfare_providers"}

pytestmark = pytest.mark.sources


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=TOP, check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def test_top_level_names_are_the_three_packages(wheel: Path) -> None:
    """The wheel holds three packages and its metadata, and no bare `core` or `plugin`."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_each_package_is_typed_and_has_its_data(wheel: Path) -> None:
    """py.typed, the accelerator table, the calibration, the price snapshot and the page template are inside."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "trainfare_core/data/accelerators.csv" in names
    assert "trainfare_core/data/calibration.json" in names
    assert "trainfare_core/data/run_cost_facts.csv" in names
    assert "trainfare_core/data/run_cost_fact_sources.csv" in names
    assert any(
        name.startswith("trainfare_providers/snapshot/") and name.endswith(".parquet") for name in names
    )
    assert any(name.endswith((".html.j2", ".html")) for name in names)


def test_wheel_works_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    """With only the unpacked wheel and its dependencies on the path, `offers` lists the snapshot."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "unpacked")
    # -S keeps the editable install's path file from being read; the dependencies are added by hand.
    installed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    script = (
        f"import sys; sys.path[:0] = [{str(tmp_path / 'unpacked')!r}]; sys.path += {installed!r};"
        "import trainfare, trainfare_core; from trainfare.cli import main; print(trainfare.__file__, file=sys.stderr);"
        "main(['offers', '--provider', 'gcp', '--limit', '2', '--format', 'json'])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "unpacked") in done.stderr
    assert '"gcp"' in done.stdout
