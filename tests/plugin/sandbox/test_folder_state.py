"""What a script that runs for real has written is what differs from the folder before."""

from __future__ import annotations

from pathlib import Path

from trainfare.sandbox import FolderState


def test_new_changed_and_removed_are_named(tmp_path: Path) -> None:
    """Of a new folder it alone; nothing of environments, repositories and bytecode."""
    for name in ("src/a.py", "best.pt", "gone.pt", "env/pyvenv.cfg", "env/lib/x", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as it was")
    state = FolderState(tmp_path)
    assert state.list_changed() == []
    (tmp_path / "best.pt").write_text("changed here")
    (tmp_path / "gone.pt").unlink()
    (tmp_path / "runs/0").mkdir(parents=True)
    (tmp_path / "runs/0/events").touch()
    (tmp_path / "src/new").touch()
    for name in ("env/lib/y", ".git/index", "src/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert state.list_changed() == ["best.pt", "gone.pt", "runs", "src/new"]
    (tmp_path / "best.pt").unlink()
    assert "best.pt" in state.list_changed()
