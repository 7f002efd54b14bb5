"""
Words of the frameworks of training loops: names of classes, calls and arguments, from the product's tables and their own.

A word that only code has ("save_steps", "TrainingArguments") counts wherever it stands; one that English has too counts
as an argument ("strategy='ddp'") or as a call.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from accelerate import Accelerator
from lightning.fabric import Fabric
from lightning.pytorch import Trainer, callbacks, strategies
from transformers import TrainingArguments

from builders.keras import keras
from builders.profiles import profile
from trainfare.lightning.strategy_arguments import ARGUMENTS
from trainfare.loops import format_plan, load_plan_writer
from trainfare.report.wording import script_lines
from trainfare_core.candidates import SHARDINGS
from trainfare_core.ranking.pricing.spot import write_saving
from trainfare_core.recommendation import ModelSplit, PlanFacts

_TITLES = frozenset({"Lightning", "Hugging", "Keras", "Accelerate", "Fabric"})
"""First words of the frameworks' names."""
_OF_TARGETS = frozenset({"num_nodes", "nnodes"})
"""Of SkyPilot's files and of torchrun, too."""


def _list_arguments(*things: Any) -> set[str]:
    names = {name for thing in things for name in inspect.signature(thing).parameters}
    return names - {"self", "args", "kwargs"}


def _list_classes(module: ModuleType) -> set[str]:
    return {name for name, value in vars(module).items() if inspect.isclass(value)}


def _list_all(module: ModuleType) -> set[str]:
    """Return the classes of a module, and their arguments."""
    names = _list_classes(module)
    return names | _list_arguments(*(getattr(module, name).__init__ for name in names))


def write_everything(loop: str) -> str:
    """Return plans of every sharding, precision and split, and what saves checkpoints, as the product writes them for a loop."""
    splits = (
        None,
        ModelSplit(tensor=2, pipeline=1, context=1, expert=1, replicas=4),
        ModelSplit(tensor=2, pipeline=2, context=1, expert=1, replicas=2),
    )
    kinds = itertools.product(SHARDINGS, ("bf16-mixed", "16-mixed", "bf16-true"), ((), ("Block",)), splits)
    plans = (
        load_plan_writer(loop).write_arguments(
            PlanFacts(
                sharding="zero1" if split and split.pipeline > 1 else sharding, devices=8, nodes=2, micro_batch=4,
                accumulate=2, precision=precision, recomputed_blocks=blocks, split=split,
            )
        )
        for sharding, precision, blocks, split in kinds
    )  # fmt: skip
    small = profile()
    saving = write_saving(
        small.model_copy(update={"source": small.source.model_copy(update={"loop": loop})}), 100
    )
    return "\n".join([saving, *(f"{format_plan(plan)} {' '.join(script_lines(plan))}" for plan in plans)])


def _list_code(loop: str) -> set[str]:
    """Return the names that are called or given in what the product writes for a loop."""
    return set(re.findall(r"([A-Za-z_]\w+)(?=[(=])", write_everything(loop)))


WORDS: dict[str, set[str]] = {
    "Lightning": {
        *_list_arguments(Trainer), *_list_all(callbacks), *_list_classes(strategies), *_list_code(""),
        *(name for row in ARGUMENTS for name in (row.strategy, *row.names.split())),
    },
    "Hugging Face": {field.name for field in dataclasses.fields(TrainingArguments)} | _list_code("huggingface"),
    "Keras": _list_arguments(keras.Model.fit, keras.Model.compile) | _list_all(keras.callbacks),
    "Accelerate": _list_arguments(Accelerator),
    "Fabric": _list_arguments(Fabric),
}  # fmt: skip
"""By the name of the framework, whose first word is one of them."""


_NAME = re.compile(r"(?<![\w-])([A-Za-z]\w*)(=(?!\")|\()?|--trainer\.")
"""A name, and the sign of an argument or a call; an attribute of HTML has quotes, a flag of a command two dashes."""


def find_foreign_words(text: str, own: Iterable[str], own_text: str = "") -> dict[str, str]:
    """
    Return the words of other frameworks in a text, each with what stands round it.

    Args:
        text: of an answer.
        own: frameworks of the script.
        own_text: whose words are the script's own.
    """
    mine = _OF_TARGETS.union(re.findall(r"\w+", own_text), *(WORDS[name] for name in own))
    homes = {
        word: name for name in WORDS.keys() - set(own) for word in (WORDS[name] | {*name.split()[:1]}) - mine
    }
    found: dict[str, str] = {}
    for match in _NAME.finditer(text):
        word, sign = match[1] or "trainer", match[2]
        is_code = match[1] is None or "_" in word or re.search("[a-z][A-Z]", word) or word in _TITLES
        home = homes.get(word) if match[1] else "Lightning" not in own and "Lightning"
        if home and (is_code or sign):
            found[f"{home}: {match[0]}"] = text[max(0, match.start() - 80) : match.end() + 40]
    return found
