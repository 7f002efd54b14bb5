"""Load a few batches of a user's loader in this process, and say what their code raises meanwhile."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator
from typing import Any

from torch.utils.data import DataLoader

from trainfare.job.missing_here import MADE_UP, describe_raised
from trainfare.job.user_code import replace_attribute
from trainfare_core.errors import TargetError, TrainfareError


@contextlib.contextmanager
def load_in_this_process(*, nothing: bool = False) -> Generator[None, None, None]:
    """Load batches in this process, or nothing: a few batches do not repay the start of workers."""
    loose: Any = DataLoader
    original = loose.__iter__

    def here(self: Any) -> Any:
        before = self.num_workers, self.timeout
        self.num_workers = self.timeout = 0
        try:
            return itertools.repeat(None) if nothing else original(self)
        finally:
            self.num_workers, self.timeout = before

    with replace_attribute(loose, "__iter__", here):
        yield


@contextlib.contextmanager
def report_user_errors(doing: str, *, reads_data: bool = True) -> Generator[None, None, None]:
    """Raise a TargetError of what the user's code raises, `doing` something."""
    try:
        yield
    except TrainfareError:
        raise
    except (Exception, SystemExit) as error:
        raise TargetError(describe_raised(doing, error, way_out=MADE_UP if reads_data else "")) from error
