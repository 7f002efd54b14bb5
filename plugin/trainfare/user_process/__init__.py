"""
A process of its own for the user's code, so that it cannot end, block or answer for the command.

`UserProcess` starts it; it loads a TARGET and traces it within `ProcessLimits`, and sends what it found as JSON.
`TracedTarget` starts one only where `TraceStore` has no trace of the same files, of the last day. What the
code prints goes to standard error. This guards against accidents, not against a hostile program: the code runs
with the rights of the user, and a TARGET can describe any job that it likes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainfare.user_process.limits import ProcessLimits

if TYPE_CHECKING:
    from trainfare.user_process.copied_folder import CopiedFolder
    from trainfare.user_process.process import UserProcess
    from trainfare.user_process.trace_store import TraceStore
    from trainfare.user_process.traced_target import TracedTarget

__all__ = ["CopiedFolder", "ProcessLimits", "TraceStore", "TracedTarget", "UserProcess"]

_HOMES = {
    "CopiedFolder": "copied_folder",
    "TraceStore": "trace_store",
    "TracedTarget": "traced_target",
    "UserProcess": "process",
}
"""Names and the module of this package that defines each."""


def __getattr__(name: str) -> Any:
    # The limits are options of commands, and `--help` needs no process: 30 ms.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
