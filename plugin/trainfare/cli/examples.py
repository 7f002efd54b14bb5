"""Two examples of each command, which its `--help` ends with; a test parses them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

EXAMPLES: Final[Mapping[str, list[str]]] = json.loads(
    Path(__file__).with_name("examples.json").read_text(encoding="utf-8")
)
"""By the words that name a command; a line has at most 78 columns, so that no terminal wraps it."""


def epilog_of(command: str) -> str:
    """Return what the help of a command ends with."""
    return "\n".join(("Examples:", *(f"  {example}" for example in EXAMPLES[command])))
