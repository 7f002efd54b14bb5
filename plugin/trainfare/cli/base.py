"""The job before a change: from a profile file (`--base`), or from another commit (`--compare-to`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from trainfare.cli.target import TargetOptions, profile_of
from trainfare.job import script_of, target_of
from trainfare_core.errors import (
    CannotTellError,
    InputError,
    ProfileError,
    TargetError,
    TraceError,
)

if TYPE_CHECKING:
    from trainfare.base_commit import Commit, Repository
    from trainfare.policy import BaseTree
    from trainfare.prices.sources import LoadedPrices
    from trainfare.user_process import CopiedFolder
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile

BaseOf: TypeAlias = "Callable[[LoadedPrices], PricedJob | UnknownJob | None]"

_ONE = "--base and --compare-to: give one of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseOptions:
    """The job before a change, to show what the change does to the cost."""

    base: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="FILE",
            help="profile of the job before the change: show what it adds; without TARGET a folder of NAME.json",
        ),
    ] = None
    compare_to: Annotated[
        str | None,
        typer.Option(
            "--compare-to",
            metavar="REF",
            help="commit before the change, e.g. origin/main: traced in a git worktree, with this environment",
        ),
    ] = None

    def folder(self) -> Path | None:
        """
        Return the folder with a profile of each job of a policy; None where the base is a commit, or none.

        Raises:
            InputError: it is no folder, or a commit is given as well.
        """
        if self.base is None:
            return None
        if self.compare_to is not None:
            raise InputError(_ONE)
        if not self.base.is_dir():
            raise InputError(
                f"--base {self.base}: no folder; without TARGET, name one with the profiles of the jobs"
            )
        return self.base


@contextmanager
def base_tree_of(options: BaseOptions, folder: Path) -> Generator[BaseTree | None, None, None]:
    """
    Give the files of the base: a commit's, or those that lie in the folder of `--base`; None without a base.

    Args:
        options: which base.
        folder: of the policy or of the job.

    Raises:
        InputError: no git repository, no such commit, or two bases.
    """
    from trainfare.base_commit import Repository
    from trainfare.policy import BaseTree

    if options.base is not None and options.compare_to is not None:
        raise InputError(_ONE)
    if options.compare_to is not None:
        repository = Repository.around(folder)
        commit = repository.commit(options.compare_to)
        with repository.check_out(commit) as copy:
            yield BaseTree(commit.label, repository.root, copy)
    elif options.base is not None and options.base.is_dir():
        yield BaseTree(str(options.base), folder.resolve(), options.base.resolve())
    else:
        yield None


@contextmanager
def base_of(
    job: str,
    options: BaseOptions,
    target: TargetOptions,
    head: Callable[[], JobProfile],
    *,
    precisions: bool = False,
) -> Generator[BaseOf, None, None]:
    """
    Start to trace the job before the change, and give a function from the prices to it; None where none is asked for.

    Args:
        job: profile file or TARGET of the command.
        options: which base.
        target: what its code may use.
        head: returns the profile of the job after the change, which is that before it where the trees are equal.
        precisions: see `profile_of`.

    Raises:
        ProfileError: `--base` is no profile.
        InputError: no git repository, no such commit, or a job that lies outside of the repository.
        CannotTellError: the dependencies differ between the commits.
    """
    if options.base is not None and options.compare_to is not None:
        raise InputError(_ONE)
    if options.base is not None:
        yield of_file(options.base)
    elif options.compare_to is not None:
        with _of_commit(job, options.compare_to, target, head, precisions=precisions) as price:
            yield price
    else:
        yield lambda _: None


def of_file(file: Path) -> BaseOf:
    """
    Return a function from the prices to the job of a profile file.

    Raises:
        ProfileError: it is no profile.
        InputError: it is code, which is never run here.
    """
    from trainfare.fake_step import is_target, read_profile
    from trainfare_core.changes.explain_change import PricedJob

    if is_target(str(file)):
        msg = f"--base {file}: give the profile of the job before the change, not its code"
        raise InputError(f"{msg}: write it with: trainfare profile TARGET -o base.json")
    profile = read_profile(str(file))
    return lambda loaded: PricedJob(profile, loaded.book, file.as_posix())


@contextmanager
def _of_commit(
    job: str, ref: str, target: TargetOptions, head: Callable[[], JobProfile], *, precisions: bool
) -> Generator[BaseOf, None, None]:
    from trainfare.base_commit import Repository, list_changed_dependencies
    from trainfare.user_process import CopiedFolder
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob

    job_path = _place_of(job)
    repository = Repository.around(folder_of(job))
    commit = repository.commit(ref)
    folders = _folders(repository, job_path)
    changed = list_changed_dependencies(repository, commit, folders)
    if changed:
        raise CannotTellError(
            f"--compare-to {ref}: the dependencies of the job differ between the commits ({', '.join(changed)}), and "
            "this environment has those of one of them. Write the other's profile in a job of its own, in that "
            f"commit with its dependencies: `trainfare profile {job} -o base.json`, and give --base base.json"
        )
    notes = () if repository.is_ancestor(commit) else (_not_an_ancestor(commit),)
    if repository.is_equal_to(commit):
        yield lambda loaded: PricedJob(head(), loaded.book, commit.label, notes)
        return
    with repository.check_out(commit) as folder:
        copied = CopiedFolder(repository.root, folder, folder / folders[-1])
        missing = _missing(repository, copied, job_path)
        if missing:
            yield lambda _: UnknownJob(commit.label, missing, notes)
            return
        moved = _move_job_path(job, repository, copied, job_path)
        with profile_of(moved, target, copied, precisions=precisions) as traced:

            def base(loaded: LoadedPrices) -> PricedJob | UnknownJob:
                try:
                    profile = traced()
                except (ProfileError, TargetError, TraceError) as error:
                    because = str(error).replace(f"{folder}{os.sep}", "")
                    return UnknownJob(commit.label, because, notes)
                return PricedJob(profile, loaded.book, commit.label, notes)

            yield base


def folder_of(job: str) -> Path:
    """Return the folder of a job's file, or the working directory where it has none; see `_place_of`."""
    job_path = _place_of(job)
    return Path.cwd() if job_path is None else job_path.parent


