"""
The jobs of a policy, traced in one place and judged in another.

Tracing runs the code of a change, judging does not: `trainfare profile -o FOLDER` writes a profile of each job with the
policy and the files that it names, `trainfare check --profiles FOLDER` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare.policy.policy_file import MAX_BYTES, PolicyFile, read_policy
from trainfare_core.errors import InputError, TargetError, TrainfareError
from trainfare_providers.disk.files import make_folder, read_input, replace_file, write_text

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile

_MAX_FILE_BYTES: Final = 256 * 2**20
"""As large as a lock may be."""
_MAX_FOLDER_BYTES: Final = 512 * 2**20
"""Chosen: room for a lock as large as it may be and hundreds of profiles; a change chooses how much it leaves here."""
_NO_POLICY: Final = "error.txt"
"""Has the reason why no job was traced; no job is called ""."""
_SHOWN: Final = 1000
"""Characters of the reason why a job was not traced: an error's one line with its advice."""


def write_traced_jobs(
    file: PolicyFile, folder: Path, trace: Callable[[str], JobProfile]
) -> Iterator[tuple[str, TrainfareError | None]]:
    """
    Trace each job of a policy into a folder, and copy the policy with its lock and own prices there.

    Args:
        file: the policy.
        folder: is made where it is missing.
        trace: returns the profile of a target.

    Yields:
        The name of each job, and the error where it has no profile.

    Raises:
        InputError: a file that the policy names cannot be read, or lies outside of its folder.
    """
    make_folder(folder)
    _copy(file.path, folder / file.path.name, MAX_BYTES, "a policy")
    for name in filter(None, (file.policy.lock, file.policy.own_prices)):
        path = file.beside(name)
        if not path.resolve().is_relative_to(file.path.parent.resolve()):
            raise InputError(
                f"{path}: it lies outside of the policy's folder, so it cannot be judged elsewhere"
            )
        make_folder((folder / name).parent)
        _copy(path, folder / name, _MAX_FILE_BYTES, "a file of a policy")
    for name in file.policy.jobs:
        profile, reason = folder / f"{name}.json", _reason_path(folder, name)
        for path in (profile, reason):
            path.unlink(missing_ok=True)
        try:
            write_text(profile, trace(file.target_of(name)).to_json())
        except TrainfareError as error:
            write_text(reason, f"{error}\n")
            yield name, error
        else:
            yield name, None


@dataclass(frozen=True, slots=True)
class TracedJobs:
    """
    A folder that `write_traced_jobs` wrote; it may come from a machine on which a change has run its code.

    Attributes:
        folder: the folder.
    """

    folder: Path

    def policy(self) -> PolicyFile:
        """
        Return the policy of the change.

        Raises:
            InputError: the folder has none or one that is not valid, holds a link, or is too large.
        """
        if not self.folder.is_dir():
            raise InputError(
                f"--profiles {self.folder}: no folder, so no job was traced; the log of that job has the reason"
            )
        size_bytes = 0
        for path in self.folder.rglob("*"):
            if path.is_symlink():  # it may lead to a file of this machine, whose content a message would show
                raise InputError(f"--profiles {self.folder}: {path.name} is a link, which is not followed")
            size_bytes += path.stat().st_size
            if size_bytes > _MAX_FOLDER_BYTES:
                raise InputError(f"--profiles {self.folder}: more than {_MAX_FOLDER_BYTES // 2**20} MiB")
        try:
            return read_policy(None, self.folder)
        except InputError as error:
            reason = _read_reason(self.folder / _NO_POLICY)
            raise InputError(f"--profiles {self.folder}: {reason or error}") from error

    def path_of(self, name: str) -> str:
        """Return the path of a job's profile."""
        return str(self.folder / f"{name}.json")

    def read(self, path: str) -> JobProfile:
        """
        Return the profile at a path of `path_of`.

        Raises:
            TargetError: the job was not traced; with the reason that was left for it.
            ProfileError: it is no profile.
        """
        from trainfare.fake_step import read_profile

        name = Path(path).stem if path.endswith(".json") else path
        if not Path(path).is_file():
            why = _read_reason(_reason_path(self.folder, name)) or "there is no reason beside it"
            raise TargetError(f"{name}.json: the job was not traced: {why}")
        return read_profile(path)


def leave_reason(folder: Path, error: InputError) -> None:
    """Write why there is no policy into a folder, for who judges it."""
    write_text(folder / _NO_POLICY, f"{error}\n")


def _read_reason(path: Path) -> str:
    """Return the reason that a file has, in one line; "" where there is no file."""
    if not path.is_file():
        return ""
    text = read_input(path, MAX_BYTES, kind="a reason").decode("utf-8", "replace")
    return " ".join(text.split())[:_SHOWN]


def _reason_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.error.txt"


def _copy(source: Path, target: Path, max_bytes: int, kind: str) -> None:
    replace_file(target, read_input(source, max_bytes, kind=kind))
