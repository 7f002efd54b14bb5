"""Run the code cells of a notebook as one script; what only IPython understands is left out."""

from __future__ import annotations

import json
import linecache
import re
import sys
from importlib.abc import InspectLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final, cast

from trainfare.job.loop import do_nothing
from trainfare_core.errors import TargetError
from trainfare_providers.disk.files import read_input

_MAX_BYTES: Final = 64 * 2**20
"""Chosen: far above a notebook with its figures."""
_PYTHON_CELLS: Final = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Cell magics whose cell is Python."""
_MAGIC: Final = re.compile(r"%{1,2}[A-Za-z]|!|\?|[\w.]+\?{1,2}$")
"""A line magic, a shell command, or a question about a name; `% x` can continue an expression."""


def run_notebook(path: Path) -> None:
    """
    Run the code cells of a notebook in `__main__`, in their order.

    Raises:
        TargetError: the file is no notebook.
    """
    main = ModuleType("__main__")
    main.__file__ = str(path)
    vars(main)["display"] = do_nothing
    sys.modules["__main__"] = main
    for number, source in enumerate(code_cells(path), 1):
        _Cell(f"{path}[cell {number}]", source).exec_module(main)


class _Cell(InspectLoader):
    """Runs the source of one cell in a module that exists, under a file name of its own."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)

    def get_source(self, fullname: str) -> str:  # noqa: ARG002 - the signature of a loader
        return self._source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_source(fullname), self._name)


def code_cells(path: Path) -> list[str]:
    """
    Return the Python of each code cell.

    Raises:
        TargetError: the file is no notebook.
    """
    text = read_input(path, _MAX_BYTES, kind="a notebook", error=TargetError)
    try:
        cells = json.loads(text)["cells"]
        sources: list[Any] = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return [_python("".join(cast("list[str]", source))) for source in sources]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise TargetError(f"{path}: not a notebook of format 4") from error


def _python(source: str) -> str:
    """Return a cell with each line for IPython replaced by one that does nothing."""
    lines = source.splitlines(keepends=True)
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and not first.startswith(_PYTHON_CELLS):
        return ""
    plain: list[str] = []
    continued = False
    for line in lines:
        stripped = line.strip()
        if continued or _MAGIC.match(stripped):
            indent = line[: len(line) - len(line.lstrip())]
            plain.append("\n" if continued else f"{indent}pass\n")
            continued = stripped.endswith("\\")
        else:
            plain.append(line)
    return "".join(plain)
