"""
A training job traced before launch, on fake tensors.

`read_profile` reads a profile that exists without loading torch; the names in `_NEED_TORCH` load it on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainfare.fake_step.profile_input import is_target, load_profile, read_profile

if TYPE_CHECKING:
    from trainfare.fake_step.fake_step import AUTOCAST_DTYPES
    from trainfare.fake_step.job_trace import trace_changed, trace_job
    from trainfare.fake_step.several_batches import with_tokens

__all__ = [
    "AUTOCAST_DTYPES",
    "is_target",
    "load_profile",
    "read_profile",
    "trace_changed",
    "trace_job",
    "with_tokens",
]

_NEED_TORCH = {
    "AUTOCAST_DTYPES": "fake_step",
    "trace_changed": "job_trace",
    "trace_job": "job_trace",
    "with_tokens": "several_batches",
}
"""Names and the module of this package that defines each."""


def __getattr__(name: str) -> Any:
    home = _NEED_TORCH.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
