"""The installed package is tested without the source tree, and so without what tests import of `scripts`."""

from __future__ import annotations

import sys
from pathlib import Path

_HAS_SCRIPTS = (Path(__file__).resolve().parents[2] / "scripts").is_dir()
collect_ignore = [
    *([] if _HAS_SCRIPTS else ["test_hygiene.py", "test_pages.py"]),
    *(["test_mutants.py"] if sys.platform == "win32" else []),  # it forks
]
