"""Read the learning curves of pilots from files, by method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainfare_core.errors import InputError, ProfileError
from trainfare_core.methods.curves import LearningCurve
from trainfare_core.methods.methods import Method, find_method
from trainfare_providers.disk.files import read_input

MAX_CURVE_BYTES = 4 * 2**20


def read_curves(names: Sequence[str]) -> dict[Method, list[LearningCurve]]:
    """
    Read curves by method.

    Args:
        names: paths, or strategy=path where the file names no method or the wrong one.

    Raises:
        ProfileError: a file that is absent, too large or not a curve.
        InputError: a curve without a method.
        UnknownNameError: a method that does not exist.
    """
    out: dict[Method, list[LearningCurve]] = {}
    for name in names:
        name_given, separator, path = name.partition("=")
        if not separator or Path(name).is_file():
            name_given, path = "", name
        text = read_input(Path(path), MAX_CURVE_BYTES, kind="a learning curve", error=ProfileError)
        curve = LearningCurve.from_json(text, where=path)
        method = find_method(name_given) if name_given else curve.strategy
        if method is None:
            raise InputError(
                f"{path}: full fine-tuning and scratch look alike: name one, e.g. --pilot full_finetune={path}"
            )
        out.setdefault(method, []).append(curve)
    return out