def _place_of(job: str) -> Path | None:
    """Return the file of a job, resolved; None for `package.module:callable`, which Python looks for."""
    from trainfare.fake_step import is_target

    if job == "-":
        raise InputError("--compare-to: a profile on standard input is of no other commit; give --base FILE")
    name = job
    script = script_of(job)
    if script is not None:
        return None if script.is_module else Path(script.name).resolve()
    if is_target(job) and Path(job).suffix not in (".yaml", ".yml"):
        name = job.rpartition(":")[0]
        if not name.endswith(".py"):
            return None
    return Path(name).resolve()


def _folders(repository: Repository, job_path: Path | None) -> tuple[PurePosixPath, ...]:
    """Return the folder of the job, where it has a file, and then the working directory, relative to the root."""
    folders = [] if job_path is None else [job_path.parent]
    here = Path.cwd().resolve()
    if here.is_relative_to(repository.root):
        folders.append(here)
    return tuple(PurePosixPath(folder.relative_to(repository.root).as_posix()) for folder in folders)


def _move_job_path(job: str, repository: Repository, copied: CopiedFolder, job_path: Path | None) -> str:
    """Return the job as the working directory of the other commit names it."""
    if job_path is None:
        return job
    file = os.path.relpath(copied.copy / job_path.relative_to(repository.root), copied.directory)
    script = script_of(job)
    if script is not None:
        return target_of(file, script.arguments)
    _, colon, name = job.rpartition(".py:")
    return f"{file}:{name}" if colon else file


def _missing(repository: Repository, copied: CopiedFolder, job_path: Path | None) -> str:
    """Return what the other commit does not have of the job, "" where it has all."""
    needed = [copied.directory] + (
        [] if job_path is None else [copied.copy / job_path.relative_to(repository.root)]
    )
    absent = [path.relative_to(copied.copy).as_posix() for path in needed if not path.exists()]
    return f"it has no {absent[-1]}" if absent else ""


def _not_an_ancestor(commit: Commit) -> str:
    return (
        f"{commit.label} is no ancestor of this checkout: what it gained since the two parted counts as taken away; "
        f"compare with the commit of `git merge-base {commit.ref} HEAD` to leave that out"
    )
