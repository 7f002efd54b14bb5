"""Expressions of the user's source as expressions of plain numbers, in which counters are variables."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeAlias, cast

from torch import nn

from trainfare.plain_loop.number_program import FUNCTIONS, OPERATORS, read_expression
from trainfare.script.frame_values import count_items, read_attributes, read_value

Key: TypeAlias = tuple[object, ...]
"""A variable of a frame, of a module, or an attribute of an object."""
SYNC: Final = "_sync"
"""Variable that says whether Accelerate lets the optimizer step in this batch."""
_PLAIN: Final = (int, float, bool, str, type(None))


class UnreadableError(Exception):
    """Something cannot be read from the source and from plain values; the message says what."""


class Expressions:
    """
    Writes the expressions of one frame anew.

    Args:
        frame: whose plain values stand for names that no statement of the loops assigns.
        find_key: gives the key of a name or attribute that a statement of the loops assigns, else None.
        name_variable: gives the variable of a key; raises `UnreadableError` where its values are not known.
    """

    def __init__(
        self,
        frame: FrameType,
        find_key: Callable[[ast.expr], Key | None],
        name_variable: Callable[[Key], str],
    ) -> None:
        self.frame, self._find_key, self._name_variable = frame, find_key, name_variable

    def write(self, node: ast.expr) -> ast.expr:
        """
        Return an expression of numbers with the same value, folded as far as it is constant.

        Raises:
            UnreadableError: it needs anything else.
        """
        written = self._write(node)
        names = {part.id for part in ast.walk(written) if isinstance(part, ast.Name)}
        if isinstance(written, ast.Constant) or not names <= FUNCTIONS.keys():
            return written
        return ast.Constant(evaluate(written))

    def _write(self, node: ast.expr) -> ast.expr:
        method = getattr(self, f"_write_{type(node).__name__.lower()}", None)
        if method is None:
            raise UnreadableError(ast.unparse(node))
        written: ast.expr = method(node)
        return written

    def _write_constant(self, node: ast.Constant) -> ast.expr:
        return self._plain(node.value, node)

    def _write_name(self, node: ast.Name | ast.Attribute | ast.Subscript) -> ast.expr:
        key = self._find_key(node)
        if key is not None:
            return ast.Name(self._name_variable(key), ast.Load())
        if self._is_missing(node):
            raise UnreadableError(ast.unparse(node))
        return self._plain(read_value(node, self.frame), node)

    def _write_attribute(self, node: ast.Attribute) -> ast.expr:
        if node.attr == "sync_gradients" and is_accelerator(read_value(node.value, self.frame)):
            return ast.Name(SYNC, ast.Load())
        return self._write_name(node)

    _write_subscript = _write_name

    def _is_missing(self, node: ast.expr) -> bool:
        """Return whether a name is not there, or an attribute no entry of the object's own dict, as a property is."""
        if isinstance(node, ast.Name):
            return node.id not in self.frame.f_locals and node.id not in self.frame.f_globals
        if isinstance(node, ast.Attribute):
            return node.attr not in read_attributes(read_value(node.value, self.frame))
        return read_value(node, self.frame) is None

    @staticmethod
    def _plain(value: object, node: ast.expr) -> ast.expr:
        if type(value) not in _PLAIN:
            raise UnreadableError(ast.unparse(node))
        return ast.Constant(value)  # type: ignore[arg-type]

    def _write_unaryop(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.Invert):
            raise UnreadableError(ast.unparse(node))
        operand = self._truth(node.operand) if isinstance(node.op, ast.Not) else self.write(node.operand)
        return ast.UnaryOp(node.op, operand)

    def _write_binop(self, node: ast.BinOp) -> ast.expr:
        left, right = self.write(node.left), self.write(node.right)
        numbers = all(
            isinstance(part.value, (int, float)) for part in (left, right) if isinstance(part, ast.Constant)
        )
        if type(node.op) not in OPERATORS or not numbers:
            raise UnreadableError(ast.unparse(node))
        return ast.BinOp(left, node.op, right)

    def _write_boolop(self, node: ast.BoolOp) -> ast.expr:
        decides, parts, unread = isinstance(node.op, ast.Or), list[ast.expr](), ""
        for value in node.values:
            try:
                part = self._truth(value)
            except UnreadableError as error:
                unread = unread or str(error)
                continue
            if isinstance(part, ast.Constant) and bool(part.value) is decides:
                return ast.Constant(decides)  # whatever the others are
            parts.append(part)
        if unread:
            raise UnreadableError(unread)
        return ast.BoolOp(node.op, parts)

    def _truth(self, node: ast.expr) -> ast.expr:
        """Return an expression that is as true as another; an object of a class without a truth of its own is true."""
        try:
            return self.write(node)
        except UnreadableError:
            value = read_value(node, self.frame) if isinstance(node, (ast.Name, ast.Attribute)) else None
            kind = cast("Any", type(value))
            if (
                value is None
                or self._find_key(node) is not None
                or hasattr(kind, "__bool__")
                or hasattr(kind, "__len__")
            ):
                raise
            return ast.Constant(value=True)

    def write_test(self, node: ast.expr) -> ast.expr:
        """Return a condition; see `write`."""
        return self._truth(node)

    def _write_compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) == 1 and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            return self._write_identity(node)
        if not all(isinstance(op, (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for op in node.ops):
            raise UnreadableError(ast.unparse(node))
        return ast.Compare(self.write(node.left), node.ops, [self.write(other) for other in node.comparators])

    def _write_identity(self, node: ast.Compare) -> ast.expr:
        other = node.comparators[0]
        if not isinstance(other, ast.Constant) or not isinstance(node.left, (ast.Name, ast.Attribute)):
            raise UnreadableError(ast.unparse(node))
        if self._find_key(node.left) is not None or self._is_missing(node.left):
            raise UnreadableError(ast.unparse(node))
        same = read_value(node.left, self.frame) is other.value
        return ast.Constant(same is isinstance(node.ops[0], ast.Is))

    def _write_ifexp(self, node: ast.IfExp) -> ast.expr:
        test = self._truth(node.test)
        if isinstance(test, ast.Constant):
            return self.write(node.body if test.value else node.orelse)
        return ast.IfExp(test, self.write(node.body), self.write(node.orelse))

    def _write_call(self, node: ast.Call) -> ast.expr:
        name = str(getattr(node.func, "id", getattr(node.func, "attr", "")))
        if name == "len" and len(node.args) == 1:
            count = count_items(node.args[0], self.frame)
            if count is None or math.isinf(count):
                raise UnreadableError(ast.unparse(node))
            return ast.Constant(int(count))
        if name == "hasattr" and len(node.args) == 2:
            return self._write_hasattr(node)
        is_of_math = isinstance(node.func, ast.Name) or getattr(node.func.value, "id", "") == "math"  # type: ignore[attr-defined]
        if name not in FUNCTIONS or node.keywords or not is_of_math:
            raise UnreadableError(ast.unparse(node))
        return ast.Call(ast.Name(name, ast.Load()), [self.write(argument) for argument in node.args], [])

    def _write_hasattr(self, node: ast.Call) -> ast.expr:
        owner, name = node.args[0], read_value(node.args[1], self.frame)
        if self._find_key(owner) is not None or self._is_missing(owner) or type(name) is not str:
            raise UnreadableError(ast.unparse(node))
        value, missing = read_value(owner, self.frame), object()
        found = inspect.getattr_static(value, name, missing) is not missing
        if not found and hasattr(type(value), "__getattr__") and not isinstance(value, nn.Module):  # pyright: ignore[reportUnknownArgumentType]
            raise UnreadableError(ast.unparse(node))
        inside = isinstance(value, nn.Module) and any(
            name in vars(value).get(kind, ()) for kind in ("_modules", "_parameters", "_buffers")
        )
        return ast.Constant(found or inside)


def evaluate(written: ast.expr) -> Any:
    """Return the value of an expression that was written without variables."""
    try:
        return read_expression(written)({})
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UnreadableError(str(error)) from error


def is_accelerator(value: object) -> bool:
    """Return whether an object is Accelerate's."""
    return any(
        f"{kind.__module__}.{kind.__name__}" == "accelerate.accelerator.Accelerator"
        for kind in type(value).__mro__
    )
