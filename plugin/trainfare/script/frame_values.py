"""What stands in the source and in plain values of a frame; nothing of the user's is run."""

from __future__ import annotations

import ast
import functools
import itertools
import linecache
import math
from collections.abc import Iterable, Mapping
from types import FrameType, MappingProxyType
from typing import Any, Final, TypeAlias, cast

from torch.utils.data import DataLoader, IterableDataset

Loop: TypeAlias = ast.For | ast.AsyncFor | ast.While

_PASSED_ON: Final = (
    "enumerate",
    "sorted",
    "reversed",
    "list",
    "tuple",
    "tqdm",
    "items",
    "keys",
    "values",
    "trange",
)
"""Functions, and methods of a dict, that give as many items as what they are called with has."""
_ENDLESS: Final = ("count", "cycle", "repeat")
"""Functions of itertools without an end."""
_SPLITTERS: Final = ("Fold", "Split")
"""How the names of scikit-learn's splitters end."""
_DEFAULT_SPLITS: Final = 5
"""Of a splitter of scikit-learn that is given no number."""
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def parse_source(filename: str) -> ast.Module | None:
    """Return the tree of a file, None where it is not Python."""
    linecache.checkcache(filename)
    return _parse("".join(linecache.getlines(filename)))


@functools.lru_cache(maxsize=32)
def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def find_column(frame: FrameType) -> int | None:
    """Return the column of what a frame runs in its line; None where Python does not say it, as before 3.11."""
    positions: Any = getattr(frame.f_code, "co_positions", None)
    if positions is None:
        return None
    # An instruction has two bytes.
    cells: Iterable[tuple[int | None, ...]] = positions()
    return next(itertools.islice(cells, frame.f_lasti // 2, None))[2]


def list_loops(frame: FrameType) -> list[tuple[Loop, bool]]:
    """Return the loops around a frame's line in its function, outermost first, and whether each round comes to it."""
    line, loops = frame.f_lineno, list[tuple[Loop, bool]]()
    tree = parse_source(frame.f_code.co_filename)
    for node in ast.walk(tree) if tree is not None else ():  # outer ones first
        if not getattr(node, "lineno", math.inf) <= line <= getattr(node, "end_lineno", 0):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            loops = []
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            if node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0):
                leaves = any(isinstance(inner, (ast.Break, ast.Continue)) for inner in ast.walk(node))
                loops.append((node, not leaves))
        elif isinstance(node, ast.If) and loops:
            loops[-1] = (loops[-1][0], False)
    return loops


def count_items(node: ast.expr, frame: FrameType) -> float | None:
    """Return how many items an expression gives, infinity where it has no end, None where it is not known."""
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return None if any(isinstance(item, ast.Starred) for item in node.elts) else len(node.elts)
    if not isinstance(node, ast.Call):
        return _count_value(read_value(node, frame))
    name = str(getattr(node.func, "id", getattr(node.func, "attr", "")))
    owner = getattr(node.func, "value", None)
    if name in ("range", "trange"):
        limits = [read_value(argument, frame) for argument in node.args]
        return len(range(*limits)) if limits and all(type(limit) is int for limit in limits) else None
    if name == "split" and owner is not None:
        return _count_splits(owner, frame)
    if name in _ENDLESS:
        return math.inf if len(node.args) < 2 or name == "count" else None
    if name == "islice" and len(node.args) == 2:
        most, items = read_value(node.args[1], frame), count_items(node.args[0], frame)
        return None if items is None or type(most) is not int else min(items, most)
    if name == "zip" and node.args:
        counts = [count_items(argument, frame) for argument in node.args]
        return None if None in counts else min(cast("list[float]", counts))
    source = node.args[0] if node.args else owner
    return count_items(source, frame) if name in _PASSED_ON and source is not None else None


def _count_value(value: Any) -> float | None:
    if type(value) in (list, tuple, set, dict, range):
        return len(value)
    if isinstance(value, DataLoader):
        return count_batches(cast("Any", value))
    own = read_attributes(value)
    if type(value).__name__ == "_FabricDataLoader":
        return _count_value(own.get("_dataloader"))
    if type(value).__name__.startswith("tqdm") and "iterable" in own:
        return _count_value(own["iterable"])
    return None


def count_batches(loader: Any) -> int | None:
    """Return the batches of a DataLoader by the length of its sampler, None where it has none."""
    if isinstance(loader.dataset, IterableDataset):
        return None
    try:
        return len(loader.sampler if loader.batch_sampler is None else loader.batch_sampler)
    except Exception:  # noqa: BLE001 - a sampler of the user's, which may have no length
        return None


def _count_splits(splitter: ast.expr, frame: FrameType) -> int | None:
    """Return the parts that a splitter of scikit-learn makes."""
    if isinstance(splitter, ast.Call):
        name = str(getattr(splitter.func, "id", getattr(splitter.func, "attr", "")))
        given = [*splitter.args[:1], *(word.value for word in splitter.keywords if word.arg == "n_splits")]
        count = read_value(given[0], frame) if given else _DEFAULT_SPLITS
    else:
        value = read_value(splitter, frame)
        name, count = type(value).__name__, read_attributes(value).get("n_splits")
    return count if type(count) is int and name.endswith(_SPLITTERS) else None


def read_value(node: ast.expr, frame: FrameType) -> Any:
    """Return the value of a constant, a variable, an item of a dict, or an attribute in an object's own dict."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        return read_attributes(read_value(node.value, frame)).get(node.attr)
    if isinstance(node, ast.Subscript):
        owner, key = read_value(node.value, frame), read_value(node.slice, frame)
        items = cast("Mapping[object, Any]", owner) if type(owner) is dict else _read_config(owner)
        return items.get(key) if type(key) is str else None
    return None


def read_attributes(value: Any) -> Mapping[str, Any]:
    """Return an object's own dict, or what a configuration of OmegaConf holds."""
    return _read_config(value) or cast("Mapping[str, Any]", getattr(value, "__dict__", _EMPTY))


def _read_config(value: Any) -> Mapping[str, Any]:
    """Return the nodes and plain values of OmegaConf's, without those that are made of others (`${...}`, `???`)."""
    kind = cast("type[object]", type(value))
    if (kind.__module__, kind.__name__) != ("omegaconf.dictconfig", "DictConfig"):
        return _EMPTY
    nodes = _members(value).get("_content")
    if type(nodes) is not dict:  # a text: missing, or made of another
        return _EMPTY
    held = cast("dict[str, Any]", nodes)
    values: dict[str, Any] = {name: _members(node).get("_val", node) for name, node in held.items()}
    return {name: value for name, value in values.items() if not _is_made(value)}


def _members(value: object) -> Mapping[str, Any]:
    return vars(value)


def _is_made(value: object) -> bool:
    return isinstance(value, str) and ("${" in value or value == "???")
