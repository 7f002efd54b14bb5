"""Keras 3 behind the meter and the fake step: `FareMeter` is a callback of `Model.fit`."""

from typing import TYPE_CHECKING

from trainfare.loops import load_callback

if TYPE_CHECKING:
    from trainfare.keras.callback import FareMeter

__all__ = ["FareMeter"]

__getattr__ = load_callback(__name__)
