"""
A process of its own for the user's code, so that it cannot end, block or answer for the command.

`UserProcess` starts it; it loads a TARGET and traces it within `ProcessLimits`, and sends what it found as JSON. What
the code prints goes to standard error. This guards against accidents, not against a hostile program: the code runs
with the rights of the user, and a TARGET can describe any job that it likes.
"""

from typing import TYPE_CHECKING, Any

from trainfare.user_process.limits import ProcessLimits

if TYPE_CHECKING:
    from trainfare.user_process.copied_folder import CopiedFolder
    from trainfare.user_process.process import UserProcess

__all__ = ["CopiedFolder", "ProcessLimits", "UserProcess"]


def __getattr__(name: str) -> Any:
    # The limits are options of commands, and `--help` needs no process: 30 ms.
    if name not in ("CopiedFolder", "UserProcess"):
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from trainfare.user_process import copied_folder, process

    return process.UserProcess if name == "UserProcess" else copied_folder.CopiedFolder
