"""Language models with short names: the classes and sizes that their published configurations have. Loads no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class KnownModel:
    """
    A published configuration.

    Attributes:
        architecture: class of transformers.
        sizes: fields of its configuration class that differ from the class's defaults.
    """

    architecture: str
    sizes: MappingProxyType[str, Any]


_TABLE: Final = json.loads(Path(__file__).with_name("known_models.json").read_text(encoding="utf-8"))
KNOWN_MODELS: Final = MappingProxyType(
    {name: KnownModel(row["architecture"], MappingProxyType(row["sizes"])) for name, row in _TABLE.items()}
)
"""Sizes from the `config.json` that the authors published; the names are theirs in lower case, without the owner."""
