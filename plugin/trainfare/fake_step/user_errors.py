"""Turn an exception in a trace into one message: the operation, the user's line, and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from trainfare.job import describe, describe_raised, missing_here, place_in_user_code
from trainfare_core.errors import TraceError, TrainfareError

ADVICE = "Measure one step with FareMeter instead"

# An operator in a message of torch, e.g. "aten::nonzero" or "mylib::kernel.default".
_OPERATOR = re.compile(r"\b([a-z_]\w*::\w+(?:\.\w+)?)")
_REGISTER = "which has no kernel for fake tensors: register one with torch.library.register_fake"


class FakeTraceError(TraceError):
    """
    A step cannot be traced on fake tensors; on real ones it may be.

    Args:
        message: what the user is told where real tensors are no way out.
        because: the reason in a few words, with the user's line.
        needs_value: whether it is a value that fake tensors lack; else the same may happen on real ones.

    Attributes:
        parameters: bytes of each parameter, and whether it trains, as far as they are known.
    """

    def __init__(self, message: str, because: str, *, needs_value: bool = True) -> None:
        super().__init__(message)
        self.because = because
        self.needs_value = needs_value
        self.parameters: list[tuple[int, bool]] = []


@contextlib.contextmanager
def name_meter(meter: str) -> Generator[None, None, None]:
    """
    Say in the advice of an error how a loop is measured.

    Args:
        meter: see `LoopKind.meter`.
    """
    try:
        yield
    except TraceError as error:
        if meter:
            error.args = (str(error).replace(ADVICE, f"{ADVICE}: {meter}"),)
        raise


@contextlib.contextmanager
def user_errors(doing: str, *, fake: bool = True) -> Generator[None, None, None]:
    """
    Explain any exception that the user's code or a fake kernel raises inside the block.

    Args:
        doing: what was being done, e.g. "training_step".
        fake: whether the tensors are fake.

    Raises:
        TraceError: anything other than a `TrainfareError`, which passes unchanged, was raised; with fake tensors, a
            `FakeTraceError`.
    """
    try:
        yield
    except TrainfareError:
        raise
    except (Exception, SystemExit) as error:
        code_place = place_in_user_code(error.__traceback__)
        where = "" if code_place is None else f" at {code_place}"
        if not fake:
            raise TraceError(describe_raised(doing, error)) from error
        reads = _value_needed(error, str(error)) is not None
        # Without a line of the user's, the message alone says what it is about.
        raised = (
            f"raises {type(error).__name__} on fake tensors" if code_place else f"raised {describe(error)}"
        )
        what = "reads a value" if reads else raised
        message = _explain_error(doing, error, where)
        raise FakeTraceError(message, f"{code_place or doing} {what}", needs_value=reads) from error


def _explain_error(doing: str, error: BaseException, code_place: str) -> str:
    text = str(error)
    value = _value_needed(error, text)
    if value is not None:
        return f"{doing} needs the values of a tensor ({value}){code_place}, and a trace has only its shape. {ADVICE}"
    operator = _name(error.func) if isinstance(error, UnsupportedOperatorException) else None
    if operator is None and ("fake" in text.lower() or "Meta" in text):
        match = _OPERATOR.search(text)
        operator = match.group(1) if match else None
    if operator is not None:
        return f"{doing} calls {operator}{code_place}, {_REGISTER}. {ADVICE}"
    missing = missing_here(error)
    if missing is not None:
        return missing.sentence(doing, error, code_place)
    reason = "If it works with real tensors, the step cannot be traced."
    return f"{doing} raised {describe(error)}{code_place}. {reason} {ADVICE}"


def _value_needed(error: BaseException, text: str) -> str | None:
    """Return the operation that needs values, which fake tensors do not have; None where the error is another."""
    if isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
        return _name(error.func)
    if ".numpy() is not supported" in text:
        return "Tensor.numpy()"
    return "its data pointer" if "data pointer" in text or "data_ptr" in text else None


def _name(func: object) -> str:
    name = str(func).removesuffix(".default")
    return f"Tensor.item(), {name}" if name == "aten._local_scalar_dense" else name
