"""
The loops around a line as a program of counters alone: their rounds, what they count, and what ends them.

It is written from the source and plain values of the frames, and calls nothing of the user's.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from trainfare.plain_loop.loop_expressions import SYNC, Key
from trainfare.plain_loop.loop_parts import LoopFacts, SharedParts, Statements
from trainfare.plain_loop.loop_source import find_body, list_shared, list_stored
from trainfare.plain_loop.loop_writer import PASSES, FrameWriter
from trainfare.script.frame_values import Loop


@dataclass(slots=True)
class LoopProgram:
    """
    The program of some frames.

    Attributes:
        functions: `_f0` runs the loops; the last one calls `_step` at the line.
        rounds: the variable that counts those of the innermost loop.
        counters: all such variables.
        loops: outermost first.
        exits: lines at which a loop may end earlier, by what cannot be read.
        endless: loops over data whose length is not known.
        read: variables by which the program decides.
        additive: variables that only grow by constants.
        values: of the variables, now.
        keys: of the variables.
    """

    functions: Mapping[str, Statements]
    rounds: str
    counters: list[str]
    loops: list[LoopFacts]
    exits: list[str]
    endless: list[str]
    read: set[str]
    additive: set[str]
    values: dict[str, Any]
    keys: dict[str, Key]


def write_program(frames: Sequence[FrameType], first: Loop) -> LoopProgram:
    """
    Return the program of the loops around a line.

    Args:
        frames: outermost first; the last one is at the line.
        first: the outermost loop, in the first frame.

    Raises:
        UnreadableError: what decides whether the line is reached cannot be read.
    """
    regions: list[list[ast.stmt]] = [[first], *(find_body(frame) for frame in frames[1:])]
    stored = [list_stored(region) for region in regions]
    attributes = {name[1:] for names in stored for name in names if name.startswith(".")}
    outside = {
        name
        for frame, region, names in zip(frames, regions, stored, strict=True)
        for name in names & list_shared(frame, region, names)
    }
    unreadable, unreadable_attributes = set[Key](), set[str]()
    while True:
        shared = SharedParts(regions, unreadable, unreadable_attributes, attributes, outside)
        known = len(unreadable) + len(unreadable_attributes)
        writers = [FrameWriter(frame, depth, frames, shared) for depth, frame in enumerate(frames)]
        functions = {f"_f{writer.depth}": writer.write() for writer in writers}
        if len(unreadable) + len(unreadable_attributes) == known:
            break
    values = {name: value for writer in writers for name, value in writer.read_variables().items()}
    return LoopProgram(
        functions,
        shared.counters[-1],
        shared.counters,
        shared.loops,
        list(dict.fromkeys(shared.exits)),
        shared.endless,
        shared.read & set(shared.variables.values()),
        shared.assigned - shared.reset,
        values,
        {name: key for key, name in shared.variables.items()},
    )


def start_values() -> dict[str, Any]:
    """Return the values of what a program has beside its variables."""
    return {SYNC: True, PASSES: 0}
