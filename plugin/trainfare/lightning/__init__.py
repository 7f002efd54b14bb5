"""PyTorch Lightning behind the meter and the fake step: `FareMeter` is its callback."""

from typing import TYPE_CHECKING

from trainfare.loops import load_callback

if TYPE_CHECKING:
    from trainfare.lightning.callback import FareMeter

__all__ = ["FareMeter"]

__getattr__ = load_callback(__name__)
