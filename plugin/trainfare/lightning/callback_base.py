"""The base class of FareMeter, which inherits from the `Callback` of every installed Lightning namespace."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from importlib import import_module
from typing import TYPE_CHECKING

from trainfare.job.floors import check_version
from trainfare_core.errors import MissingExtraError

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")


@contextlib.contextmanager
def _logger_kept() -> Generator[None, None, None]:
    """Restore the logger that both namespaces share, and that each sets to its own when it is imported."""
    shared = sys.modules.get("lightning_utilities.core.rank_zero")
    logger = getattr(shared, "log", None)
    try:
        yield
    finally:
        if shared is not None and logger is not None:
            vars(shared)["log"] = logger


def _list_installed_callbacks() -> tuple[type, ...]:
    callbacks: list[type] = []
    problem: ImportError | None = None
    with _logger_kept():
        for namespace in NAMESPACES:
            try:
                package = import_module(namespace)
                check_version(namespace.partition(".")[0], package.__version__)
                callbacks.append(package.Callback)
            except ImportError as error:  # noqa: PERF203 - a package that is missing or broken must not exclude the other
                problem = error
    if not callbacks:
        raise MissingExtraError("neither pytorch-lightning nor lightning", "lightning") from problem
    return tuple(callbacks)


if TYPE_CHECKING:
    import pytorch_lightning

    LightningCallback = pytorch_lightning.Callback
else:
    LightningCallback = type("LightningCallback", _list_installed_callbacks(), {"__doc__": __doc__})
