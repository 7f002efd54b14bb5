"""
Mutants of one file, made by rule: comparisons, arithmetic, logic, numbers, branches and dropped statements.

mutmut and cosmic-ray have such rules too; `ARCHITECTURE.md` says why they are not used.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from mutants.mutant import DRAWN, TOP, Mutant, files_of

_LINES_A_MUTANT: Final = 90
_FEWEST, _MOST = 1, 4
"""Of a file: one for each 90 lines, at least one. Chosen so that all run in 20 minutes."""

_EASY: Final = {"no result"}
"""Taken where a file has too few others: whoever uses the result fails at once, which flatters the score."""

_COMPARED: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
_OPPOSITE: Final[dict[type[ast.cmpop], str]] = {ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<"}
_COUNTED: Final[dict[type[ast.operator], str]] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
_NAMED: Final = (ast.Name, ast.Attribute, ast.Constant, ast.BinOp)
_SYMMETRIC: Final = {"min", "max", "minimum", "maximum", "hypot", "gcd", "lcm", "logical_and", "logical_or"}
"""Functions of which no test can tell the order of two arguments."""
_TEXT: Final = (ast.JoinedStr, ast.List, ast.Tuple)


@dataclass(frozen=True)
class _Place:
    """Where a node stands: inside a function or not, the names around it, and whether an `if` asks it."""

    in_function: bool
    names: str
    is_test: bool = False


def sample(file: str, seed: int) -> list[Mutant]:
    """
    Return some mutants of a file, no two of one line: the same for a seed while the code around them is the same.

    Args:
        file: below `TOP`.
        seed: another one gives others.
    """
    source = (TOP / file).read_text(encoding="utf-8")
    count = min(_MOST, max(_FEWEST, round(source.count("\n") / _LINES_A_MUTANT)))
    taken: set[int] = set()
    chosen: list[Mutant] = []
    for mutant in sorted(
        all_mutants(file, source), key=lambda mutant: (mutant.operator in _EASY, _draw(mutant, seed))
    ):
        lines = set(mutant.lines(source))
        if not lines & taken:
            taken |= lines
            chosen.append(mutant)
        if len(chosen) == count:
            break
    return chosen


def draw(seed: int) -> list[Mutant]:
    """
    Return mutants of the files of `DRAWN` in the order of a draw, no two of one line.

    Every change has the same chance, whatever its file, but those of `_EASY`, which are left out.

    Args:
        seed: of the draw, 1 or more.
    """
    drawn: dict[tuple[str, int], tuple[str, Mutant]] = {}
    for file in files_of(DRAWN):
        source = (TOP / file).read_text(encoding="utf-8")
        for mutant in all_mutants(file, source, drawn=True):
            if mutant.operator not in _EASY:
                entry = _draw(mutant, seed), replace(mutant, seed=seed)
                place = file, mutant.lines(source)[0]
                drawn[place] = min(drawn.get(place, entry), entry, key=lambda entry: entry[0])
    return [mutant for _, mutant in sorted(drawn.values(), key=lambda entry: entry[0])]


def _draw(mutant: Mutant, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{mutant.name}".encode()).hexdigest()


def all_mutants(file: str, source: str, *, drawn: bool = False) -> list[Mutant]:
    """
    Return every mutant that the rules make of a file; their names are unique.

    Args:
        file: below the top.
        source: its text.
        drawn: also by the rules that draws alone have, so that the list of every run stays as it is.
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    mutants: list[Mutant] = []
    counts: dict[str, int] = {}
    for node, position in _nodes(ast.parse(source), _Place(in_function=False, names="")):
        for operator, new in (*_changes(node, position), *(_drawn_changes(node) if drawn else ())):
            start = _offset(source, starts, node.lineno, node.col_offset)
            end = _offset(source, starts, node.end_lineno or 0, node.end_col_offset or 0)
            old = source[start:end]
            name = (
                f"{file}: {position.names or 'module'}: {operator}: `{_short(old)}` becomes `{_short(new)}`"
            )
            counts[name] = counts.get(name, 0) + 1
            if counts[name] > 1:
                name += f" ({counts[name]})"
            mutants.append(Mutant(name, file, start, old, new, operator=operator))
    return mutants


def _short(code: str) -> str:
    flat = " ".join(code.split())
    return flat if len(flat) <= 70 else f"{flat[:50]} ... {flat[-16:]}"


def _offset(source: str, starts: list[int], line: int, column_bytes: int) -> int:
    """Return the place of a node in characters; `ast` counts the bytes of its line."""
    begin = starts[line - 1]
    text = source[begin : starts[line]].encode()[:column_bytes]
    return begin + len(text.decode())


