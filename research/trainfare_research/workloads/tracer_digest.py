"""
Digest of the code that makes traces: a trace on disk is used only while the digest stays the same.

Comments, docstrings and layout do not change a trace, so the digest is of the syntax tree without them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

TRACER_PACKAGES = ("trainfare.trace", "trainfare.fake_step")
"""Packages whose code decides the operations, bytes and memory of a traced step."""
TRACER_MODULES = tuple(
    f"trainfare.lightning.{name}"
    for name in ("callbacks", "later_epochs", "loop_kind", "step_forms", "trainer_stub", "training_step")
)
"""The same of the training loop that runs jobs before launch; modules that are in `trainfare.fake_step` count there."""


def tracer_sources() -> tuple[Path, ...]:
    """Return every source file of the tracer's packages, at any depth, and of its modules elsewhere, in order."""
    folders: list[Path] = []
    for package in TRACER_PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            msg = f"{package}: no such package, so that stale traces could not be recognised"
            raise ModuleNotFoundError(msg)
        folders += map(Path, spec.submodule_search_locations)
    specs = [importlib.util.find_spec(name) for name in TRACER_MODULES]
    modules = {Path(spec.origin) for spec in specs if spec and spec.origin}
    return tuple(sorted(modules.union(path for folder in folders for path in folder.rglob("*.py"))))


@lru_cache(maxsize=256)
def code_digest(source: str) -> bytes:
    """
    Return a digest of what a source file does: its syntax tree without docstrings, comments and layout.

    Kept: thousands of rows ask for the digests of a few dozen files, and each takes tens of milliseconds.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [part for part in node.body if not _is_text(part)]
    return hashlib.sha256(ast.dump(tree).encode()).digest()


@lru_cache
def tracer_digest(more: tuple[Path, ...], libraries: tuple[str, ...]) -> str:
    """
    Return a digest of the tracer, of further sources and of the versions of libraries.

    Args:
        more: sources of the models that are traced.
        libraries: distributions whose operations or models are traced.
    """
    digest = hashlib.sha256()
    for path in (*more, *tracer_sources()):
        digest.update(code_digest(path.read_text(encoding="utf-8")))
    for name in sorted(libraries):
        digest.update(f"{name} {version(name)}".encode())
    return digest.hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
