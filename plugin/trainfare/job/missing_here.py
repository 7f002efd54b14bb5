"""Recognize an exception of the user's code that says: what it needs is not on this machine."""

from __future__ import annotations

import socket
import traceback
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

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


_GPU: Final = Missing(
    "needs a GPU, which this machine does not have",
    "Put the line behind torch.cuda.is_available(): a trace needs no GPU, and records the one that is asked for",
)
_GPU_CHECK: Final = Missing(
    "asks for a GPU, which this machine does not have",
    "Leave the check out for the trace, or let it warn: a trace needs no GPU, and records the one that is asked for",
)
_NETWORK: Final = Missing(
    "needs the network, and its server cannot be reached from here",
    "Run it once where the network is, so that its cache has what it needs, or give it a local copy",
    of_data=True,
)
_DATA: Final = Missing(
    "needs a file that is not here",
    "Run the trace where the data are, or give their folder; a few samples are enough",
    of_data=True,
)
_MADE_UP: Final = f"; or describe one batch: --made-up-data --batch '{EXAMPLE}'"
_DATAMODULE: Final = Missing(
    "reads the Trainer's datamodule, and there is none before launch",
    "Give TrainingJob(datamodule=...), or the script itself as TARGET, whose Trainer has it",
)
_DEEPSPEED: Final = Missing(
    "needs the package deepspeed, which is not installed here",
    "Install deepspeed here, or use torch.optim.AdamW where it is not installed: the profile is nearly the same",
)
_LOADERS: Final = Missing(
    "reads the Trainer's loaders, and there are none before launch",
    "Give the script itself as TARGET, whose Trainer has them, or read what TrainingJob gives: "
    "trainer.num_training_batches, trainer.max_epochs",
)
_GPU_TEXTS: Final = (
    "not compiled with CUDA enabled", "Found no NVIDIA driver", "No CUDA GPUs are available",
    "No supported gpu backend found", "since the accelerator is not available", "object on a CUDA device",
)  # fmt: skip
_GPU_CHECK_TEXTS: Final = ("CUDA is not available", "CUDA not available", "GPU is not available")
_NETWORK_TEXTS: Final = ("couldn't connect to", "Max retries exceeded", "Name or service not known")
_NETWORK_CLASSES: Final = {
    ("requests.exceptions", "ConnectionError"), ("requests.exceptions", "Timeout"), ("httpx", "TransportError"),
    ("huggingface_hub.errors", "LocalEntryNotFoundError"), ("huggingface_hub.errors", "OfflineModeIsEnabled"),
    ("aiohttp.client_exceptions", "ClientConnectionError"), ("botocore.exceptions", "EndpointConnectionError"),
}  # fmt: skip
"""Errors of a connection that do not derive from those of Python: module and name."""
_DATA_TEXTS: Final = ("Dataset not found", "Dataset not found or corrupted")


def missing_here(error: BaseException) -> Missing | None:
    """
    Return what an exception says is missing on this machine, or None where it is about something else.

    >>> missing_here(FileNotFoundError(2, "No such file", "images/")).what
    'needs a file that is not here'
    """
    chain = list(_chain(error))
    texts = [message_of(link) for link in chain]
    if any(part in text for text in texts for part in _GPU_TEXTS):
        return _GPU
    line = _line_of(error)
    if (isinstance(error, AssertionError) and "cuda.is_available" in line) or any(
        part in texts[0] for part in _GPU_CHECK_TEXTS
    ):
        return _GPU_CHECK
    if any(_is_of_network(link) for link in chain) or any(
        part in text for text in texts for part in _NETWORK_TEXTS
    ):
        return _NETWORK
    # A message of its own hides the file that was looked for, which then is the cause.
    if any(isinstance(link, (FileNotFoundError, NotADirectoryError)) for link in chain) or any(
        part in text for text in texts for part in _DATA_TEXTS
    ):
        return _DATA
    if any(isinstance(link, ModuleNotFoundError) and link.name == "deepspeed" for link in chain):
        return _DEEPSPEED
    if isinstance(error, (AttributeError, TypeError)) and "'NoneType'" in texts[0]:
        return _DATAMODULE if "datamodule" in line else _LOADERS if "dataloader" in line else None
    return None


def describe_raised(doing: str, error: BaseException, demand: str = "", *, of_script: bool = False) -> str:
    """
    Return the message for an exception of the user's code while a job is loaded.

    Args:
        doing: what was being done, e.g. "importing train.py".
        error: what was raised.
        demand: what the code must do, where nothing that it needs is missing here.
        of_script: whether it is a script, whose data can be made up.
    """
    at = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else None
    code_place = at or place_in_user_code(error.__traceback__)
    where = f" at {code_place}" if code_place else ""
    missing = missing_here(error)
    if missing is not None:
        way_out = _MADE_UP if of_script and missing.of_data else ""
        return missing.sentence(doing, error, where) + way_out
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
    return any((base.__module__, base.__name__) in _NETWORK_CLASSES for base in type(error).__mro__)


def _line_of(error: BaseException) -> str:
    """Return the text of the line where an exception was raised, empty where it cannot be read."""
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].line or "") if frames else ""
