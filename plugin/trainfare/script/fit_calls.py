"""Calls of `fit` beside the one that is traced: loops around it, other lines with one, and several calls as one job."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from trainfare.job import LiveJob, Script, format_line, is_users_file
from trainfare.script.frame_values import count_items, list_loops
from trainfare.trace import batch_elements
from trainfare_core.number_format import list_items

if TYPE_CHECKING:
    from trainfare.job import Batches

_ALIKE_ELEMENTS: Final = 0.1
"""Share by which the batches of alike calls may differ in size. Chosen: padded texts of another part of the data differ
by less, images of another size by more."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """
    The loops of the user's code around the line that is running.

    Attributes:
        where: the line of the outermost one; "" where there is none.
        count: rounds of all of them together; None: not known.
        exact: every round comes to the line, as far as the source says.
    """

    where: str = ""
    count: int | None = 1
    exact: bool = True


def find_rounds() -> Rounds:
    """Return the loops around the line that is running, as the source of the user's code has them."""
    rounds, frame = Rounds(), inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        # A comprehension has a frame of its own before Python 3.12, on a line of the one around it.
        if is_users_file(code.co_filename) and not code.co_name.endswith(("comp>", "genexpr>")):
            for loop, exact in reversed(list_loops(frame)):
                items = None if isinstance(loop, ast.While) else count_items(loop.iter, frame)
                count = None if items is None or math.isinf(items) else int(items)
                both = None if count is None or rounds.count is None else count * rounds.count
                where = format_line(code.co_filename, loop.lineno, code.co_name)
                rounds = Rounds(where, both, rounds.exact and exact)
        frame = frame.f_back
    return rounds


def list_fit_lines(script: Script) -> list[int]:
    """Return the lines of a file in which a method `fit` is called, but for that of a base class."""
    if script.is_module or not script.name.endswith(".py"):
        return []
    nodes = ast.walk(ast.parse(Path(script.name).read_bytes()))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    methods = [node for node in called if isinstance(node, ast.Attribute) and node.attr == "fit"]
    return sorted({method.lineno for method in methods if "id='super'" not in ast.dump(method)})


def join_calls(jobs: Sequence[LiveJob], method: str) -> LiveJob:
    """Return the job of calls of a method: the first with the lengths of all that are like it; others are noted."""
    first, alike, others = jobs[0], [jobs[0]], list[str]()
    for number, job in enumerate(jobs[1:], 2):
        difference = _find_difference(first, job)
        if difference:
            others.append(f"call {number} is not counted: other {difference}; --fit {number} takes it alone")
        else:
            alike.append(job)
    part = f"{len(alike)} calls of {method}" + (f" of {len(jobs)}: the others differ" if others else "")
    notes = (
        *first.live.notes,
        f"{part}; calls with the same parameters, batches, devices and precision are taken as alike",
        *((list_items(others, 400, separator="; "),) if others else ()),
    )
    further = tuple(job.live.facts for job in alike[1:])
    return replace(first, live=replace(first.live, further=further, part=part, notes=notes))


def _find_difference(first: LiveJob, other: LiveJob) -> str:
    """Return what makes a step of another call cost something else; "" where nothing does."""
    pairs = zip(_describe_step(first).items(), _describe_step(other).values(), strict=True)
    for (name, value), another in pairs:
        same = (
            math.isclose(value, another, rel_tol=_ALIKE_ELEMENTS) if name == "samples" else value == another
        )
        if not same:
            return name
    return ""


def _describe_step(job: LiveJob) -> dict[str, Any]:
    module: Any = job.module
    parameters, batches = module.named_parameters(), cast("Batches", job.batch).found
    return {
        "parameters": (type(job.module), [(name, p.shape, p.requires_grad) for name, p in parameters]),
        "precision": job.precision,
        "devices": (job.devices, job.num_nodes, job.strategy),
        "batch size": (job.batch_size, job.accumulate_grad_batches),
        "samples": sum(batch_elements(batch) for batch in batches) / len(batches),
    }
