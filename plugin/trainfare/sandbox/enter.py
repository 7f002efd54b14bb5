"""Enter a sandbox: an overlay on every folder, else a copy of the user's folders and no other place to write to."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

from trainfare.sandbox.caches import find_data_sets, list_caches
from trainfare.sandbox.copies import CopiedTree
from trainfare.sandbox.kernel import allow_writes_in
from trainfare.sandbox.overlay import SystemOverlay
from trainfare.sandbox.written import OF_LIBRARIES, Written
from trainfare_core.errors import TargetError
from trainfare_core.number_format import list_items

SandboxKind: TypeAlias = Literal["overlay", "copy", "none"]
_WITHOUT: Final = "--no-sandbox runs it with the rights of this user, and what it writes stays"
_REFUSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV, errno.EOVERFLOW)
_REFUSED_TEXTS: Final = (
    "cannot be opened",
    "Permission denied",
    "Read-only file system",
    "unable to open database file",
)
_FULL_TEXTS: Final = ("No space left on device", "file write failed")
"""Of libraries whose errors carry no number."""


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """
    What a sandbox is built from.

    Attributes:
        scratch: an empty folder on a disk, whose content need not stay.
        spare: another one, not in the same folder of the top; None where there is none.
        kinds: those that may be built, the first that can be.
        folders: that the code works in, besides the working folder.
        walled: the system refuses writes elsewhere already, as macOS does by `sandbox-exec`.
    """

    scratch: Path
    spare: Path | None
    kinds: Sequence[SandboxKind]
    folders: Sequence[Path] = ()
    walled: bool = False


@final
@dataclass(frozen=True, slots=True)
class Sandbox:
    """
    The sandbox of this process.

    Attributes:
        kind: "none" where what the code writes stays.
        list_written: what the code has written so far, but in caches and temporary files.
        path_of: where a file of the user lies for the code.
        about: what the code may write to and where that is kept, for an error.
    """

    kind: SandboxKind
    list_written: Callable[[], list[Written]]
    path_of: Callable[[Path], Path]
    about: str

    def explain(self, error: BaseException | None) -> str:
        """Return why the sandbox may be the reason of an error of the code; "" where it is not."""
        while error is not None and self.kind != "none":
            number, text = getattr(error, "errno", None), _message_of(error)
            if number == errno.ENOSPC or any(part in text for part in _FULL_TEXTS):
                return f"; what a script writes before launch is kept {self.about}, which is full"
            if number in _REFUSED or any(part in text for part in _REFUSED_TEXTS):
                return f"; before launch it runs in a sandbox, which keeps what it writes {self.about}: {_WITHOUT}"
            error = error.__cause__ or error.__context__
        return ""


def enter_sandbox(request: SandboxRequest) -> Sandbox:
    """
    Put this process, and those that it starts, into a sandbox; it needs a single thread.

    In a copy, the working folder, `sys.path`, HOME and TMPDIR are afterwards those of the sandbox.

    Raises:
        TargetError: none of the kinds can be built on this system.
    """
    problems: list[str] = []
    untold = [Path(name).expanduser() for name in OF_LIBRARIES]  # before HOME is that of the sandbox
    for kind in request.kinds:
        try:
            sandbox = _BUILDERS[kind](request)
            return replace(sandbox, list_written=partial(_list_told, sandbox.list_written, untold))
        except (OSError, AttributeError) as error:  # noqa: PERF203 - another system has no such function
            problems.append(f"{kind}: {error}")
    raise TargetError(
        f"no sandbox can be built here ({'; '.join(problems)}), so nothing was started: what the code writes could "
        f"replace files; {_WITHOUT}"
    )


def _list_told(list_written: Callable[[], list[Written]], untold: Sequence[Path]) -> list[Written]:
    return [
        item
        for item in list_written()
        if not any(Path(item.path).is_relative_to(folder) for folder in untold)
    ]


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's exception may have a `__str__` that fails
        return ""


def _enter_overlay(request: SandboxRequest) -> Sandbox:
    layers = [folder for folder in (request.scratch, request.spare) if folder is not None]
    overlay = SystemOverlay(layers, [request.scratch, *list_caches(os.environ)])
    return Sandbox("overlay", overlay.list_written, Path, f"in a layer on {' and '.join(map(str, layers))}")


def _enter_copy(request: SandboxRequest) -> Sandbox:
    caches = [folder.resolve() for folder in list_caches(os.environ)]
    data_sets = find_data_sets(os.environ).resolve()
    if not request.walled:  # before anything is copied, so that no mistake of ours changes a file either
        allow_writes_in([request.scratch, Path("/dev"), Path("/proc"), *caches])
    here, home = Path.cwd(), Path.home().resolve()
    folders = {home, here, *(folder.resolve() for folder in request.folders)} - {Path("/")}
    tree = CopiedTree(request.scratch / "root")
    # What is within another one comes later, and has its own room.
    for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder)):
        if folder == home and folder != here:
            tree.add_small(folder, caches)
        elif folder == here or here not in folder.parents:
            tree.add(folder)
    os.environ["HOME"] = str(tree.path_of(home))
    sys.path[:] = [entry and str(tree.path_of(Path(entry).absolute())) for entry in sys.path]
    os.chdir(tree.path_of(here))
    if data_sets.is_dir():  # by the path of the copy, what is made there would never be found again
        copy = CopiedTree(request.scratch / "data-sets")
        copy.add_small(data_sets, most_depth=6)
        os.environ["HF_DATASETS_CACHE"] = str(copy.path_of(data_sets))
    # That of the system takes nothing; what the code starts must know it, too.
    temporary = request.scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    about = (
        f"in a copy of {list_items([str(folder) for folder in sorted(folders)], 200)} on {request.scratch}"
    )
    if tree.linked:
        about += f"; too large to copy: {list_items([str(path) for path in tree.linked], 200, most_items=3)}"
    return Sandbox("copy", tree.list_written, tree.path_of, about)


def _enter_none(_: SandboxRequest) -> Sandbox:
    return Sandbox("none", list, Path, "")


_BUILDERS: Final[dict[SandboxKind, Callable[[SandboxRequest], Sandbox]]] = {
    "overlay": _enter_overlay,
    "copy": _enter_copy,
    "none": _enter_none,
}
