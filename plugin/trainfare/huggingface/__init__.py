"""Hugging Face's Trainer behind the meter and the fake step: `FareMeter` is its callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainfare.huggingface.callback import FareMeter

__all__ = ["FareMeter"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the module imports transformers, and so torch; a command reads the words of plans alone.
    if name == "FareMeter":
        from trainfare.huggingface.callback import FareMeter

        return FareMeter
    raise AttributeError(f"module 'trainfare.huggingface' has no attribute {name!r}")
