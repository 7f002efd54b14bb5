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

from trainfare.job import describe, missing_here, place_in_user_code
from trainfare_core.errors import TraceError, TrainfareError

__all__ = ["ADVICE", "user_errors"]

ADVICE = "Measure one step with FareMeter instead: Trainer(callbacks=[FareMeter()])"

# An operator in a message of torch, e.g. "aten::nonzero" or "mylib::kernel.default".
_OPERATOR = re.compile(r"\b([a-z_]\w*::\w+(?:\.\w+)?)")
_REGISTER = "which has no kernel for fake tensors: register one with torch.library.register_fake"


@contextlib.contextmanager
def user_errors(doing: str) -> Generator[None, None, None]:
    """
    Explain any exception that the user's code or a fake kernel raises inside the block.

    Args:
        doing: what was being done, e.g. "training_step".

    Raises:
        TraceError: anything other than a `TrainfareError`, which passes unchanged, was raised.
    """
    try:
        yield
    except TrainfareError:
        raise
    except (Exception, SystemExit) as error:
        place = place_in_user_code(error.__traceback__)
        raise TraceError(_explained(doing, error, "" if place is None else f" at {place}")) from error


def _explained(doing: str, error: BaseException, place: str) -> str:
    text = str(error)
    value = _value_needed(error, text)
    if value is not None:
        return (
            f"{doing} needs the values of a tensor ({value}){place}, and a trace has only its shape. {ADVICE}"
        )
    operator = _name(error.func) if isinstance(error, UnsupportedOperatorException) else None
    if operator is None and ("fake" in text.lower() or "Meta" in text):
        found = _OPERATOR.search(text)
        operator = found.group(1) if found else None
    if operator is not None:
        return f"{doing} calls {operator}{place}, {_REGISTER}. {ADVICE}"
    missing = missing_here(error)
    if missing is not None:
        return missing.sentence(doing, error, place)
    reason = "If it works with real tensors, the step cannot be traced."
    return f"{doing} raised {describe(error)}{place}. {reason} {ADVICE}"


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
