"""Find training scripts by their source; none of it runs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from trainfare_providers.disk.files import FileRefusedError, read_own_file

ScriptKind: TypeAlias = Literal["trainer", "loop"]
"""With a Trainer that `trainfare profile` stops, or with a loop of its own."""
_TRAINERS: Final = frozenset(("lightning", "pytorch_lightning", "transformers", "trl"))
_LOOPS: Final = frozenset(("torch", "accelerate", "keras"))
_TRAINING: Final = frozenset(("fit", "train", "LightningCLI"))
_NOT_SEARCHED: Final = frozenset(("build", "dist", "tests"))
_MAX_BYTES: Final = 2**20
"""Largest file that is read. Chosen: no script is as long."""


class FoundScript(NamedTuple):
    """A script that trains; or a file that may be one and cannot be parsed, for the reason of `problem`."""

    path: str
    kind: ScriptKind
    problem: str = ""


def find_scripts(files: Iterable[Path]) -> list[FoundScript]:
    """Return the training scripts among some files, in the order of their paths; none of tests or of a build."""
    found: list[FoundScript] = []
    for path in sorted(files):
        name = path.as_posix()
        if path.suffix != ".py" or path.name.startswith("test_") or not _NOT_SEARCHED.isdisjoint(path.parts):
            continue
        try:
            content = read_own_file(path, _MAX_BYTES)
        except (FileRefusedError, OSError):
            continue
        try:
            kind = read_kind(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if any(library.encode() in content for library in _TRAINERS):
                line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
                found.append(FoundScript(name, "trainer", f"{type(error).__name__}{line}"))
            continue
        if kind is not None:
            found.append(FoundScript(name, kind))
    return found


def read_kind(source: bytes) -> ScriptKind | None:
    """
    Return how a script trains; None where it does not, or defines what others call.

    >>> read_kind(b"import torch, lightning as L" + bytes([10]) + b"L.Trainer().fit(model)")
    'trainer'
    >>> read_kind(b"import torch") is None
    True

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python that can be parsed.
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    imported = {name.partition(".")[0] for name in _list_imports(nodes)}
    called = set(_list_calls(nodes))
    if not _runs_itself(tree, called):
        return None
    has_trainer = any(name.endswith("Trainer") or name == "LightningCLI" for name in called)
    if imported & _TRAINERS and has_trainer and called & _TRAINING:
        return "trainer"
    return "loop" if imported & _LOOPS and {"backward", "step"} <= called else None


def _runs_itself(tree: ast.Module, called: set[str]) -> bool:
    """Return whether a file trains as it is run: by a main guard, or by a call outside of functions and classes."""
    outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if any(isinstance(node, ast.If) and "__name__" in ast.dump(node.test) for node in outside):
        return True
    training = _TRAINING.union(["step"] if "backward" in called else [])
    return not training.isdisjoint(_list_calls(inner for node in outside for inner in ast.walk(node)))


def _list_imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
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
