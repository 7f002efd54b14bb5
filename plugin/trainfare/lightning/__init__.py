"""PyTorch Lightning behind the meter and the fake step: `FareMeter` is its callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainfare.lightning.callback import FareMeter

__all__ = ["FareMeter"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the module imports Lightning, and so torch.
    if name == "FareMeter":
        from trainfare.lightning.callback import FareMeter

        return FareMeter
    raise AttributeError(f"module 'trainfare.lightning' has no attribute {name!r}")
