"""docs/packages.md: the picture of the packages is drawn from the imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sources


def test_picture_of_the_packages_is_current() -> None:
    command = [sys.executable, str(TOP / "scripts" / "draw_packages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_picture_has_every_package_on_a_level() -> None:
    """Each package and each module directly under a root is in the picture."""
    page = (TOP / "docs" / "packages.md").read_text(encoding="utf-8")
    picture = page.partition("<!-- packages:")[2].partition("<!-- end -->")[0]
    roots = ("core/trainfare_core", "providers/trainfare_providers", "plugin/trainfare", "benchmarks")
    for root in roots:
        _, _, rest = picture.partition(f"\n{root.rpartition('/')[2]}\n")
        lines = rest.partition("\n\n")[0].splitlines()
        drawn = {line[6:].split(" ")[0] for line in lines if line[6:7].strip()}
        modules = {path.stem for path in (TOP / root).glob("*.py")} - {"__init__"}
        packages = {path.parent.name for path in (TOP / root).glob("*/__init__.py")}
        assert modules | packages == drawn, root
