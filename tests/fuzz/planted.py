"""
Whether fuzzing would notice: faults planted in a copy of the readers, and how many inputs each target needs to report one.

    PYTHONPATH=COPY/core:COPY/providers:COPY/plugin:tests python -m fuzz.planted
"""

from __future__ import annotations

import ast
import importlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from fuzz.mutations import mutate
from fuzz.target import Target, refusal
from fuzz.targets import TARGETS

MOST_INPUTS: Final = 200
"""A tenth of what the slowest target reads in ten minutes."""
_FAULT: Final = "planted in "


def plant_faults(source: str, module: str) -> tuple[str, int]:
    """
    Return the text of a module whose every refusal ends the process instead, and their number.

    A refusal is a `raise`, the first statement of an `except`, or what an `if` returns of nothing but a text or None, as
    the readers of rows do: what is reached by inputs that are no document, or hold a row that is none.

    Args:
        source: of the module.
        module: how the fault names it.
    """
    places: list[ast.stmt] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            places.append(node.body[0])
        elif isinstance(node, ast.Raise) and node.exc is not None:
            places.append(node)
        elif isinstance(node, ast.If):
            places += [
                child for child in node.body if isinstance(child, ast.Return) and _is_reason(child.value)
            ]
    by_line = {node.lineno: node for node in places}
    lines = source.splitlines(keepends=True)
    for line, node in sorted(by_line.items(), reverse=True):
        indent = lines[line - 1][: node.col_offset]
        lines[line - 1 : line - 1] = [f"{indent}raise SystemExit({_FAULT + module!r})\n"]
    return "".join(lines), len(by_line)


def _is_reason(value: ast.expr | None) -> bool:
    return value is None or isinstance(value, (ast.Constant, ast.JoinedStr))


def _inputs(target: Target) -> Iterator[bytes]:
    """Yield what a fuzzer without a corpus begins with: the seeds, and changes of them."""
    seeds = [seed for seed in target.seeds() if len(seed) <= target.max_bytes]
    yield from seeds
    dice = Random(0)

    def change(data: bytes, _max_bytes: int) -> bytes:
        index = dice.randint(0, len(data))
        return data[:index] + dice.randbytes(2) + data[index + 1 :]

    for _ in range(MOST_INPUTS - len(seeds)):
        yield mutate(target.form, dice.choice(seeds), target.max_bytes, dice, change)


def count_inputs(target: Target) -> int | None:
    """Return after how many inputs a target reports a fault in a module of its own; None where it reports none."""
    for number, data in enumerate(_inputs(target), 1):
        try:
            refusal(target, data)
        except SystemExit as error:
            if str(error).removeprefix(_FAULT) in target.modules:
                return number
        except UnicodeEncodeError:  # a fault planted in a writer: see the tests
            return number
        except BaseException:  # a fault of another module, which another target is for
            continue
    return None


def main() -> None:
    """Print the number of inputs of each target, or of those that the arguments name, as JSON."""
    logging.disable()
    importlib.import_module("trainfare")
    names = sys.argv[1:] or [target.name for target in TARGETS.values() if target.modules]
    answer = {name: count_inputs(TARGETS[name]) for name in names}
    sys.stdout.write(json.dumps(answer))


def plant_copy(folder: Path) -> dict[str, int]:
    """Plant faults in the modules that targets name, in a copy of the sources; return how many in each."""
    planted: dict[str, int] = {}
    for module in sorted({module for target in TARGETS.values() for module in target.modules}):
        (path,) = (
            folder / root / module
            for root in ("core", "providers", "plugin")
            if (folder / root / module).is_file()
        )
        text, planted[module] = plant_faults(path.read_text(encoding="utf-8"), module)
        path.write_text(text, encoding="utf-8")
    return planted


if __name__ == "__main__":
    main()
