"""
The training methods: one table with everything that the rest of trainfare has to know of each.

A new method is one more name in `Method` and one more row of `data/methods.csv`; where it changes a module as no other
does, also a branch in `trainfare.methods.module_changes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, cast

from pydantic import TypeAdapter

from trainfare_core.documents import data_rows
from trainfare_core.errors import UnknownNameError

Method: TypeAlias = Literal["linear_probe", "lora", "qlora", "full_finetune", "scratch"]
Trained: TypeAlias = Literal["all weights", "adapters", "output layer"]


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """
    One training method.

    Attributes:
        label: its name in tables, bars and sentences.
        trains: which weights are trained.
        draw: place of its random draws among those of all methods, a new one's after all others: what is drawn for the
            others then stays as it is, wherever its entry stands.
        log_samples_sigma: standard deviation of ln(samples to the target) without a pilot. A chosen value for every
            method (a factor of 2 either way is 0.7), not a measurement.
        weight_change: how far it moves the checkpoint's weights, on a scale where LoRA is 1. Only differences count: a
            rule in `prior` expects that what is changed less forgets less.
        needs_checkpoint: whether it starts from pre-trained weights.
        generates_text: whether it can teach a language model to generate; training the output layer alone cannot.
        packs_weights: whether frozen weights are packed in 4 bits, by kernels that only NVIDIA GPUs have.
        traced_as: the method whose trace it shares; None is its own.
        compared_through: the method through which it is compared with the others, because most published
            comparisons of it are with that one; None is directly.
        crosses_late: whether its curve crosses those of the others late, so that the rank after a short pilot says
            little (scratch against fine-tuning on COCO, He et al. 2019).
    """

    label: str
    draw: int
    trains: Trained
    log_samples_sigma: float
    weight_change: float
    needs_checkpoint: bool = True
    generates_text: bool = True
    packs_weights: bool = False
    traced_as: Method | None = None
    compared_through: Method | None = None
    crosses_late: bool = False


_FACTS: Final = TypeAdapter(MethodFacts)
METHODS: Final[Mapping[Method, MethodFacts]] = MappingProxyType(
    {
        cast("Method", row.pop("name")): _FACTS.validate_python(
            {key: text for key, text in row.items() if text}
        )
        for row in data_rows("methods.csv")
    }
)
"""From the least to the most change of the checkpoint's weights; ties are decided in this order."""

METHOD_NAMES: Final[tuple[Method, ...]] = tuple(METHODS)


def find_method(name: str) -> Method:
    """
    Return the method of a name; capitals and dashes do not matter.

    Raises:
        UnknownNameError: no method has that name.
    """
    wanted = name.strip().lower().replace("-", "_")
    for method in METHOD_NAMES:
        if method == wanted:
            return method
    raise UnknownNameError(f"strategy {name!r}: unknown; the strategies are {', '.join(METHOD_NAMES)}")
