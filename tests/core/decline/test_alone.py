"""The folder alone is a library: it imports in a process that has nothing but the standard library."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import trainfare_core.decline

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import decline
rate = decline.LogRate.from_points(2020, 4.6e6, 2022, 450e3)
fit = decline.fit_moore(decline.Series.of(range(2000, 2008), [2.0 ** -i for i in range(8)]))
foreign = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'decline', '__main__'}
print(f'{rate.decline:.3f}', len(decline.check_claims()), decline.outlook(100).verdict, sorted(foreign))
"""


def test_it_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    """Copied into an empty folder, without site-packages, it fits, checks the claims and answers."""
    home = Path(trainfare_core.decline.__file__).parent
    shutil.copytree(home, tmp_path / "decline", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=2)[:2] == ["0.687", str(len(trainfare_core.decline.check_claims()))]
    assert done.stdout.strip().endswith("cannot tell []")


def test_every_public_name_is_there() -> None:
    """`__all__` is sorted, complete and resolves."""
    names = trainfare_core.decline.__all__
    assert len(set(names)) == len(names)
    assert all(getattr(trainfare_core.decline, name) is not None for name in names)
