"""How a report reaches the disk: whole or not at all, and never over somebody else's file."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainfare_core.errors import InputError

__all__ = ["HTML_MARK", "ReportPaths", "make_folder", "report_paths", "write_atomically"]

HTML_MARK: Final = '<meta name="generator" content="trainfare'
"""What every page of ours has in its first kilobyte."""

_JSON_MARK: Final = '{\n "schema_version": 1,\n "tool_version"'


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written."""

    html: Path
    json: Path


def make_folder(directory: Path) -> None:
    """
    Make the folder and those above it where they are missing.

    Raises:
        InputError: it cannot be made, or is a file.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{directory}: is no folder and cannot be made one ({error.strerror or error}); name another"
        raise InputError(msg) from error


def report_paths(directory: Path, stem: str) -> ReportPaths:
    """
    Return where the report goes, after making sure that it may go there.

    Args:
        directory: an existing folder, or one to make.
        stem: file name without its ending.

    Raises:
        InputError: `stem` is no plain name, or a file of that name is there that is not a report of ours.
    """
    if not stem or stem != Path(stem).name or stem in {".", ".."} or set(stem) & set('\\/:*?"<>|\0'):
        msg = f"report name {stem!r}: must be a plain file name without folders or special characters"
        raise InputError(msg)
    paths = ReportPaths(directory / f"{stem}.html", directory / f"{stem}.json")
    for path, mark in ((paths.html, HTML_MARK), (paths.json, _JSON_MARK)):
        if not _may_replace(path, mark):
            msg = f"{path}: exists and is not a trainfare report; move it away or write the report elsewhere"
            raise InputError(msg)
    return paths


def _may_replace(path: Path, mark: str) -> bool:
    """Return whether nothing is there, an empty file, or an earlier report of ours."""
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except FileNotFoundError:
        return not path.is_symlink()
    except OSError:
        return False
    return not start or mark.encode() in start


def write_atomically(path: Path, text: str) -> None:
    """
    Write `text` as UTF-8 so that a reader sees the old file or the new one, whatever happens in between.

    Args:
        path: the file; its folder must exist.
        text: the whole content; line ends stay as they are.

    Raises:
        InputError: it cannot be written; what was there before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error}); choose another folder"
        raise InputError(msg) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
