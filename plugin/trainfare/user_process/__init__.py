"""
A process of its own for the user's code, so that it cannot end, block or answer for the command.

`UserProcess` starts it; it loads a TARGET and traces it within `ProcessLimits`, and sends what it found as JSON. What
the code prints goes to standard error. This guards against accidents, not against a hostile program: the code runs
with the rights of the user, and a TARGET can describe any job that it likes.
"""

from trainfare.user_process.limits import ProcessLimits
from trainfare.user_process.process import UserProcess

__all__ = ["ProcessLimits", "UserProcess"]