def _nodes(node: ast.AST, position: _Place) -> Iterator[tuple[ast.expr | ast.stmt, _Place]]:
    """Yield what may be changed, and where it stands: no types, decorators, texts or documentation."""
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "bases", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr) or _is_for_types(child):
                continue
            below = position
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inside = position.in_function or isinstance(child, ast.FunctionDef)
                below = _Place(inside, f"{position.names}.{child.name}" if position.names else child.name)
            if isinstance(child, (ast.expr, ast.stmt)):
                yield child, replace(position, is_test=field == "test" and isinstance(node, ast.If))
            yield from _nodes(child, below)


def _is_for_types(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return isinstance(target, ast.Name) and target.id in {"__all__", "__slots__"}


def _changes(node: ast.expr | ast.stmt, position: _Place) -> Iterator[tuple[str, str]]:
    """Yield the kinds of change of a node and what it becomes."""
    if isinstance(node, ast.stmt):
        yield from _statement(node, position)
    elif isinstance(node, ast.Compare):
        operators: list[ast.cmpop] = list(node.ops)
        swapped = _COMPARED[type(operators[0])]
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        rest = "".join(
            f" {ast.unparse(ast.Compare(ast.Name('x'), [op], [value]))[2:]}"
            for op, value in zip(operators[1:], node.comparators[1:], strict=True)
        )
        yield (
            "comparison",
            f"({_parenthesize(node.left, left)} {swapped} {_parenthesize(node.comparators[0], right)}{rest})",
        )
    elif isinstance(node, ast.BinOp):
        mark = _COUNTED.get(type(node.op))
        if mark and position.in_function and not _has_text(node):
            yield "arithmetic", f"(({ast.unparse(node.left)}) {mark} ({ast.unparse(node.right)}))"
    elif isinstance(node, ast.BoolOp):
        mark = "or" if isinstance(node.op, ast.And) else "and"
        yield "logic", "(" + f" {mark} ".join(f"({ast.unparse(value)})" for value in node.values) + ")"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        yield "negation", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.IfExp):
        yield "branch", f"({ast.unparse(node.body)})"
        yield "branch", f"({ast.unparse(node.orelse)})"
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
        if any(part.ifs for part in node.generators):
            expression = ast.parse(ast.unparse(node), mode="eval").body
            for part in getattr(expression, "generators", ()):
                part.ifs = []
            yield "filter", ast.unparse(expression)
    elif isinstance(node, ast.Constant):
        yield from _constant(node.value)
    if position.is_test and isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
        yield "negation", f"(not {ast.unparse(node)})"


def _parenthesize(node: ast.expr, text: str) -> str:
    return (
        f"({text})"
        if isinstance(node, (ast.Compare, ast.BoolOp, ast.Lambda, ast.IfExp, ast.UnaryOp))
        else text
    )


def _constant(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "truth", str(not value)
    elif isinstance(value, int):
        yield "number", str(value + 1)
    elif isinstance(value, float):
        yield "number", repr(value * 2 if value else 1.0)


def _drawn_changes(node: ast.expr | ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the opposite of a comparison, a smaller number, and a call with its first two arguments swapped."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPPOSITE:
        sides = node.left, node.comparators[0]
        left, right = (_parenthesize(side, ast.unparse(side)) for side in sides)
        yield "opposite comparison", f"({left} {_OPPOSITE[type(node.ops[0])]} {right})"
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value:
        yield "smaller number", str(node.value - 1 if isinstance(node.value, int) else node.value / 2)
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        first, second, *rest = node.args
        # Of unlike kinds one would fail at once as what it is not, which flatters the score.
        alike = type(first) is type(second) and isinstance(first, _NAMED)
        name = ast.unparse(node.func).rpartition(".")[2]
        if alike and ast.dump(first) != ast.dump(second) and name not in _SYMMETRIC:
            yield "swapped arguments", ast.unparse(ast.Call(node.func, [second, first, *rest], node.keywords))


def _statement(node: ast.stmt, position: _Place) -> Iterator[tuple[str, str]]:
    if not position.in_function:
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Yield, ast.YieldFrom)):
        yield "dropped call", "pass"
    elif isinstance(node, (ast.Raise, ast.AugAssign, ast.Continue, ast.Break)):
        yield "dropped statement", "pass"
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node) != "return None":
        yield "no result", "return None"


def _has_text(node: ast.BinOp) -> bool:
    """Return whether an operator joins texts or lists: `-` on them fails at once and says nothing."""
    return any(
        isinstance(part, _TEXT) or (isinstance(part, ast.Constant) and isinstance(part.value, (str, bytes)))
        for part in ast.walk(node)
    )
