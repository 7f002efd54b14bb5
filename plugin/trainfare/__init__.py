"""trainfare: what the whole training run will cost on every machine you could rent, and how sure that is."""

from __future__ import annotations

__version__ = "0.1.0"
