"""Calls of the Linux kernel that Python has no function for: mounts of this process alone, Landlock, seccomp."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000
"""Flags of `unshare`."""
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
"""Flags of `mount`."""
_NO_NEW_PRIVILEGES, _SET_DUMPABLE, _SET_SECCOMP, _FILTER = 38, 4, 22, 2
"""Options of `prctl`, and the mode of a filter of system calls."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls of Landlock, which are the same on every processor."""
_PATH_BENEATH: Final = 1
_SIGNALS: Final = 2
"""Scope of Landlock that keeps signals within."""
_SIGNALS_SINCE: Final = 6
"""Version of Landlock that can, in Linux 6.12."""
_WRITE_FILE, _MAKE_AND_REMOVE, _REFER, _TRUNCATE = 0x2, 0x1FF0, 0x2000, 0x4000
"""Rights of Landlock: to open for writing; all that makes or removes a name; to rename or link into another folder,
since version 2; to truncate by name, since version 3."""
_NUMBERS: Final = {
    "x86_64": {"truncate": 76, "unshare": 272, "landlock_create_ruleset": _CREATE_RULESET},
    "aarch64": {"truncate": 45, "unshare": 97, "landlock_create_ruleset": _CREATE_RULESET},
}
"""Numbers of system calls, by processor."""
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""How a filter of system calls knows the processor."""
_LOAD, _JUMP_IF, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def separate_mounts() -> bool:
    """
    Give this process mounts of its own: as root at once, else as the same user in a user namespace.

    Returns:
        whether it is as root of the system, not of a user namespace.

    Raises:
        OSError: the system does not let this user, or this process has other threads.
    """
    user, group = os.geteuid(), os.getegid()
    own = Path("/proc/self")
    as_root = (own / "uid_map").read_text(encoding="ascii").split() == ["0", "0", str(2**32 - 1)]
    try:
        _call("unshare", _NEW_MOUNTS)
    except OSError:
        as_root = False
        _call("unshare", _NEW_MOUNTS | _NEW_USERS)
        (own / "setgroups").write_text("deny", encoding="ascii")
        (own / "uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        (own / "gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    # What is mounted here is not seen elsewhere, neither under any mount point.
    _call("mount", None, b"/", None, _PRIVATE | _RECURSIVE, None)
    return as_root


def mount(kind: bytes, folder: Path, options: bytes) -> None:
    """Mount a file system on a folder; raise OSError where that cannot be."""
    _call("mount", kind, os.fsencode(folder), kind, 0, options)


def bind(descriptor: int, folder: Path) -> None:
    """Mount an open folder or file, with what is mounted in it, on a path; raise OSError where that cannot be."""
    _call("mount", b"/proc/self/fd/%d" % descriptor, os.fsencode(folder), None, _BIND | _RECURSIVE, None)


def make_read_only(folder: Path) -> None:
    """Let nothing be written through a mount point; raise OSError where that cannot be."""
    # In a user namespace what the mount does not allow must stay so; both have the same numbers.
    kept = os.statvfs(folder).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
    _call("mount", None, os.fsencode(folder), None, _REMOUNT | _BIND | _READ_ONLY | kept, None)


def landlock_version() -> int:
    """Return the version of Landlock, 0 where there is none or it may not be used."""
    if sys.platform != "linux":
        return 0
    try:
        return max(0, int(_library().syscall(_CREATE_RULESET, None, 0, 1)))
    except (OSError, AttributeError):
        return 0


def allow_writes_in(paths: Iterable[Path], version: int | None = None) -> None:
    """
    Let this process and its children write in some folders and files and nowhere else; it needs a single thread.

    Modes, owners and times of files elsewhere can be changed all the same: Landlock knows no right for that.

    Args:
        paths: those that are not there are left out.
        version: of Landlock, at most that of the system; None is that.

    Raises:
        OSError: the system has no Landlock.
    """
    version = landlock_version() if version is None else version
    if not version:
        raise OSError("no Landlock")
    # Before version 2 a rename into another folder is refused everywhere, which needs no right.
    rights = _WRITE_FILE | _MAKE_AND_REMOVE | _REFER * (version >= 2) | _TRUNCATE * (version >= 3)
    ruleset = _create_ruleset(struct.pack("=Q", rights))
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        of_files = rights if path.is_dir() else rights & (_WRITE_FILE | _TRUNCATE)
        _call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", of_files, descriptor), 0)
        os.close(descriptor)
    _restrict_to(ruleset)
    if not rights & _TRUNCATE:
        refuse_calls(["truncate"])


def keep_signals_inside() -> bool:
    """
    Let this process and its children signal only one another from now on; threads that run already are left out.

    Returns:
        whether the system can.
    """
    if landlock_version() < _SIGNALS_SINCE:
        return False
    try:
        _restrict_to(_create_ruleset(struct.pack("=QQQ", 0, 0, _SIGNALS)))
    except OSError:
        return False
    return True


def refuse_calls(names: Iterable[str]) -> None:
    """
    Let some system calls of this process and its children fail with EPERM; on processors whose numbers are known.

    Args:
        names: keys of the table of numbers.
    """
    machine = platform.machine()
    if machine not in _NUMBERS:
        return
    numbers = [_NUMBERS[machine][name] for name in names]
    program = [
        (_LOAD, 0, 0, 4),
        (_JUMP_IF, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
    ]
    for number in numbers:
        program += [(_JUMP_IF, 0, 1, number), (_RETURN, 0, 0, _ERROR | 1)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("prctl", _SET_SECCOMP, _FILTER, ctypes.addressof(header), 0, 0)


def hide_memory() -> None:
    """Let no other process of this user read the variables and the memory of this one; root can all the same."""
    if sys.platform == "linux":
        try:
            _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)
        except (OSError, AttributeError):
            return


def _create_ruleset(attributes: bytes) -> int:
    ruleset = int(_library().syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    if ruleset < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return ruleset


def _restrict_to(ruleset: int) -> None:
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("syscall", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library; raise what it says."""
    converted = [ctypes.c_ulong(a) if isinstance(a, int) and a > 2**31 - 1 else a for a in arguments]
    if getattr(_library(), name)(*converted):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
