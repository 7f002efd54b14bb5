"""A copy of the user's folders has the same paths; what is too much to copy is read where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.sandboxes import list_contents
from trainfare.sandbox.copies import CopiedTree


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a project, an environment and data beside it."""
    home = tmp_path / "home"
    for name in (
        "project/src/deep",
        "project/.venv/lib",
        "project/.git",
        "data",
        "project/many",
        ".config/tool",
        ".cache/hub",
    ):
        (home / name).mkdir(parents=True)
    for name in (
        "project/train.py",
        "project/src/deep/model.py",
        "project/.venv/pyvenv.cfg",
        "data/train.bin",
        ".config/tool/settings",
    ):
        (home / name).write_text(name)
    for number in range(5_001):
        (home / "project" / "many" / str(number)).touch()
    (home / "project" / "link").symlink_to("train.py")
    os.mkfifo(home / "project" / "pipe")
    return home


@pytest.fixture
def tree(home: Path, tmp_path: Path) -> CopiedTree:
    tree = CopiedTree(tmp_path / "copy")
    tree.add_small(home, [home / ".cache"])
    tree.add(home / "project")
    return tree


def test_paths_lead_to_the_same_files(tree: CopiedTree, home: Path) -> None:
    """Files of the project are copies; the environment, the repository, much data and caches are the user's own."""
    project = tree.path_of(home / "project")
    assert project == tree.top / (home / "project").relative_to("/")
    assert (project / "src/deep/model.py").read_text() == "project/src/deep/model.py"
    assert (project / "link").resolve() == project / "train.py"
    assert (project / "../data/train.bin").read_text() == "data/train.bin"
    own = {name: (project / name).resolve() for name in (".venv", ".git", "many")}
    assert own == {name: home / "project" / name for name in own}
    assert (tree.path_of(home) / ".cache").resolve() == home / ".cache"
    assert tree.path_of(Path("/usr/bin")) == Path("/usr/bin")
    assert home / "project" / "many" in tree.linked
    assert not (project / "pipe").exists()
    assert tree.list_written() == []


def test_what_was_written_is_listed_and_the_originals_are_as_they_were(tree: CopiedTree, home: Path) -> None:
    """New, changed and removed, by the paths of the user."""
    before = list_contents(home)
    project = tree.path_of(home / "project")
    (project / "train.py").write_text("changed")
    (project / "src/deep/model.py").unlink()
    (project / "new/in").mkdir(parents=True)
    (project / "new/in/file").write_text("12345")
    (project / "src/extra").touch()
    (tree.path_of(home) / ".netrc").write_text("1")
    written = {
        str(Path(item.path).relative_to(home)): (item.bytes, item.is_new) for item in tree.list_written()
    }
    assert written == {
        ".netrc": (1, True), "project/new": (5, True), "project/src/deep/model.py": (0, False), "project/src/extra": (0, True),
        "project/train.py": (7, False),
    }  # fmt: skip
    assert list_contents(home) == before


@pytest.mark.parametrize("below", ["a/b/c/d/e/project", ".cache/hub/project"])
def test_a_folder_below_what_is_linked_is_a_copy_all_the_same(below: str, home: Path, tmp_path: Path) -> None:
    """A deep folder, or one in a cache: those above it are links to the user's own until it is copied."""
    project = home / below
    project.mkdir(parents=True)
    (project / "best.pt").write_text("precious")
    before = list_contents(home)
    tree = CopiedTree(tmp_path / "copy")
    tree.add_small(home, [home / ".cache"])
    tree.add(project)
    (tree.path_of(project) / "best.pt").write_text("changed")
    assert list_contents(home) == before
    assert (tree.path_of(project) / "../../hub").exists() == (home / below / "../../hub").exists()


def test_a_folder_above_the_home_comes_first(home: Path, tmp_path: Path) -> None:
    """As in a container whose working folder is less deep than HOME."""
    tree = CopiedTree(tmp_path / "copy")
    tree.add(home)
    tree.add_small(home / "project")
    assert (tree.path_of(home / "project") / "train.py").read_text() == "project/train.py"
    assert (tree.path_of(home) / "data/train.bin").exists()
