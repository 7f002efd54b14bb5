"""The curves of pilots as files, each under the strategy it is a run of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainfare_core.errors import InputError, ProfileError
from trainfare_core.strategy.curves import LearningCurve
from trainfare_core.strategy.strategies import Strategy, strategy_named
from trainfare_providers.disk.files import read_input

__all__ = ["read_curves"]

MAX_CURVE_BYTES = 4 * 2**20


def read_curves(names: Sequence[str]) -> dict[Strategy, list[LearningCurve]]:
    """
    Read curves by strategy.

    Args:
        names: paths, or strategy=path where the file does not know or is wrong.

    Raises:
        ProfileError: a file that is absent, too large or no curve.
        InputError: a curve whose strategy nobody knows.
        UnknownNameError: a strategy that there is none of.
    """
    out: dict[Strategy, list[LearningCurve]] = {}
    for name in names:
        told, separator, path = name.partition("=")
        if not separator or Path(name).is_file():
            told, path = "", name
        curve = _read(Path(path))
        strategy = strategy_named(told) if told else curve.strategy
        if strategy is None:
            raise InputError(
                f"{path}: full fine-tuning and scratch look alike: say which, e.g. --pilot full_finetune={path}"
            )
        out.setdefault(strategy, []).append(curve)
    return out


def _read(path: Path) -> LearningCurve:
    text = read_input(path, MAX_CURVE_BYTES, kind="a learning curve", error=ProfileError)
    return LearningCurve.from_json(text, where=str(path))
