"""What a fuzz target is: a reader, which gives any bytes a valid document or an error of ours, and nothing else."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from trainfare_core.errors import InternalError, TrainfareError

Form: TypeAlias = Literal["json", "json lines", "csv", "text", "bytes"]
"""How `mutations.mutate` changes an input, so that much of what it makes is still a document."""

_MEMORY: Final = Path("/dev/shm")  # a disk takes longer than most readers


@dataclass(frozen=True, slots=True)
class Target:
    """
    A reader and what feeds it.

    Attributes:
        name: also of its corpus, `tests/fuzz/corpus/NAME`.
        read: reads bytes, uses what it read as a command would, and checks it; raises a `TrainfareError` for bytes
            that are no document.
        seeds: true documents.
        modules: the modules with the readers, below `core`, `providers` or `plugin`.
        max_bytes: length of an input. Small ones run many times a second and reach as much.
    """

    name: str
    read: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    form: Form
    modules: tuple[str, ...]
    max_bytes: int = 8192


def refusal(target: Target, data: bytes) -> TrainfareError | None:
    """
    Read bytes, and return the error that refuses them, or None where they are a document.

    Raises:
        BaseException: anything else that the reader raises, warnings and `InternalError` included: a finding.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            target.read(data)
        except InternalError:
            raise
        except TrainfareError as error:
            refused = error
        else:
            return None
    assert str(refused).strip(), "an error without a message"
    return refused


@contextmanager
def file_of(data: bytes, name: str) -> Iterator[Path]:
    """Write bytes to a file of this name in a folder of its own, and remove both afterwards."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path
