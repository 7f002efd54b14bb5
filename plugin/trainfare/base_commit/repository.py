"""A git repository: its folder, a commit by name, and a checkout of that commit in a temporary worktree."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from trainfare_core.errors import InputError

_OF_A_HOOK: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
"""Set while git runs a hook; with them a worktree would be checked out into the index of the commit under way."""

_TERMINATED_EXIT: Final = 128 + signal.SIGTERM
"""As a shell says it."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: the name that was given, and its hash."""

    ref: str
    sha: str

    @property
    def label(self) -> str:
        """The name and ten digits of the hash, or those alone where the hash was given."""
        short = self.sha[:10]
        return short if self.sha.startswith(self.ref) else f"{self.ref} ({short})"


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository with a working tree; `root` is the folder of that, resolved."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """
        Return the repository that a folder is in.

        Raises:
            InputError: git is not installed, or the folder is in no repository.
        """
        process = _git(folder, "rev-parse", "--show-toplevel")
        if process.returncode:
            raise InputError(
                f"--compare-to: {folder} is not in a git repository that can be read ({_last_line(process)}); "
                "run the check in a checkout, or give --base FILE"
            )
        return cls(Path(os.fsdecode(process.stdout.removesuffix(b"\n"))).resolve())

    def commit(self, ref: str) -> Commit:
        """
        Return the commit that a branch, tag, hash or expression such as HEAD^1 names.

        Raises:
            InputError: there is no such commit, or it is not in this shallow clone, or a tag has the name of a branch.
        """
        parse = ("-c", "core.warnAmbiguousRefs=true", "rev-parse", "--verify", "--end-of-options")
        process = _git(self.root, *parse, f"{ref}^{{commit}}")
        if b"is ambiguous" in process.stderr:  # a tag that a change brings along would come before its base
            raise InputError(
                f"--compare-to {ref}: more than one ref has that name; give refs/heads/NAME or a hash"
            )
        if process.returncode == 0:
            return Commit(ref, process.stdout.decode().strip())
        shallow = _git(self.root, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true"
        if shallow:
            raise InputError(
                f"--compare-to {ref}: this clone is shallow and does not have that commit; fetch it first, e.g. "
                "`git fetch --depth=1 origin BRANCH` and --compare-to FETCH_HEAD, or `fetch-depth: 0` of "
                "actions/checkout"
            )
        raise InputError(
            f"--compare-to {ref}: there is no such commit in {self.root}; `git fetch origin` first, and name a branch "
            "of the server as origin/main"
        )

    def is_ancestor(self, commit: Commit) -> bool:
        """Whether the checked-out commit descends from this one; True where a shallow clone cannot say."""
        return _git(self.root, "merge-base", "--is-ancestor", commit.sha, "HEAD").returncode != 1

    def list_changed_files(self, commit: Commit) -> tuple[str, ...]:
        """Return the tracked files, relative to the root, that differ between a commit and the working tree."""
        return self._list_names(
            "diff",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--ignore-submodules=none",
            "-z",
            commit.sha,
            "--",
        )

    def is_equal_to(self, commit: Commit) -> bool:
        """Return whether the working tree has the files of a commit and no other one, but for what git ignores."""
        others = self._list_names("ls-files", "--others", "--exclude-standard", "-z")
        return not self.list_changed_files(commit) and all("__pycache__/" in name for name in others)

    def _list_names(self, *arguments: str) -> tuple[str, ...]:
        return tuple(os.fsdecode(name) for name in self._run_git(*arguments).split(b"\0") if name)

    def file_at(self, commit: Commit, name: str) -> bytes | None:
        """Return a file of a commit, or None where the commit does not have it."""
        process = _git(self.root, "cat-file", "blob", f"{commit.sha}:{name}")
        return None if process.returncode else process.stdout

    @contextmanager
    def check_out(self, commit: Commit) -> Generator[Path, None, None]:
        """
        Check a commit out in a temporary worktree, give its folder, and remove it however the block ends.

        No hook runs, and files in large-file storage stay pointers. While the block runs, a request to terminate
        (SIGTERM) ends it as an exception does.

        Raises:
            InputError: git could not check it out.
        """
        with _raise_on_sigterm():
            temporary = Path(tempfile.mkdtemp(prefix="trainfare-base-")).resolve()
            folder = temporary / (self.root.name or "base")
            try:
                self._run_git("worktree", "add", "--detach", "--quiet", str(folder), commit.sha)
                yield folder
            finally:
                _git(self.root, "worktree", "remove", "--force", "--force", str(folder))
                shutil.rmtree(temporary, ignore_errors=True)
                _git(self.root, "worktree", "prune")

    def _run_git(self, *arguments: str) -> bytes:
        process = _git(self.root, *arguments)
        if process.returncode:
            raise InputError(f"git {arguments[0]} failed in {self.root}: {_last_line(process)}")
        return process.stdout


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        return subprocess.run(  # noqa: S603 - a list of arguments, without a shell
            ["git", "-c", f"core.hooksPath={os.devnull}", *arguments],  # noqa: S607 - the git of the user's path
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise InputError(f"--compare-to: there is no folder {folder}") from error
        raise InputError("--compare-to needs git, which is not installed; or give --base FILE") from error


def _last_line(process: subprocess.CompletedProcess[bytes]) -> str:
    lines = process.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"


@contextmanager
def _raise_on_sigterm() -> Generator[None, None, None]:
    """Let SIGTERM raise SystemExit for a while, where nothing else handles it."""
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not is_ours:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: Any) -> NoReturn:
    sys.exit(_TERMINATED_EXIT)
