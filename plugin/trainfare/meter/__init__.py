"""The `FareMeter` callback: measure a few steps of a running `Trainer.fit` and report the cost of the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainfare.meter.callback import FareMeter

__all__ = ["FareMeter"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the module imports Lightning, and so torch.
    if name == "FareMeter":
        from trainfare.meter.callback import FareMeter

        return FareMeter
    msg = f"module 'trainfare.meter' has no attribute {name!r}"
    raise AttributeError(msg)
