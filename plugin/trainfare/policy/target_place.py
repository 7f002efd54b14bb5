"""Where a TARGET is defined: file and line of its callable, found in the text without running it."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from trainfare.job import script_of
from trainfare_core.errors import InputError
from trainfare_core.policy.check import SourcePlace
from trainfare_providers.disk.files import read_input

_Body = Sequence[ast.stmt]
_MAX_BYTES: Final = 2**19
"""Largest file that is parsed. Chosen: as large as any module that PyTorch is made of, and within 1.5 s and 0.4 GiB."""


def place_of(target: str, folder: Path) -> SourcePlace | None:
    """
    Return where a TARGET is defined.

    Args:
        target: a script, `file.py:callable`, `package.module:callable`, or the path of a profile or configuration.
        folder: the current folder.

    Returns:
        The file, relative to the repository that holds it, and the line of the callable; 1 where it is not found, or
        the file cannot be parsed. None where the target is no file.
    """
    script = script_of(target)
    path_text, colon, name = (script.name, "", "") if script is not None else target.rpartition(":")
    path = _file_of(path_text if colon or script is not None else target, folder)
    if path is None:
        return None
    return SourcePlace(path=_format_path(path, folder), line=_find_line(path, name) if colon else 1)


def _file_of(path: str, folder: Path) -> Path | None:
    module = path.replace(".", "/")
    tries = (folder / path, folder / f"{module}.py", folder / module / "__init__.py")
    # Not `Path.is_file`, which raises for a name longer than the system takes.
    return next((path.resolve() for path in tries if os.path.isfile(path)), None)  # noqa: PTH113


def _format_path(path: Path, folder: Path) -> str:
    """Return a path as code hosts want it: relative to the repository, else to the current folder."""
    above = folder.resolve()
    root = next((folder for folder in (above, *above.parents) if (folder / ".git").exists()), above)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _find_line(path: Path, name: str) -> int:
    line = 1
    try:
        body = _parse_module(path)
        for part in name.split("."):
            nodes = [node for node in _statements(body) if part in _list_names(node)]
            if not nodes:
                break
            line = nodes[-1].lineno
            body = nodes[-1].body if isinstance(nodes[-1], ast.ClassDef) else []
    except (InputError, SyntaxError, ValueError, RecursionError, MemoryError):
        pass  # The last two: Python's parser raises either for code that is nested too deeply.
    return line


def _parse_module(path: Path) -> _Body:
    source = read_input(path, _MAX_BYTES, kind="a module of Python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process that runs the code shows them
        return ast.parse(source).body


def _statements(body: Iterable[ast.AST]) -> Iterable[ast.stmt]:
    """Return the statements of a body, with those inside `if`, `try` and `with`."""
    for node in body:
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            yield from _statements(ast.iter_child_nodes(node))


def _list_names(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}
