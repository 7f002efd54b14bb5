"""
A new interpreter that finds only some of the installed packages, through a folder of links to them.

    python -I -S -c "import sys; sys.path.append(OVERLAY); ..."     `run_there`
    FOLDER/bin/python ...                                           `lean_python`
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

OURS = ("trainfare", "trainfare_core", "trainfare_providers")
MARK = "SEEN "
HEAVY = ("scipy", "sklearn", "torchvision", "transformers")
"""Import names of what torchmetrics, and so Lightning, imports where it is there: two seconds of each interpreter."""


def overlay(folder: Path, hidden: tuple[str, ...]) -> Path:
    """
    Link our own packages, and every installed package but the hidden and the heavy ones with their metadata, into `folder`.

    Args:
        folder: an empty folder.
        hidden: import names, e.g. `pytorch_lightning`; their distributions are hidden under the same name.
    """
    left_out = {*hidden, *OURS, *HEAVY}
    for key in ("purelib", "platlib"):
        for path in Path(sysconfig.get_paths()[key]).iterdir():
            name = path.name.partition("-")[0] if path.name.endswith(".dist-info") else path.name
            link = folder / path.name
            if (name.replace("-", "_") in left_out and name != "trainfare") or path.suffix == ".pth":
                continue
            if not link.exists():
                link.symlink_to(path)
    for name in OURS:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        link = folder / name
        if not link.exists():
            link.symlink_to(Path(next(iter(spec.submodule_search_locations))).resolve())
    return folder


@functools.cache
def lean_python() -> str:
    """
    Return an interpreter that finds all installed packages but the heavy ones, beside a `trainfare` that it runs.

    For a test whose process trains or traces with Lightning, and imports nothing of what is left out.
    """
    folder = Path(tempfile.mkdtemp(prefix="trainfare-lean-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    python, script = folder / "bin" / "python", folder / "bin" / "trainfare"
    for path in (site, python.parent):
        path.mkdir(parents=True)
    overlay(site, ())
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # as `venv` does: a warm one may stand in its place
    python.symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n", encoding="utf-8")
    script.write_text(
        f"#!{python}\nfrom trainfare.__main__ import main\nraise SystemExit(main())\n", encoding="utf-8"
    )
    script.chmod(0o755)
    return str(python)


def run_there(site: Path, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script with the packages of `site` only, and return the JSON that it prints in one line after MARK."""
    start = f"import sys; sys.path.append({str(site)!r})\n"
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", start + script, *arguments]
    done = subprocess.run(command, cwd=site.parent, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[-1].removeprefix(MARK))
