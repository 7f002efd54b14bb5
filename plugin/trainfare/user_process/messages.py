"""
What a command and the process of the user's code say to each other.

    request    one line of JSON: first a `Start`, then a `Trace` for every trace that is wanted
    reply      one line of JSON, a `Reply`, and after it as many bytes as it says: the JSON of a job profile

The first request is answered twice, before the job is loaded ("ready") and after it (its facts), each further one with
a profile; an error answers any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated, Final, Literal

from pydantic import Field, ValidationError

from trainfare.job import RealLimits
from trainfare.job.made_up_data import MadeUpData
from trainfare.methods.step_change import StepChange
from trainfare.sandbox import SandboxKind
from trainfare.user_process.environment import explain_withheld
from trainfare_core import errors
from trainfare_core.documents import Record
from trainfare_core.errors import InternalError, TargetError, TrainfareError, restore_error

LONGEST_HEADER: Final = 2**20
"""Bytes. Chosen: a header holds one message of an error at most."""
MAX_PROFILE_BYTES: Final = 64 * 2**20
"""As for a profile file: far above the profile of a large model."""
MOST_WRITTEN: Final = 1_000
"""Names of what the code wrote that a header holds. Chosen: paths of the longest kind fit."""


class Start(Record):
    """The job to load, and the limits that the process sets for itself before it loads it."""

    target: str
    """As `load_job` takes it, or a script with its arguments as `trainfare.job.script_of` reads them."""
    fit: int = 1
    """Of a script, the call of `Trainer.fit` that is wanted, from 1, or `ALL_CALLS`."""
    optimizer_step: int | None = None
    """Of a script, the step of its own loop at which it is stopped; see `run_script`."""
    made_up: MadeUpData | None = None
    """Of a script, what stands for its data; None reads them."""
    cpu_s: int
    memory_bytes: int | None
    debug: bool
    not_from: str | None = None
    """A folder of which another copy is traced: a module that comes from it all the same makes the trace wrong."""
    withheld: tuple[str, ...] = ()
    """Variables of the command that the process does not have; see `environment_of`."""
    scratch: str
    """A folder of the command's own for what need not stay."""
    spare: str | None = None
    """Another one, for what is written beside the first; see `SandboxRequest`."""
    sandbox: tuple[SandboxKind, ...] = ("overlay", "copy")
    walled: bool = False
    """Whether the process was started behind `sandbox-exec`."""


class Trace(Record):
    """A step to trace: of the job as it is, or with a change; on real tensors, within limits, if it must be."""

    change: StepChange | None = None
    precision: str | None = None
    """Other than the job's own, in Lightning's terms; a change names its own."""
    real: RealLimits | None = None


class JobFacts(Record):
    """What a command needs to know of a job besides its traces; see `TrainingJob`."""

    precision: str
    train_samples: int | None
    tokens_per_sample: int | None


class WrittenFile(Record):
    """A file or folder that the code has written; see `trainfare.sandbox.Written`."""

    path: str
    view: str
    """Where it lies for the code."""
    bytes: int
    is_new: bool


class Reply(Record):
    """The header of an answer."""

    kind: Literal["ready", "job", "profile", "error"]
    alone: bool = True
    """Of "ready": whether the process cannot signal others; see `keep_signals_inside`."""
    written: tuple[WrittenFile, ...] = ()
    """Of "job" and "profile": what the code has written so far, into its sandbox."""
    job: JobFacts | None = None
    body_bytes: Annotated[int, Field(ge=0)] = 0
    error: str = ""
    message: str = ""


class PassEnd(Record):
    """How a pass of a trace ended, as its fork tells the process that made it."""

    impossible: Literal["", "fork", "overlay"] = ""
    """What the pass needs and cannot have; nothing of the user's code has run, or it runs once more without."""
    profile: str = ""
    error: str = ""
    message: str = ""
    because: str = ""
    needs_value: bool = True
    parameters: tuple[tuple[int, bool], ...] = ()
    """These three: of a `FakeTraceError`."""
    modules: tuple[str, ...] = ()
    """Installed ones that the pass has imported."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with its body, the profile."""

    header: Reply
    body: bytes


def read_replies(stream: IO[bytes]) -> Iterator[Answer | str]:
    """Yield the replies in a stream until it ends, and last a sentence on one that is none, if any."""
    while line := stream.readline(LONGEST_HEADER):
        try:
            header = Reply.model_validate_json(line)
        except ValidationError:
            yield "its process answered with something else than a result"
            return
        size = header.body_bytes
        if size > MAX_PROFILE_BYTES:
            yield f"its profile has {size:,} bytes: {MAX_PROFILE_BYTES:,} at most"
            return
        body = stream.read(size)
        if len(body) < size:
            return
        yield Answer(header, body)


def reply_of(error: TrainfareError) -> Reply:
    """Return the reply that carries an error, shortened to what a header can hold."""
    message = explain_withheld(str(error)[: LONGEST_HEADER // 8])
    return Reply(kind="error", error=type(error).__name__, message=message)


def error_of(reply: Reply | PassEnd) -> TrainfareError:
    """Return the error that a reply carries, with its class, exit code and message."""
    known = {
        name: error_class
        for name, error_class in vars(errors).items()
        if isinstance(error_class, type) and issubclass(error_class, TrainfareError)
    }
    error_class = known.get(reply.error, TargetError)
    if error_class is InternalError:
        # Code of the TARGET can send that too: no sentence of its own may stand as one of ours.
        return InternalError(f"in the process of the TARGET: {reply.message}")
    return restore_error(error_class, (reply.message,))
