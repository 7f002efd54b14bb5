"""Numbers of devices and processes that a script asks for, and what it divides by them."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from trainfare.job.user_code import is_users_file


class DeviceCount(int):
    """
    A number of devices or processes that records what a script divides by it.

    It equals the plain number. Dividing by 0 devices gives the result for one device.
    """

    quotients: list[float]
    """Results of the script's divisions by it, in a list that its maker reads."""

    @classmethod
    def of(cls, count: int, quotients: list[float]) -> DeviceCount:
        """Return a count that records its quotients in a list."""
        made = cls(count)
        made.quotients = quotients
        return made

    def _divide(self, dividend: int, by: Callable[[int, int], float]) -> float:
        quotient = by(dividend, int(self) or 1)
        self.quotients.append(quotient)
        return quotient

    def __rtruediv__(self, dividend: int) -> float:
        """Divide by the devices."""
        return self._divide(dividend, lambda a, b: a / b)

    def __rfloordiv__(self, dividend: int) -> int:
        """Divide by the devices."""
        return int(self._divide(dividend, lambda a, b: a // b))

    def __rmod__(self, dividend: int) -> int:
        """Return the device of a rank."""
        return dividend % (int(self) or 1)


def let_yaml_write() -> None:
    """Let PyYAML, where it is installed, write a `DeviceCount` as the number that it is: it asks for `int` itself."""
    with contextlib.suppress(ImportError):
        import yaml  # a script may have none

        # Each has a table of its own as soon as somebody adds to it.
        for name in ("SafeDumper", "Dumper", "CSafeDumper", "CDumper"):
            if (dumper := getattr(yaml, name, None)) is not None:  # the last two are parts of its C extension
                dumper.add_representer(DeviceCount, dumper.represent_int)


def count_for_users(original: Callable[..., int], quotients: list[float]) -> Callable[..., int]:
    """Return a function that gives the user's own files a `DeviceCount`, and others what `original` gives."""

    @functools.wraps(original)
    def count(*args: Any, **kwargs: Any) -> int:
        found, caller = original(*args, **kwargs), inspect.currentframe()
        of_user = (
            caller is not None
            and caller.f_back is not None
            and is_users_file(caller.f_back.f_code.co_filename)
        )
        return DeviceCount.of(found, quotients) if of_user else found

    return count
