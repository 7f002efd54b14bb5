"""Scripts that train by what is not priced."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

_JAX: Final = frozenset(("jax", "flax", "optax", "equinox"))
_OTHERS: Final = ("torch", "keras", "transformers", "lightning", "accelerate", "fastai")
"""Words of a script that trains by something else, too."""


def trains_by_jax(path: Path) -> bool:
    """Return whether a script imports JAX, no module beside it, and names no other library that trains."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):  # a notebook, too
        return False
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports = {name.partition(".")[0] for name in names}
    if any(
        (path.parent / name).is_dir() or path.with_name(f"{name}.py").exists() for name in imports if name
    ):
        return False  # which may train by torch
    return not _JAX.isdisjoint(imports) and not any(word in text for word in _OTHERS)
