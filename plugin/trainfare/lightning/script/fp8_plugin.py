"""What Lightning's `TransformerEnginePrecision` was given: the type of the weights, and the recipe of the products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

_NARROW: Final = {
    "DelayedScaling": "fp8", "Float8CurrentScaling": "fp8", "Float8BlockScaling": "fp8",
    "MXFP8BlockScaling": "mxfp8", "NVFP4BlockScaling": "fp4",
}  # fmt: skip
"""Type of the products under each recipe of `transformer_engine.common.recipe`. One with a scale for each block of 128
values costs what a scale for the tensor does: less than 4 % more bytes."""
_PRECISIONS: Final = {torch.bfloat16: "transformer-engine", torch.float16: "transformer-engine-float16"}


@dataclass(frozen=True, slots=True)
class Fp8Plugin:
    """
    What a `TransformerEnginePrecision` stands for.

    Attributes:
        precision: Lightning's word.
        narrow: type of the products of linear layers.
        refused: why its steps cannot be traced, a sentence; "" where they can.
    """

    precision: str
    narrow: str = "fp8"
    refused: str = ""

    @classmethod
    def of(cls, plugin: Any, arguments: Mapping[str, Any]) -> Fp8Plugin | None:
        """
        Read a plugin; None: it is another one.

        Args:
            plugin: of the Trainer.
            arguments: of its `__init__`, where its library is missing here and it kept nothing else.
        """
        if "TransformerEnginePrecision" not in {base.__name__ for base in type(plugin).__mro__}:
            return None

        def get_argument(name: str) -> Any:
            return getattr(plugin, name, arguments.get(name))

        recipe, dtype = get_argument("recipe"), get_argument("weights_dtype")
        names = [base.__name__ for base in type(recipe).__mro__]
        # Lightning makes a dict the arguments of DelayedScaling, its default.
        plain = recipe is None or isinstance(recipe, Mapping)
        narrow = "fp8" if plain else next((_NARROW[name] for name in names if name in _NARROW), "")
        checks = (
            (dtype in _PRECISIONS, f"weights_dtype={dtype} (traced are torch.bfloat16 and torch.float16)"),
            (bool(narrow), f"the recipe {names[0]}, whose products may be of any type"),
            (
                getattr(get_argument("recipe"), "backward_override", None) is None,
                "a recipe with backward_override",
            ),
            (
                get_argument("replace_layers") in (None, True),
                "replace_layers=False, which leaves layers to the script",
            ),
        )
        problems = ", ".join(text for traceable, text in checks if not traceable)
        because = (
            f"the step of TransformerEnginePrecision cannot be traced with {problems}" if problems else ""
        )
        return cls(_PRECISIONS.get(dtype, "transformer-engine"), narrow, because)
