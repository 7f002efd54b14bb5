"""
A fresh interpreter that sees only some of the installed packages: folders of links stand in for site-packages.

    python -I -S -c "import sys; sys.path.append(OVERLAY); ..."
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

OURS = ("trainfare", "trainfare_core", "trainfare_providers")
MARK = "SEEN "


def overlay(folder: Path, hidden: tuple[str, ...]) -> Path:
    """
    Link every installed package into `folder`, but for the hidden ones and their metadata, and our own packages.

    Args:
        folder: an empty folder.
        hidden: import names, e.g. `pytorch_lightning`; their distributions are hidden under the same name.
    """
    out_of_sight = {*hidden, *OURS}
    for key in ("purelib", "platlib"):
        for path in Path(sysconfig.get_paths()[key]).iterdir():
            name = path.name.partition("-")[0] if path.name.endswith(".dist-info") else path.name
            link = folder / path.name
            if (name.replace("-", "_") in out_of_sight and name != "trainfare") or path.suffix == ".pth":
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


def run_there(site: Path, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script in an interpreter whose only packages are those of `site`; it prints one line of JSON after MARK."""
    start = f"import sys; sys.path.append({str(site)!r})\n"
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", start + script, *arguments]
    done = subprocess.run(command, cwd=site.parent, capture_output=True, text=True, timeout=200, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[-1].removeprefix(MARK))
