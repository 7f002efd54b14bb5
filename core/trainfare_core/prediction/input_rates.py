"""What was published of the rates of loaders, by the kind of their input: `data/input_rates.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from trainfare_core.documents import data_rows
from trainfare_core.hardware.hosts import usual_host
from trainfare_core.job_profile import InputFacts

_PICTURE_PIXELS: Final = 500 * 375
"""Of the pictures of ImageNet as they lie there, to which the published rates belong."""
_SMALL_PIXELS: Final = 128 * 128
"""Of a model's input from which pictures are taken to be made of larger ones. A chosen value: sets of smaller pictures
(32 to 96 pixels) hold them as the model gets them."""
_FIXED_MS, _MS_PER_PIXEL = 0.4, 2.7e-6
"""Of decoding a JPEG on one thread: a line through the four sizes of meta-pytorch/torchcodec#1620, 0.79 to 5.98 ms."""


@lru_cache(maxsize=1)
def _read_rates() -> Mapping[str, tuple[float, float]]:
    """Return seconds a unit of one thread of the usual host, at the slowest and the fastest rate, by kind."""
    usual = usual_host().thread_score
    seconds = {
        (row["kind"], row["end"]): float(row["thread_score"] or usual) / usual / float(row["units_per_s"])
        for row in data_rows("input_rates.csv")
    }
    return {kind: (seconds[kind, "slowest"], seconds[kind, "fastest"]) for kind, _ in seconds}


def find_published_s(facts: InputFacts, samples: int, tokens: int | None) -> tuple[float, float] | None:
    """
    Return what a step's samples take one thread of the usual host, at the slowest and at the fastest published rate.

    Args:
        facts: of the input.
        samples: of one device's step.
        tokens: of them; None: not known.

    Returns:
        Seconds; None where the kind takes next to nothing, or the size of a sample is not known.
    """
    units = {
        "pictures": samples * _count_pictures(facts),
        "video": samples * (facts.frames or 0),
        "audio": samples * (facts.seconds or 0),
        "text": tokens or 0,
    }.get(facts.kind, 0)
    if not units:
        return None
    slowest_s, fastest_s = _read_rates()[facts.kind]
    return units * slowest_s, units * fastest_s


def _count_pictures(facts: InputFacts) -> float:
    """Return as how many pictures of ImageNet one of these counts."""
    pixels = facts.pixels or _PICTURE_PIXELS
    pixels = pixels if pixels < _SMALL_PIXELS else max(pixels, _PICTURE_PIXELS)
    return (_FIXED_MS + _MS_PER_PIXEL * pixels) / (_FIXED_MS + _MS_PER_PIXEL * _PICTURE_PIXELS)
