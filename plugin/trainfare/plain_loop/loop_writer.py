"""Writes the statements of one frame as a program of counters: what stands around a line, and what comes to it."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any, Final, TypeGuard, cast

from trainfare.plain_loop.loop_expressions import SYNC, Expressions, Key, UnreadableError, is_accelerator
from trainfare.plain_loop.loop_parts import LoopFacts, SharedParts, Statements
from trainfare.plain_loop.loop_source import (
    describe_place,
    find_body,
    is_loader,
    list_exits,
    list_stored,
    unwrap_items,
    walk_scope,
)
from trainfare.script.frame_values import Loop, count_items, find_column, read_value

MOST_ROUNDS: Final = 2_000_000
"""Rounds that are counted through; above them a length is not known. Chosen: a few seconds."""
PASSES: Final = "_passes"
"""Variable: batches since Accelerate's last step."""
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)


class FrameWriter:
    """Writes the part of one frame."""

    def __init__(
        self, frame: FrameType, depth: int, frames: Sequence[FrameType], shared: SharedParts
    ) -> None:
        self.frame, self.depth, self._frames, self._shared = frame, depth, frames, shared
        self._line, self._code = frame.f_lineno, frame.f_code
        self._column = find_column(frame)
        self._is_last = depth == len(frames) - 1
        self._region = shared.regions[depth]
        self._stored = list_stored(self._region)
        self._expressions = Expressions(frame, self._find_key, shared.name_variable)
        self._in_loop = 0
        self._callee = "step" if self._is_last else frames[depth + 1].f_code.co_name
        self._calls = {
            ast.unparse(call.func)
            for statement in self._region
            for call in ast.walk(statement)
            if self._calls_callee(call) and self._contains_line([call])
        }

    def _check_other_calls(self) -> None:
        """Refuse a line that is come to outside of the loops, too: they are not the whole training."""
        inside = {id(part) for part in walk_scope(self._region)}
        for node in walk_scope(find_body(self.frame)):
            if id(node) not in inside and self._calls_callee(node) and ast.unparse(node.func) in self._calls:
                place = self._place(node.lineno)
                raise UnreadableError(f"whether {self._callee} is called at {place}, too")

    def _calls_callee(self, node: ast.AST) -> TypeGuard[ast.Call]:
        if not isinstance(node, ast.Call):
            return False
        return getattr(node.func, "id", getattr(node.func, "attr", "")) == self._callee

    def write(self) -> Statements:
        """Return the function of the frame."""
        if not self.depth:
            self._check_other_calls()
        self._last_batch = self._shared.last_batch
        return self._write_block(self._region)

    def read_variables(self) -> dict[str, Any]:
        """Return the plain values now of the variables that are this frame's, of its module or of its objects."""
        values: dict[str, Any] = {}
        for key, variable in self._shared.variables.items():
            owner: Mapping[object, Any] = {}
            if key[:2] == ("l", self.depth):
                owner = cast("Mapping[object, Any]", self.frame.f_locals)
            elif key[:2] == ("g", id(self.frame.f_globals)):
                owner = cast("Mapping[object, Any]", self.frame.f_globals)
            elif key[0] == "a" and key[1] in self._owners:
                owner = cast("Mapping[object, Any]", vars(self._owners[key[1]]))
            if type(owner.get(key[-1])) in (int, float, bool):
                values[variable] = owner[key[-1]]
        return values

    # Names.

    @property
    def _owners(self) -> dict[object, Any]:
        held = [*self.frame.f_locals.values(), *self.frame.f_globals.values()]
        return {id(value): value for value in held if hasattr(value, "__dict__")}

    def _find_key(self, node: ast.expr) -> Key | None:
        """Return the key of what a statement of the loops assigns; None for what stays as it is."""
        if isinstance(node, ast.Name):
            return self._key_of_name(node.id) if self._is_stored(node.id) else None
        if isinstance(node, ast.Attribute) and node.attr in self._shared.stored_attributes:
            owner = read_value(node.value, self.frame)
            return ("a", id(owner), node.attr) if hasattr(owner, "__dict__") else None
        return None

    def _is_stored(self, name: str) -> bool:
        is_own = name in (*self._code.co_varnames, *self._code.co_cellvars)
        is_given = ("l", self.depth, name) in self._shared.parameters
        return name in self._stored or is_given or (not is_own and name in self._shared.stored_outside)

    def _key_of_name(self, name: str) -> Key:
        if name in self._code.co_freevars:
            for depth in range(self.depth - 1, -1, -1):
                if name in self._frames[depth].f_code.co_cellvars:
                    return ("l", depth, name)
            raise UnreadableError(name)
        is_local = name in (*self._code.co_varnames, *self._code.co_cellvars)
        return ("l", self.depth, name) if is_local else ("g", id(self.frame.f_globals), name)

    def _give_up(self, nodes: Iterable[ast.AST], *, calls: bool = True) -> None:
        """
        Take what is assigned anywhere in some nodes as unreadable.

        Args:
            nodes: that are left out.
            calls: refuse those that call what the line calls.
        """
        for node in walk_scope(nodes):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
                owner = read_value(node.value, self.frame)
                if hasattr(owner, "__dict__"):
                    self._shared.unreadable.add(("a", id(owner), node.attr))
                else:
                    self._shared.unreadable_attributes.add(node.attr)
            elif calls and self._calls_callee(node) and ast.unparse(node.func) in self._calls:
                place = self._place(node.lineno)
                if not self._contains_line([node]):
                    raise UnreadableError(f"whether {self._callee} is called at {place}, too")
        for name in list_stored(nodes):
            if not name.startswith("."):
                self._shared.unreadable.add(self._key_of_name(name))

    # Statements.

    def _contains_line(self, nodes: Collection[ast.AST]) -> bool:
        return any(map(self._is_at, nodes))

    def _is_at(self, node: Any) -> bool:
        """Return whether the frame is in a node; of several statements on its line in the one that runs."""
        if not getattr(node, "lineno", math.inf) <= self._line <= getattr(node, "end_lineno", 0):
            return False
        at, column = (self._line, self._column), getattr(node, "col_offset", None)
        if self._column is None or column is None:
            return True
        return (node.lineno, column) <= at < (node.end_lineno, node.end_col_offset)

    def _write_block(self, statements: Sequence[ast.stmt]) -> Statements:
        if self._column is None and sum(map(self._is_at, statements)) > 1:
            raise UnreadableError(f"which statement of line {self._line} steps")
        return [written for statement in statements for written in self._write_statement(statement)]

    def _write_statement(self, node: ast.stmt) -> Statements:
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            return self._write_loop(node)
        if isinstance(node, ast.If):
            return self._write_if(node)
        if isinstance(node, (ast.With, ast.AsyncWith)):
            return self._write_with(node)
        if isinstance(node, ast.Try):
            return self._write_try(node)
        if isinstance(node, (ast.Break, ast.Continue)):
            return [node]
        reaches = self._contains_line([node])
        if reaches and isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Match, ast.Lambda)):
            raise UnreadableError(f"line {node.lineno}")
        if isinstance(node, ast.Match):
            return self._leave_out([node])
        if isinstance(node, ast.Return):
            return [*(self._reach(node) if reaches else []), ast.Return()]
        if reaches or self._calls_too(node):
            around = [part for part in ast.walk(node) if isinstance(part, _COMPREHENSIONS)]
            if self._contains_line(around) or (around and not reaches):
                raise UnreadableError(f"line {node.lineno}")
            reached = self._reach(node)
            self._give_up([node], calls=False)
            return reached
        return self._write_assignment(node)

    def _calls_too(self, node: ast.stmt) -> bool:
        """Return whether a statement calls what the line calls."""
        return any(
            self._calls_callee(part) and ast.unparse(part.func) in self._calls for part in walk_scope([node])
        )

    def _reach(self, node: ast.stmt) -> Statements:
        """Return what stands for the line, or for another one that calls the same."""
        if not self._is_last:
            self._shared.last_batch = self._last_batch
            calls = [part for part in walk_scope([node]) if self._calls_callee(part)]
            names = self._code.co_varnames[: self._code.co_argcount + self._code.co_kwonlyargcount]
            handed = [part for part in walk_scope([node]) if getattr(part, "id", "") in names]
            if not calls and any(
                isinstance(part, ast.Call) and part.func in handed for part in walk_scope([node])
            ):
                raise UnreadableError(f"which function line {node.lineno} is handed")
            given = self._write_arguments(calls[0] if len(calls) == 1 else None)
            return [*given, _call(f"_f{self.depth + 1}")]
        if not self._shared.loops:
            raise UnreadableError("no loop")
        return [ast.If(ast.Name(SYNC, ast.Load()), [_call("_step")], [])]

    def _write_arguments(self, call: ast.Call | None) -> Statements:
        """Return the assignment of what a call gives the function of the next frame."""
        inner, depth = self._frames[self.depth + 1], self.depth + 1
        code = inner.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        given: dict[str, ast.expr] = {}
        known = call is not None and not any(isinstance(value, ast.Starred) for value in call.args)
        if call is not None and known:
            bound = isinstance(call.func, ast.Attribute) and names[:1] in (("self",), ("cls",))
            given = dict(zip(names[bound:], call.args, strict=False))
            given |= {word.arg: word.value for word in call.keywords if word.arg is not None}
            known = all(word.arg is not None for word in call.keywords)
        written: Statements = []
        for name in names:
            key = ("l", depth, name)
            if type(inner.f_locals.get(name)) not in (int, float, bool, str, type(None)):
                continue
            self._shared.parameters.add(key)
            try:
                if not known or (name not in given and name in list_stored(self._shared.regions[depth])):
                    raise UnreadableError(name)  # noqa: TRY301
                value = given.get(name)
                expression = (
                    ast.Constant(inner.f_locals[name]) if value is None else self._expressions.write(value)
                )
                variable = self._shared.name_variable(key)
                self._note(variable, grows=False)
                written.append(_assign(variable, expression))
            except UnreadableError:
                self._shared.unreadable.add(key)
        return written

    def _write_assignment(self, node: ast.stmt) -> Statements:
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets, value = [node.target], node.value
        target = targets[0] if len(targets) == 1 else None
        if value is None or not isinstance(target, (ast.Name, ast.Attribute)):
            self._give_up([node])
            return []
        try:
            key = self._find_key(target)
            if key is None:
                return []
            variable = self._shared.name_variable(key)
            if isinstance(node, ast.AugAssign):
                load = ast.Name(variable, ast.Load())
                by = self._expressions.write(value)
                if not isinstance(node.op, (ast.Add, ast.Sub)):
                    raise UnreadableError(ast.unparse(node))  # noqa: TRY301
                self._note(variable, grows=isinstance(by, ast.Constant))
                written: ast.expr = ast.BinOp(load, node.op, by)
            else:
                written = self._expressions.write(value)
                if isinstance(written, ast.Constant) and not isinstance(written.value, (int, float)):
                    raise UnreadableError(ast.unparse(node))  # noqa: TRY301
                self._note(variable, grows=False)
        except UnreadableError:
            self._give_up([node])
            return []
        return [_assign(variable, written)]

    def _note(self, variable: str, *, grows: bool) -> None:
        self._shared.assigned.add(variable)
        if not grows:
            self._shared.reset.add(variable)

    def _leave_out(self, nodes: Sequence[ast.AST]) -> Statements:
        """Leave out what cannot be read: what it assigns is not known, and where it leaves a loop, it may end there."""
        self._give_up(nodes)
        for what, line in list_exits(nodes):
            if self._in_loop or line < self._line:
                self._shared.exits.append(f"{what} at {self._place(line)}")
        return []

    def _write_if(self, node: ast.If) -> Statements:
        if self._contains_line([node.test]) and not self._contains_line([*node.body, *node.orelse]):
            raise UnreadableError(f"the condition at line {node.lineno}")
        try:
            test = self._read_test(node.test)
        except UnreadableError as error:
            if self._contains_line([*node.body, *node.orelse]):
                raise UnreadableError(f"the condition at {self._place(node.lineno)} ({error})") from error
            return self._leave_out([*node.body, *node.orelse])
        if isinstance(test, ast.Constant):
            taken, other = (node.body, node.orelse) if test.value else (node.orelse, node.body)
            if self._contains_line(other):
                raise UnreadableError(f"the condition at {self._place(node.lineno)}")
            return self._write_block(taken)
        body, orelse = self._write_block(node.body), self._write_block(node.orelse)
        return [ast.If(test, body or [ast.Pass()], orelse)] if body or orelse else []

    def _read_test(self, node: ast.expr) -> ast.expr:
        test = self._expressions.write_test(node)
        self._shared.read |= {part.id for part in ast.walk(test) if isinstance(part, ast.Name)}
        return test

    def _write_try(self, node: ast.Try) -> Statements:
        if self._contains_line(node.handlers):
            raise UnreadableError(f"line {node.lineno}")
        self._leave_out([h for h in node.handlers if "KeyboardInterrupt" not in ast.dump(h.type or h)])
        return self._write_block([*node.body, *node.orelse, *node.finalbody])

    def _write_with(self, node: ast.With | ast.AsyncWith) -> Statements:
        self._give_up([item.optional_vars for item in node.items if item.optional_vars is not None])
        before: Statements = []
        for item in node.items:
            call = item.context_expr
            if (
                self._contains_line(node.body)
                and isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
            ):
                owner = read_value(call.func.value, self.frame)
                if call.func.attr == "accumulate" and is_accelerator(owner):
                    before = self._write_accumulation(owner)
        return [*before, *self._write_block(node.body)]

    def _write_accumulation(self, accelerator: Any) -> Statements:
        """Return what decides whether Accelerate's optimizer steps: as its `_do_sync` does."""
        said = accelerator.gradient_state.plugin_kwargs
        every, ends = int(said.get("num_steps") or 1), bool(said.get("sync_with_dataloader", True))
        if every == 1:
            return []
        if self._last_batch is None:
            raise UnreadableError(
                "where Accelerate's accumulation ends, outside of a loop over its DataLoader"
            )
        last: ast.expr = self._last_batch if ends else ast.Constant(value=False)
        ends_step = f"{PASSES} = 0\n{SYNC} = True"
        counts = f"{PASSES} = {PASSES} + 1\n{SYNC} = {PASSES} % {every} == 0"
        return [ast.If(last, _parse(ends_step), _parse(counts))]

    # Loops.

    def _write_loop(self, node: Loop) -> Statements:
        if not self._contains_line([node]):
            self._give_up([node])
            returns = [part.lineno for part in ast.walk(node) if isinstance(part, ast.Return)]
            self._shared.exits.extend(f"a return at {self._place(line)}" for line in returns)
            return []
        if not self._contains_line(node.body):
            raise UnreadableError(f"line {node.lineno}")
        outer, self._in_loop = self._last_batch, self._in_loop + 1
        counter = f"_r{len(self._shared.loops)}"
        self._shared.counters.append(counter)
        written = (
            self._write_while(node, _add(counter))
            if isinstance(node, ast.While)
            else self._write_for(node, _add(counter))
        )
        self._last_batch, self._in_loop = outer, self._in_loop - 1
        return written

    def _write_while(self, node: ast.While, count: Statements) -> Statements:
        try:
            test = self._read_test(node.test)
        except UnreadableError as error:
            raise UnreadableError(f"the condition at {self._place(node.lineno)} ({error})") from error
        rounds = math.inf if isinstance(test, ast.Constant) else None
        self._shared.loops.append(LoopFacts(self._place(node.lineno), rounds))
        self._last_batch = None
        return [ast.While(test, [*count, *self._write_block(node.body)], [])]

    def _write_for(self, node: ast.For | ast.AsyncFor, count: Statements) -> Statements:
        items, index, start = unwrap_items(node.iter), None, ast.Constant(0)
        targets: list[ast.expr] = [node.target]
        is_enumerated = (
            isinstance(items, ast.Call) and getattr(items.func, "id", "") == "enumerate" and items.args
        )
        if isinstance(items, ast.Call) and is_enumerated:
            given = [*items.args[1:2], *(word.value for word in items.keywords if word.arg == "start")]
            items = unwrap_items(items.args[0])
            if isinstance(node.target, ast.Tuple) and len(node.target.elts) == 2:
                index, targets = node.target.elts[0], node.target.elts[1:]
                with_start = self._expressions.write(given[0]) if given else start
                start = with_start if isinstance(with_start, ast.Constant) else start
                if start is not with_start:
                    raise UnreadableError(ast.unparse(node.iter))
        place = self._place(node.lineno)
        limits: list[ast.expr] | None = None
        if isinstance(items, ast.Call) and getattr(items.func, "id", getattr(items.func, "attr", "")) in (
            "range",
            "trange",
        ):
            limits = [self._read_test(argument) for argument in items.args]
        if limits and not is_enumerated and isinstance(node.target, ast.Name):
            index, targets = node.target, []
        turn = f"_i{len(self._shared.loops)}"
        self._shared.counters.insert(0, turn)
        self._give_up(targets)
        if limits:
            known = all(isinstance(limit, ast.Constant) for limit in limits)
            number: float | None = len(range(*(limit.value for limit in limits))) if known else None  # type: ignore[attr-defined]
            source: ast.expr = ast.Call(ast.Name("range", ast.Load()), limits, [])
            if index is node.target:
                turn_value: ast.expr = ast.Name(turn, ast.Load())
            else:
                source, number = self._enumerate(number, source)
                turn_value = ast.BinOp(ast.Name(turn, ast.Load()), ast.Add(), start)
        else:
            self._check_remade(items, node)
            number = count_items(items, self.frame)
            if number is None:
                self._shared.endless.append(place)
            source, number = self._enumerate(number, None)
            turn_value = ast.BinOp(ast.Name(turn, ast.Load()), ast.Add(), start)
        self._last_batch = None
        of_batches = is_loader(items, self.frame)
        if of_batches and number is not None and not math.isinf(number):
            self._last_batch = ast.Compare(
                ast.Name(turn, ast.Load()), [ast.Eq()], [ast.Constant(int(number) - 1)]
            )
        self._shared.loops.append(LoopFacts(place, number, of_batches))
        before = [*count]
        if isinstance(index, ast.Name):
            key = self._key_of_name(index.id)
            try:
                variable = self._shared.name_variable(key)
                before.append(_assign(variable, turn_value))
                self._note(variable, grows=False)
            except UnreadableError:
                pass
        elif index is not None:
            self._give_up([index])
        return [ast.For(ast.Name(turn, ast.Store()), source, [*before, *self._write_block(node.body)], [])]

    @staticmethod
    def _enumerate(number: float | None, source: ast.expr | None) -> tuple[ast.expr, float | None]:
        """Return what gives the numbers of as many items from 0 on, and how many these are."""
        if number is None and source is not None:
            raise UnreadableError("enumerate of a range that changes")
        if number is None or math.isinf(number):
            return ast.Call(ast.Name("_endless", ast.Load()), [], []), number
        return ast.Call(ast.Name("range", ast.Load()), [ast.Constant(int(number))], []), number

    def _check_remade(self, items: ast.expr, node: ast.stmt) -> None:
        """Refuse data that one of several statements may have made; where a condition never changes, one has."""
        for name in {part.id for part in ast.walk(items) if isinstance(part, ast.Name)} & self._stored:
            never = set[int]()
            for outer in (
                part for statement in self._region for part in ast.walk(statement)
            ):  # outer ones first
                if not isinstance(outer, ast.If) or id(outer) in never or self._contains_line([outer]):
                    continue
                if name not in list_stored([outer]):
                    continue
                try:
                    test = self._expressions.write_test(outer.test)
                except UnreadableError:
                    test = outer.test
                if not isinstance(test, ast.Constant):
                    raise UnreadableError(f"which {name} the loop at {self._place(node.lineno)} goes over")
                left_out = outer.orelse if test.value else outer.body
                never |= {id(part) for statement in left_out for part in ast.walk(statement)}

    def _place(self, line: int) -> str:
        return describe_place(self._code.co_filename, line)


def _call(name: str) -> ast.stmt:
    return ast.Expr(ast.Call(ast.Name(name, ast.Load()), [], []))


def _assign(variable: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(variable, ast.Store())], value)


def _add(variable: str) -> Statements:
    return _parse(f"{variable} = {variable} + 1\nif {variable} > {MOST_ROUNDS}:\n _stop()")


def _parse(text: str) -> Statements:
    return ast.parse(text).body
