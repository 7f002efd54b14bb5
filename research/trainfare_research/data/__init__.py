"""Measured tables as Parquet, and the commands that make them, and the tables of the product, from collected ones."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["TABLES"]

TABLES: Final = Path(__file__).parent
"""Folder of our own tables, in folders by what they measure: what commands read where no other `--data` is given."""
