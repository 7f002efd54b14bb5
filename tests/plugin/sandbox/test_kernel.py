"""What Landlock refuses, by its version, and what a filter of system calls adds to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.sandboxes import list_contents, only_linux, run_without
from trainfare.sandbox.kernel import landlock_version

pytestmark = only_linux

WRITES = """
import os, shutil, sys
from pathlib import Path
from trainfare.sandbox.kernel import allow_writes_in
mine, theirs, version = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
allow_writes_in([mine, mine / "absent", Path("/dev/null")], version or None)
tried = {
    "write": lambda folder: (folder / "file").write_text("changed"),
    "append": lambda folder: open(folder / "file", "a").close(),
    "truncate": lambda folder: os.truncate(folder / "file", 0),
    "new": lambda folder: (folder / "new").touch(),
    "mkdir": lambda folder: (folder / "made").mkdir(),
    "fifo": lambda folder: os.mkfifo(folder / "pipe"),
    "symlink": lambda folder: (folder / "link").symlink_to("file"),
    "rename": lambda folder: (folder / "other").rename(folder / "renamed"),
    "move in": lambda folder: os.rename(mine / "moved", folder / "moved"),
    "hardlink out": lambda folder: os.link(theirs / "file", folder / "linked"),
    "unlink": lambda folder: (folder / "last").unlink(),
    "rmdir": lambda folder: (folder / "empty").rmdir(),
}
open("/dev/null", "w").close()
for folder in (theirs, mine):
    allowed = []
    for name, work in tried.items():
        try:
            work(folder)
            allowed.append(name)
        except OSError:
            pass
    print(",".join(allowed))
"""


@pytest.mark.skipif(not landlock_version(), reason="this system has no Landlock")
@pytest.mark.parametrize("version", [1, 2, 3, 0])
def test_nothing_outside_is_changed(version: int, tmp_path: Path) -> None:
    """By any version: the first knows no right to truncate by name, which a filter then refuses."""
    if version > landlock_version():
        pytest.skip("an older Landlock")
    for name in ("mine", "theirs"):
        folder = tmp_path / name
        (folder / "empty").mkdir(parents=True)
        for file in ("file", "other", "last", "moved"):
            (folder / file).write_text("as it was")
    before = list_contents(tmp_path / "theirs")
    ended = run_without(WRITES, str(tmp_path / "mine"), str(tmp_path / "theirs"), str(version))
    assert ended.returncode == 0, ended.stderr
    outside, inside = ended.stdout.splitlines()
    assert outside == ""
    assert list_contents(tmp_path / "theirs") == before
    lacks = {"truncate"} if version in (1, 2) else set()
    usual = {
        "write",
        "append",
        "new",
        "mkdir",
        "fifo",
        "symlink",
        "rename",
        "move in",
        "unlink",
        "rmdir",
        "truncate",
    }
    assert set(inside.split(",")) == usual - lacks


def test_a_refused_call_fails(tmp_path: Path) -> None:
    code = "import os\ntry: os.unshare(0x20000)\nexcept AttributeError: import ctypes; print(ctypes.CDLL(None).unshare(0x20000))"
    done = run_without(code, refused=["unshare"])
    assert done.stdout == "-1\n", done.stderr
