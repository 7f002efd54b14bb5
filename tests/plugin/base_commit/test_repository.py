"""A commit by name, and its checkout beside the working tree, in real repositories."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from builders.git_repository import GitRepository
from trainfare.base_commit import Repository
from trainfare_core.errors import InputError


@pytest.fixture
def made(tmp_path: Path) -> GitRepository:
    """A repository of two commits that write 1 and 2 into a file."""
    repository = GitRepository.new(tmp_path / "project")
    for text in ("1", "2"):
        repository.put("folder/number.txt", text)
        repository.commit()
    return repository


def test_a_commit_is_checked_out_and_removed(made: GitRepository) -> None:
    """The folder has the commit's files while the block runs, and is gone after it."""
    repository = Repository.around(made.root / "folder")
    assert repository.root == made.root.resolve()
    commit = repository.commit("HEAD~1")
    with repository.check_out(commit) as folder:
        assert (folder / "folder" / "number.txt").read_text() == "1"
        assert len(made.worktrees()) == 2
        (folder / "left.txt").write_text("untracked")
    assert not folder.parent.exists()
    assert len(made.worktrees()) == 1
    assert (made.root / "folder" / "number.txt").read_text() == "2"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_removed_however_the_block_ends(made: GitRepository, error: type[BaseException]) -> None:
    """An exception, Ctrl-C and an exit remove it too, and the handling of SIGTERM is as before."""
    repository = Repository.around(made.root)
    paths: list[Path] = []

    def fail() -> None:
        with repository.check_out(repository.commit("HEAD")) as folder:
            paths.append(folder)
            raise error

    with pytest.raises(error):
        fail()
    assert not paths[0].parent.exists()
    assert len(made.worktrees()) == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_it_is_removed_where_the_code_removed_it_before(made: GitRepository) -> None:
    """A worktree that is gone already leaves no registration."""
    repository = Repository.around(made.root)
    with repository.check_out(repository.commit("HEAD")) as folder:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
    assert len(made.worktrees()) == 1


def test_no_hook_runs(made: GitRepository, tmp_path: Path) -> None:
    """A post-checkout hook, which may install or build, is not run for the worktree."""
    hook = made.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'ran'}'\n", encoding="utf-8")
    hook.chmod(0o755)
    repository = Repository.around(made.root)
    with repository.check_out(repository.commit("HEAD")):
        assert not (tmp_path / "ran").exists()


def test_inside_a_hook_the_index_stays(made: GitRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pre-commit hook git names its index in the environment; what is staged is still staged afterwards."""
    made.put("folder/number.txt", "3")
    made.git("add", "--all")
    with monkeypatch.context() as environment:
        environment.setenv("GIT_DIR", str(made.root / ".git"))
        environment.setenv("GIT_INDEX_FILE", str(made.root / ".git" / "index"))
        repository = Repository.around(made.root)
        with repository.check_out(repository.commit("HEAD~1")) as folder:
            assert (folder / "folder" / "number.txt").read_text() == "1"
    assert made.git("status", "--porcelain") == "M  folder/number.txt\n"


def test_names_of_commits(made: GitRepository) -> None:
    """A label is the name with the hash, or the hash alone where that was given."""
    repository, sha = Repository.around(made.root), made.git("rev-parse", "HEAD").strip()
    made.git("tag", "v1")
    assert [repository.commit(ref).label for ref in ("main", "v1", sha, sha[:8])] == [
        f"main ({sha[:10]})",
        f"v1 ({sha[:10]})",
        sha[:10],
        sha[:10],
    ]


@pytest.mark.parametrize("ref", ["nonesuch", "0" * 40, "--help", "-x", "HEAD^{tree}", ""])
def test_an_unknown_commit(made: GitRepository, ref: str) -> None:
    """A branch that is not here, a hash that is nobody's, and a name that looks like an option."""
    with pytest.raises(InputError, match="there is no such commit"):
        Repository.around(made.root).commit(ref)


def test_a_shallow_clone_says_how_to_deepen_it(made: GitRepository, tmp_path: Path) -> None:
    """actions/checkout fetches one commit: the error names the setting; the commit that is there is found."""
    made.git("clone", "--quiet", "--depth=1", f"file://{made.root}", str(tmp_path / "clone"))
    repository = Repository.around(tmp_path / "clone")
    with pytest.raises(InputError, match=r"shallow.*git fetch --depth=1.*fetch-depth: 0"):
        repository.commit("HEAD~1")
    assert repository.commit("HEAD").sha == made.git("rev-parse", "HEAD").strip()


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a repository there is nothing to compare with; a folder that is absent is named."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match=r"not in a git repository.*--base FILE"):
        Repository.around(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        Repository.around(tmp_path / "absent")


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git is told so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git, which is not installed"):
        Repository.around(tmp_path)


def test_ancestors(made: GitRepository) -> None:
    """A commit before this one is an ancestor; one of a branch that went on is not."""
    made.git("switch", "--quiet", "--create", "topic", "HEAD~1")
    repository = Repository.around(made.root)
    assert repository.is_ancestor(repository.commit("HEAD"))
    assert repository.is_ancestor(repository.commit("main~1"))
    assert not repository.is_ancestor(repository.commit("main"))
