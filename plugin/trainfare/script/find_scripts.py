"""Find training scripts by their source; none of it runs."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from trainfare_providers.disk.files import FileRefusedError, read_own_file

_TRAINERS: Final = frozenset(("lightning", "pytorch_lightning", "transformers", "trl"))
_LOOPS: Final = frozenset(("torch", "accelerate"))
_TRAINING: Final = frozenset(("fit", "train", "LightningCLI"))
_NOT_SEARCHED: Final = frozenset(("build", "dist", "tests"))
OWN_LOOP: Final = "its own loop: trainfare recommend --steps N prices it"
MAX_BYTES: Final = 2**20
"""Largest file that is read. Chosen: no script is as long."""


def find_scripts(files: Iterable[Path]) -> list[tuple[str, str]]:
    """
    Return the training scripts among some files, and why each cannot be traced, "" where it may be; likely ones first.

    Args:
        files: those of tests and of a build, and what is no Python, are passed over.
    """
    found: list[tuple[str, str]] = []
    for path in files:
        if path.suffix != ".py" or path.name.startswith("test_") or not _NOT_SEARCHED.isdisjoint(path.parts):
            continue
        try:
            content = read_own_file(path, MAX_BYTES)
        except (FileRefusedError, OSError):
            continue
        try:
            obstacle = find_obstacle(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if any(library.encode() in content for library in _TRAINERS):
                line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
                found.append((path.as_posix(), f"{type(error).__name__}{line}"))
            continue
        if obstacle is not None:
            found.append((path.as_posix(), obstacle))
    return sorted(found, key=lambda script: (bool(script[1]), "train" not in Path(script[0]).name, script[0]))


def find_obstacle(source: bytes) -> str | None:
    """
    Return why a training script is not tried, "" where it has a Trainer; None where a file is no such script.

    >>> find_obstacle(b"import torch, lightning as L" + bytes([10]) + b"L.Trainer().fit(model)")
    ''
    >>> find_obstacle(b"import torch") is None
    True

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python that can be parsed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's code, such as an escape in a text that is none
        tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    imported = {name.partition(".")[0] for name in list_imports(nodes)}
    called = set(_list_calls(nodes))
    if not _runs_itself(tree, called):
        return None
    has_trainer = any(name.endswith("Trainer") or name == "LightningCLI" for name in called)
    if (imported & _TRAINERS and has_trainer and called & _TRAINING) or (
        "keras" in imported and "fit" in called
    ):
        return ""
    return OWN_LOOP if imported & _LOOPS and {"backward", "step"} <= called else None


def _runs_itself(tree: ast.Module, called: set[str]) -> bool:
    """Return whether a file trains as it is run: by a main guard, or by a call outside of functions and classes."""
    outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if any(isinstance(node, ast.If) and "__name__" in ast.dump(node.test) for node in outside):
        return True
    training = _TRAINING.union(["step"] if "backward" in called else [])
    return not training.isdisjoint(_list_calls(inner for node in outside for inner in ast.walk(node)))


def list_imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules that a source imports by their whole names."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _list_calls(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr
            elif isinstance(node.func, ast.Name):
                yield node.func.id
