"""The question as a person gives it: one TOML file, flags, and what the job itself says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from trainfare.job.training_job import TrainingJob
from trainfare_core.errors import InputError
from trainfare_core.strategy.question import Question
from trainfare_providers.disk.files import read_input

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["StrategyFile", "filled_from", "question_of", "read_strategy_file"]

MAX_FILE_BYTES = 2**20
_MARKET = ("providers", "regions", "purchase", "max_nodes")
_OWN = ("target", *_MARKET)


@dataclass(frozen=True)
class StrategyFile:
    """
    A TOML file, split into what each part of the path reads.

    Args:
        target: the job, e.g. "train.py:job"; None where the file does not say.
        market: providers, regions, purchase, max_nodes.
        question: all other keys.
    """

    target: str | None
    market: Mapping[str, Any]
    question: Mapping[str, Any]


def read_strategy_file(path: Path) -> StrategyFile:
    """
    Read a TOML file; keys are those of `Question`, and target, providers, regions, purchase, max_nodes.

    Raises:
        InputError: no such file, too large, not TOML, or a key of the wrong type.
    """
    text = read_input(path, MAX_FILE_BYTES, kind="a strategy file")
    try:
        data = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    keys = {key.replace("-", "_"): value for key, value in data.items()}
    target = keys.get("target")
    if target is not None and not isinstance(target, str):
        raise InputError(f'{path}: target is no text: give e.g. target = "train.py:job"')
    market = {key: keys[key] for key in _MARKET if key in keys}
    for key, value in market.items():
        if not _fits(key, value):
            raise InputError(
                f"{path}: {key} = {value!r}: give {'a number' if key == 'max_nodes' else 'names'}"
            )
    return StrategyFile(target, market, {key: value for key, value in keys.items() if key not in _OWN})


def question_of(values: Mapping[str, Any], where: str) -> Question:
    """
    Return the question; values that are None are left at their defaults.

    Args:
        values: fields of `Question`.
        where: what to call them in an error.

    Raises:
        InputError: a field that there is none of, or a value out of range.
    """
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return Question.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the question"
        if first["type"] == "extra_forbidden":
            names = ", ".join(sorted(Question.model_fields))
            raise InputError(f"{where}: there is no {place}; there are {names}") from error
        raise InputError(f"{where}: {place}: {first['msg']}") from error


def filled_from(question: Question, job: TrainingJob) -> tuple[Question, tuple[str, ...]]:
    """Return the question with what the job itself says, and what had to be assumed."""
    update: dict[str, Any] = {}
    assumed: list[str] = []
    if question.samples is None and job.train_samples is not None:
        update["samples"] = float(job.train_samples)
    if question.tokens_per_sample is None and job.tokens_per_sample is not None:
        update["tokens_per_sample"] = float(job.tokens_per_sample)
    if "domain" not in question.model_fields_set:
        update["domain"] = "llm-ift" if job.tokens_per_sample is not None else "vision-cls"
        assumed.append(f"the data is {update['domain']}: say --domain where it is not")
    return question.model_copy(update=update), tuple(assumed)


def _fits(key: str, value: object) -> bool:
    if key == "max_nodes":
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 16
    if isinstance(value, str):
        return True
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))
