"""The folder needs the standard library, pydantic and the records of trainfare, and loads nothing else."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import trainfare_core.decline

SCRIPT = """
import sys
sys.path[:0] = sys.argv[1:]
from trainfare_core import decline
rate = decline.LogRate.from_points(2020, 4.6e6, 2022, 450e3)
fit = decline.fit_moore(decline.Series.of(range(2000, 2008), [2.0 ** -i for i in range(8)]))
print(f'{rate.decline:.3f}', len(decline.check_claims()), decline.outlook(100).verdict)
own = {*sys.stdlib_module_names, *(name for name in sys.modules if name.startswith("_sysconfigdata"))}
print(*sorted({name.split('.')[0] for name in sys.modules} - own))
print(*sorted(name for name in sys.modules if name.startswith('trainfare_core.')))
"""
OF_PYDANTIC = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
"""pydantic and what it needs."""


def test_it_runs_with_records_alone(tmp_path: Path) -> None:
    """In a package that has nothing but the records, it fits, checks the claims and answers."""
    home, package = Path(trainfare_core.decline.__file__).parents[1], tmp_path / "trainfare_core"
    shutil.copytree(home / "decline", package / "decline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "installation.py", "documents.py"):
        shutil.copy(home / name, package)
    libraries = {str(importlib.metadata.distribution(name).locate_file("")) for name in OF_PYDANTIC}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, str(tmp_path), *libraries],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, packages, modules = done.stdout.splitlines()
    assert said == f"0.687 {len(trainfare_core.decline.check_claims())} cannot tell"
    assert set(packages.split()) <= OF_PYDANTIC | {"__main__", "trainfare_core"}
    ours = {name for name in modules.split() if not name.startswith("trainfare_core.decline")}
    assert ours == {"trainfare_core.installation", "trainfare_core.documents"}


def test_every_public_name_is_there() -> None:
    """`__all__` is sorted, complete and resolves."""
    names = trainfare_core.decline.__all__
    assert len(set(names)) == len(names)
    assert all(getattr(trainfare_core.decline, name) is not None for name in names)
