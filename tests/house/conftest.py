"""The installed package is tested without the source tree, and so without what tests import of `scripts`."""

from __future__ import annotations

from pathlib import Path

collect_ignore = [] if (Path(__file__).resolve().parents[2] / "scripts").is_dir() else ["test_mutants.py"]
