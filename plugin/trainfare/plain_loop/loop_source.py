"""What stands in the source of a frame: its statements, the names that they assign, and what leaves a loop."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Final

from torch.utils.data import DataLoader

from trainfare.job import format_line
from trainfare.plain_loop.loop_expressions import UnreadableError
from trainfare.script.frame_values import parse_source, read_value

_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def describe_place(filename: str, line: int) -> str:
    """Return a line of a file as `file.py:12`."""
    return format_line(filename, line, "").removesuffix(" in ")


def find_body(frame: FrameType) -> list[ast.stmt]:
    """Return the statements of the function that a frame runs, or of its module."""
    code, tree = frame.f_code, parse_source(frame.f_code.co_filename)
    if tree is None:
        raise UnreadableError(f"the source of {code.co_filename}")
    if code.co_name == "<module>":
        return tree.body
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            lines = [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]
            if min(lines) == code.co_firstlineno:
                return node.body
    raise UnreadableError(f"the source of {code.co_name}")


def walk_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Give all nodes in some, but for what functions and classes in them hold."""
    for node in nodes:
        yield node
        if not isinstance(node, _SCOPES):
            yield from walk_scope(ast.iter_child_nodes(node))


def list_stored(region: Iterable[ast.AST]) -> set[str]:
    """Return the names that are assigned in some statements, those of attributes with a point before them."""
    names: set[str] = set()
    for node in walk_scope(region):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(f".{node.attr}")
        elif isinstance(node, _SCOPES):
            names |= {getattr(node, "name", "")} - {""}
            inner = [part for part in ast.walk(node) if isinstance(part, (ast.Global, ast.Nonlocal))]
            names |= {name for declared in inner for name in declared.names}
    return names


def list_shared(frame: FrameType, region: Iterable[ast.AST], names: set[str]) -> set[str]:
    """Return those names of a frame that others may read: of its module, or of functions inside it."""
    if frame.f_code.co_name == "<module>":
        return names
    declared = [
        part
        for statement in region
        for part in ast.walk(statement)
        if isinstance(part, (ast.Global, ast.Nonlocal))
    ]
    return {*frame.f_code.co_cellvars, *(name for node in declared for name in node.names)}


def list_exits(nodes: Iterable[ast.AST]) -> list[tuple[str, int]]:
    """Return the statements that leave a loop around these nodes, with their lines."""
    exits: list[tuple[str, int]] = []
    for node in nodes:
        if isinstance(node, (ast.Break, ast.Continue, ast.Return)):
            exits.append((f"a {type(node).__name__.lower()}", node.lineno))
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            exits += [
                (what, line) for what, line in list_exits(ast.iter_child_nodes(node)) if what == "a return"
            ]
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            exits += list_exits(ast.iter_child_nodes(node))
    return exits


def unwrap_items(node: ast.expr) -> ast.expr:
    """Return what a progress bar or the like goes over."""
    while isinstance(node, ast.Call) and node.args:
        if getattr(node.func, "id", getattr(node.func, "attr", "")) not in (
            "tqdm",
            "list",
            "tuple",
            "iter",
            "track",
        ):
            break
        node = node.args[0]
    return node


def is_loader(node: ast.expr, frame: FrameType) -> bool:
    """Return whether an expression is a DataLoader, or a progress bar or Fabric's wrapper over one."""
    value = read_value(node, frame)
    for name in ("iterable", "_dataloader"):
        value = getattr(value, "__dict__", {}).get(name, value)
    return isinstance(value, DataLoader)
