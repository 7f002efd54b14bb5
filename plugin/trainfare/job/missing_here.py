"""Recognize an exception of the user's code that says: what it needs is not on this machine."""

from __future__ import annotations

import json
import socket
import traceback
import urllib.error
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainfare.job.made_up_data import EXAMPLE
from trainfare.job.user_code import describe, message_of, place_in_user_code, put_user_first


@dataclass(frozen=True, slots=True)
class Missing:
    """
    What the user's code needs and this machine lacks.

    Attributes:
        what: completes "training_step ...".
        advice: what to do, one sentence.
        of_data: made-up data may take its place.
    """

    what: str
    advice: str
    of_data: bool = False

    def sentence(self, doing: str, error: BaseException, code_place: str) -> str:
        """
        Return the message of an error.

        Args:
            doing: what was being done, e.g. "training_step".
            error: what was raised.
            code_place: " at file.py:12 in function", or "".
        """
        at = f" at {put_user_first(code_place.removeprefix(' at '))}" if code_place else ""
        return f"{doing} {self.what}{at} ({describe(error)}). {self.advice}"


_TABLE: Final[dict[str, Any]] = json.loads(
    Path(__file__).with_name("missing_here.json").read_text(encoding="utf-8")
)
"""
What may be missing, each with parts of the messages that say so.

Of the network also the classes of errors that do not derive from those of Python.
"""
_KNOWN: Final = {name: Missing(**row["said"]) for name, row in _TABLE.items()}
MADE_UP: Final = f"; or describe one batch: --made-up-data --batch '{EXAMPLE}'"
"""The way on without data, for a Trainer."""
INSTEAD_OF_DATA: Final = (
    "; pretrained weights may be left out for the trace, on which no cost depends; or describe the run as a "
    "TrainingJob, with a batch that is made up"
)
"""The same for a loop of the script's own."""


def missing_here(error: BaseException) -> Missing | None:
    """
    Return what an exception says is missing on this machine, or None where it is about something else.

    >>> missing_here(FileNotFoundError(2, "No such file", "images/")).what
    'needs a file that is not here'
    """
    chain = list(_chain(error))
    texts = [message_of(link) for link in chain]

    def is_said(name: str, messages: Iterable[str] = texts) -> bool:
        return any(part in text for text in messages for part in _TABLE[name]["texts"])

    if is_said("gpu"):
        return _KNOWN["gpu"]
    line = _line_of(error)
    if (isinstance(error, AssertionError) and "cuda.is_available" in line) or is_said("gpu check", texts[:1]):
        return _KNOWN["gpu check"]
    if any(_is_of_network(link) for link in chain) or is_said("network"):
        return _KNOWN["network"]
    # A message of its own hides the file that was looked for, which then is the cause.
    if any(isinstance(link, (FileNotFoundError, NotADirectoryError)) for link in chain) or is_said("data"):
        return _KNOWN["data"]
    if any(isinstance(link, ModuleNotFoundError) and link.name == "deepspeed" for link in chain):
        return _KNOWN["deepspeed"]
    if isinstance(error, (AttributeError, TypeError)) and "'NoneType'" in texts[0]:
        return _KNOWN.get("datamodule" if "datamodule" in line else "loaders" if "dataloader" in line else "")
    return None


def describe_raised(doing: str, error: BaseException, demand: str = "", *, way_out: str = "") -> str:
    """
    Return the message for an exception of the user's code while a job is loaded.

    Args:
        doing: what was being done, e.g. "importing train.py".
        error: what was raised.
        demand: what the code must do, where nothing that it needs is missing here.
        way_out: what to do where data are missing, instead of having them.
    """
    at = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else None
    code_place = at or place_in_user_code(error.__traceback__)
    where = f" at {code_place}" if code_place else ""
    missing = missing_here(error)
    if missing is not None:
        return missing.sentence(doing, error, where) + (way_out if missing.of_data else "")
    return f"{doing} raised {describe(error)}{where}" + (f": {demand}" if demand else "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _is_of_network(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, socket.gaierror, TimeoutError)):
        return True
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return True
    names = [f"{base.__module__}.{base.__name__}" for base in type(error).__mro__]
    return not set(names).isdisjoint(_TABLE["network"]["classes"])


def _line_of(error: BaseException) -> str:
    """Return the text of the line where an exception was raised, empty where it cannot be read."""
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].line or "") if frames else ""
