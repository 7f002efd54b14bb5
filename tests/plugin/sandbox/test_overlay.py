"""What a process writes under an overlay is not seen by others, and gone when it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.sandboxes import list_contents, only_linux, run_without
from trainfare.sandbox import Overlay

pytestmark = only_linux

ON_FOLDERS = """
import os, sqlite3, sys
from pathlib import Path
from trainfare.sandbox import Overlay
os.chdir(sys.argv[1])
overlay = Overlay([Path.cwd(), Path(sys.argv[2])], [Path(sys.argv[3])])
sqlite3.connect("old/deep/data.db").execute("create table rows (number)")
Path("old/file").write_text("changed")
Path("old/gone").unlink()
Path("new/in").mkdir(parents=True)
Path("new/in/file").write_text("12345")
Path(sys.argv[2], "x").touch()
assert Path("old/file").read_text() == "changed"
print(*((item.name, item.bytes, item.is_new) for item in overlay.list_written()), sep="\\n")
"""
ON_ALL = """
import os, sys
from pathlib import Path
from trainfare.sandbox.overlay import SystemOverlay
here, home, kept, layer, spare = map(Path, sys.argv[1:])
os.chdir(here)
overlay = SystemOverlay([layer, spare], [layer, kept])
Path("old").write_text("changed")
Path("old").rename("renamed")
try:
    Path("folder").rename("moved")
    print("a folder can be renamed")
except OSError as error:
    print(error.strerror)
(home / "new").write_text("1")
(kept / "downloaded").write_text("1")
(layer / "scratch").write_text("1")
for name in ("/of-the-top", "/proc/of-the-system"):
    try:
        Path(name).write_text("1")
    except OSError as error:
        print(type(error).__name__)
Path("/dev/shm/trainfare-test").write_text("1")
print(sorted(item.path for item in overlay.list_written()))
"""
A_MOUNT_IN_IT = """
import os, sys
from pathlib import Path
from trainfare.sandbox.kernel import mount, separate_mounts
from trainfare.sandbox.overlay import SystemOverlay
here, layer = map(Path, sys.argv[1:])
separate_mounts()
mount(b"tmpfs", here / "disk", b"")
mount(b"tmpfs", here / "disk", b"") if len(sys.argv) > 3 else None
(here / "disk" / "data").write_text("1")
inside = os.open(here / "disk", os.O_RDONLY)
os.chdir(here)
SystemOverlay([layer], [])
print(Path("disk/data").read_text())
Path("disk/data").write_text("changed")
print(open(os.open("data", os.O_RDONLY, dir_fd=inside)).read())
"""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Folders with a file that is old."""
    folders = {name: tmp_path / name for name in ("a:b,c", "home", "kept", "layer", "spare")}
    for folder in folders.values():
        folder.mkdir()
    (folders["a:b,c"] / "old").write_text("as it was")
    (folders["a:b,c"] / "folder").mkdir()
    return folders


@pytest.mark.parametrize("rights", [True, False])
def test_an_overlay_keeps_every_change_from_the_folders(rights: bool, tmp_path: Path) -> None:
    """New, changed, removed and deep files, of Python and of compiled code; two folders."""
    folder, other, layer = tmp_path / "a:b,c", tmp_path / "other", tmp_path / "layer"
    for made in (folder / "old" / "deep", other, layer):
        made.mkdir(parents=True)
    for name in ("file", "gone"):
        (folder / "old" / name).write_text("as it was")
    before = list_contents(folder) | list_contents(other)
    ended = run_without(ON_FOLDERS, str(folder), str(other), str(layer), rights=rights)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "('new', 5, True)", "('old/deep/data.db', 8192, True)", "('old/file', 7, False)", "('old/gone', 0, False)",
        f"('{other}/x', 0, True)",
    ]  # fmt: skip
    assert list_contents(folder) | list_contents(other) == before


def test_a_folder_with_a_mount_in_it_gets_no_overlay_of_its_own(tmp_path: Path) -> None:
    """What is mounted there would not be seen."""
    with pytest.raises(OSError, match="has a mount in it"):
        Overlay([Path("/")], [tmp_path])


@pytest.mark.parametrize("rights", [True, False])
def test_every_folder_of_the_system_is_covered(rights: bool, places: dict[str, Path], tmp_path: Path) -> None:
    """Home, temporary files, and where nothing can be covered, nothing can be written; what is kept is written for real."""
    ended = run_without(ON_ALL, *map(str, places.values()), rights=rights)
    assert ended.returncode == 0, ended.stderr
    here, home = places["a:b,c"], places["home"]
    renamed, *refused, written = ended.stdout.splitlines()
    as_root = rights and not os.geteuid()
    assert renamed == ("a folder can be renamed" if as_root else "Invalid cross-device link")
    assert len(refused) == 2
    moved = [here / "folder", here / "moved"] if as_root else []
    assert written == str(sorted(map(str, (here / "old", here / "renamed", home / "new", *moved))))
    assert (here / "old").read_text() == "as it was"
    assert {path.name for path in here.iterdir()} == {"folder", "old"}
    assert [*home.iterdir()] == []
    assert (places["kept"] / "downloaded").exists()
    assert (places["layer"] / "scratch").exists()
    assert not Path("/dev/shm/trainfare-test").exists()


@pytest.mark.parametrize("rights", [True, False])
def test_what_is_mounted_in_a_folder_is_seen_and_covered(rights: bool, tmp_path: Path) -> None:
    """A data disk within the project, say: its file is read, and the change of it is not seen on the disk."""
    for name in ("here/disk", "layer"):
        (tmp_path / name).mkdir(parents=True)
    ended = run_without(A_MOUNT_IN_IT, str(tmp_path / "here"), str(tmp_path / "layer"), rights=rights)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["1", "1"]
