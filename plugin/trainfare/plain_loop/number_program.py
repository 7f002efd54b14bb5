"""Runs a program of plain numbers: assignments, conditions, loops over numbers, and calls of a few known functions."""

from __future__ import annotations

import ast
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

Names: TypeAlias = dict[str, Any]
_Expression: TypeAlias = Callable[[Names], Any]
_Statement: TypeAlias = Callable[[Names], int]
_GOES_ON, _BREAKS, _CONTINUES, _RETURNS = range(4)
FUNCTIONS: Final = cast("Mapping[str, Callable[..., Any]]", {
    "int": int, "float": float, "bool": bool, "min": min, "max": max, "abs": abs, "round": round,
    "ceil": math.ceil, "floor": math.floor,
})  # fmt: skip
"""What an expression may call."""
_OF_OPERATORS: Final[Any] = operator
OPERATORS: Final[Mapping[type[ast.AST], Callable[..., Any]]] = {
    kind: getattr(_OF_OPERATORS, name)
    for kind, name in (
        (ast.Add, "add"), (ast.Sub, "sub"), (ast.Mult, "mul"), (ast.Div, "truediv"), (ast.FloorDiv, "floordiv"),
        (ast.Mod, "mod"), (ast.Not, "not_"), (ast.USub, "neg"), (ast.UAdd, "pos"), (ast.Eq, "eq"), (ast.NotEq, "ne"),
        (ast.Lt, "lt"), (ast.LtE, "le"), (ast.Gt, "gt"), (ast.GtE, "ge"),
    )
}  # fmt: skip
"""Powers and shifts are not among them, whose results may have no end."""


def read_expression(node: ast.expr) -> _Expression:
    """
    Return a function that gives the value of an expression.

    Args:
        node: of constants, names, `OPERATORS`, conditions and calls of `FUNCTIONS`.
    """
    match node:
        case ast.Constant(value=value):
            return lambda _: value
        case ast.Name(id=name):
            return operator.itemgetter(name)
        case ast.UnaryOp():
            apply, operand = OPERATORS[type(node.op)], read_expression(node.operand)
            return lambda names: apply(operand(names))
        case ast.BinOp():
            apply = OPERATORS[type(node.op)]
            left, right = read_expression(node.left), read_expression(node.right)
            return lambda names: apply(left(names), right(names))
        case ast.BoolOp():
            parts = [read_expression(value) for value in node.values]
            some: Callable[..., bool] = any if isinstance(node.op, ast.Or) else all
            return lambda names: some(part(names) for part in parts)
        case ast.Compare():
            return _read_comparison(node)
        case ast.IfExp():
            test, body, orelse = map(read_expression, (node.test, node.body, node.orelse))
            return lambda names: body(names) if test(names) else orelse(names)
        case ast.Call(func=ast.Name(id=name)):
            function, given = FUNCTIONS[name], [read_expression(argument) for argument in node.args]
            return lambda names: function(*(argument(names) for argument in given))
        case _:
            raise ValueError(ast.dump(node))


def _read_comparison(node: ast.Compare) -> _Expression:
    values = [read_expression(value) for value in (node.left, *node.comparators)]
    tests = [OPERATORS[type(op)] for op in node.ops]
    if len(tests) == 1:
        (test,), (left, right) = tests, values
        return lambda names: test(left(names), right(names))

    def compare(names: Names) -> bool:
        pairs = itertools.pairwise(value(names) for value in values)
        return all(test(*pair) for test, pair in zip(tests, pairs, strict=True))

    return compare


def read_block(nodes: Sequence[ast.stmt]) -> _Statement:
    """
    Return a function that runs statements; a call of one without arguments calls that of its name.

    Args:
        nodes: assignments to names, conditions, `while`, `for` over `range` or `_endless`, exits and calls.
    """
    statements = [_read_statement(node) for node in nodes]
    if len(statements) == 1:
        return statements[0]

    def run(names: Names) -> int:
        for statement in statements:
            exits = statement(names)
            if exits:
                return exits
        return _GOES_ON

    return run


def _read_statement(node: ast.stmt) -> _Statement:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return _read_assignment(name, read_expression(node.value))
        case ast.If():
            test, body, orelse = read_expression(node.test), read_block(node.body), read_block(node.orelse)
            return lambda names: body(names) if test(names) else orelse(names)
        case ast.While():
            test, body = read_expression(node.test), read_block(node.body)
            return lambda names: _repeat(iter(lambda: bool(test(names)), False), None, body, names)
        case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id=kind), args=limits)):
            given, body = [read_expression(limit) for limit in limits], read_block(node.body)
            make: Callable[..., Any] = range if kind == "range" else itertools.count
            return lambda names: _repeat(make(*(limit(names) for limit in given)), name, body, names)
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[])):
            return _read_call(name)
        case ast.Break() | ast.Continue() | ast.Return() | ast.Pass():
            kinds: Mapping[type[ast.stmt], int] = {
                ast.Break: _BREAKS, ast.Continue: _CONTINUES, ast.Return: _RETURNS
            }  # fmt: skip
            exits = kinds.get(type(node), _GOES_ON)
            return lambda _: exits
        case _:
            raise ValueError(ast.dump(node))


def _read_call(name: str) -> _Statement:
    def call(names: Names) -> int:
        names[name]()
        return _GOES_ON

    return call


def _read_assignment(name: str, value: _Expression) -> _Statement:
    def assign(names: Names) -> int:
        names[name] = value(names)
        return _GOES_ON

    return assign


def _repeat(items: Any, name: str | None, body: _Statement, names: Names) -> int:
    for item in items:
        if name is not None:
            names[name] = item
        exits = body(names)
        if exits == _BREAKS:
            break
        if exits == _RETURNS:
            return _RETURNS
    return _GOES_ON
