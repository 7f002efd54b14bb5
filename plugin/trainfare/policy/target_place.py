"""Where a TARGET is defined: file and line of its callable, found in the text without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainfare.job import script_of
from trainfare_core.ranking.policy_check import SourcePlace

__all__ = ["place_of"]

_Body = Sequence[ast.stmt]


def place_of(target: str, folder: Path) -> SourcePlace | None:
    """
    Return where a TARGET is defined.

    Args:
        target: a script, `file.py:callable`, `package.module:callable`, or the path of a profile or configuration.
        folder: the current folder.

    Returns:
        The file, relative to the repository that holds it, and the line of the callable, or 1; None where the target
        is no file.
    """
    script = script_of(target)
    place, colon, name = (script.name, "", "") if script is not None else target.rpartition(":")
    path = _file_of(place if colon or script is not None else target, folder)
    if path is None:
        return None
    return SourcePlace(path=_shown(path, folder), line=_line(path, name) if colon else 1)


def _file_of(place: str, folder: Path) -> Path | None:
    module = place.replace(".", "/")
    tries = (folder / place, folder / f"{module}.py", folder / module / "__init__.py")
    return next((path.resolve() for path in tries if path.is_file()), None)


def _shown(path: Path, folder: Path) -> str:
    """Return a path as code hosts want it: relative to the repository, else to the current folder."""
    above = folder.resolve()
    root = next((each for each in (above, *above.parents) if (each / ".git").exists()), above)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _line(path: Path, name: str) -> int:
    try:
        body: _Body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return 1
    line = 1
    for part in name.split("."):
        found = [node for node in _statements(body) if part in _names(node)]
        if not found:
            break
        line = found[-1].lineno
        body = found[-1].body if isinstance(found[-1], ast.ClassDef) else []
    return line


def _statements(body: Iterable[ast.AST]) -> Iterable[ast.stmt]:
    """Return the statements of a body, with those inside `if`, `try` and `with`."""
    for node in body:
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            yield from _statements(ast.iter_child_nodes(node))


def _names(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}
