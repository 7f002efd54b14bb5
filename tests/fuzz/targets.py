"""All fuzz targets, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fuzz import checks, clouds, documents, prices, settings
from fuzz.target import Target

CORPORA: Final = Path(__file__).parent / "corpus"
TARGETS: Final = {
    target.name: target
    for target in (*checks.TARGETS, *documents.TARGETS, *clouds.TARGETS, *prices.TARGETS, *settings.TARGETS)
}


def corpus_of(target: Target) -> Path:
    """Return the folder of a target's corpus."""
    return CORPORA / target.name


def inputs_of(target: Target) -> Iterable[tuple[str, bytes]]:
    """Yield the seeds and the corpus of a target, each with its name."""
    for number, seed in enumerate(target.seeds()):
        yield f"seed {number}", seed
    for path in sorted(corpus_of(target).glob("*")):
        yield path.name, path.read_bytes()
