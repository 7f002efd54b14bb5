"""
Scripts of other projects: with FareMeter to their end, and before launch.

`make test-wild` installs the projects (dependency group `wild`) and prints the table; where one is absent it is skipped.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from wild.both_paths import of_script

pytestmark = pytest.mark.filterwarnings("ignore")  # of other projects

RANDOM = {"transformers_layerdrop", "transformers_vits"}
"""Scripts whose step draws what it does, so that two draws differ."""
SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))


def missing(script: Path) -> list[str]:
    """Return the packages that a script imports and that are not installed."""
    found = re.findall(r"^(?:from|import) (\w+)", script.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for name in dict.fromkeys(found) if find_spec(name) is None]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_before_launch_is_what_runs(script: Path, tmp_path: Path) -> None:
    """FLOPs of a step, number of steps and parameters are equal in both profiles; random work is inside the spread."""
    absent = missing(script)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    found = of_script(script, tmp_path)
    print(f"\n{found.row(script.stem)}")
    assert found.equal or (script.stem in RANDOM and found.inside)


def test_twenty_projects_are_there() -> None:
    """Of as many projects a script is kept."""
    names = {
        name
        for script in SCRIPTS
        for name in re.findall(r"^(?:from|import) (\w+)", script.read_text(), re.MULTILINE)
    }
    own = {
        "trainfare",
        "torch",
        "torchvision",
        "pytorch_lightning",
        "lightning",
        "numpy",
        "pandas",
        *sys.stdlib_module_names,
    }
    assert len(names - own) >= 20
