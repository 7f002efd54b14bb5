"""A request to `trainfare strategy`: question, job and market from flags and one TOML file, and curves of pilots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from trainfare.methods.step_change import DescribedJob
from trainfare_core.errors import InputError, ProfileError
from trainfare_core.limits.constraints import Constraints, NameList
from trainfare_core.limits.limit_fields import LimitField, add_limits, limits_of
from trainfare_core.methods.curves import LearningCurve
from trainfare_core.methods.methods import Method, find_method
from trainfare_core.methods.question import Question
from trainfare_providers.disk.files import read_input
from trainfare_providers.disk.toml_file import parse_toml

MAX_FILE_BYTES = 2**20
"""A request has a few lines; a larger file is another one, named by mistake."""


def strategy_request_base(limits: Iterable[LimitField]) -> type[Question]:
    """Return a question with the limits that `trainfare strategy` knows; changes of the plan are checked later."""
    return add_limits(
        Question,
        {
            limit.keyword: (NameList if limit.takes_names else limit.info.annotation, limit.text)
            for limit in limits
            if "strategy" in limit.limit.commands
        },
    )


if TYPE_CHECKING:
    _QuestionWithLimits = Question
else:
    _QuestionWithLimits = strategy_request_base(limits_of(Constraints))


class MethodsRequest(_QuestionWithLimits):
    """A question with the job that it is about and the machines that may be rented."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

    target: str | None = Field(default=None, description='the job, e.g. "train.py:job"')
    max_nodes: Annotated[int, Field(strict=True, ge=1, le=64)] | None = Field(
        default=None, description="machines in one run; None: 4, or the job's own number if larger"
    )

    @property
    def question(self) -> Question:
        """The question alone; a field that was not given stays not given."""
        given = self.model_fields_set & Question.model_fields.keys()
        return Question.model_validate({name: getattr(self, name) for name in given})


def read_strategy_file(path: Path) -> dict[str, Any]:
    """
    Return the keys of a TOML file, dashes as underscores; `request_of` checks them.

    Raises:
        InputError: no such file, too large, or not TOML.
    """
    text = read_input(path, MAX_FILE_BYTES, kind="a strategy file")
    data = parse_toml(text, where=str(path))
    return {key.replace("-", "_"): value for key, value in data.items()}


def request_of(values: Mapping[str, Any], where: str) -> MethodsRequest:
    """
    Return the request; values that are None are left at their defaults.

    Args:
        values: fields of `MethodsRequest`.
        where: what to call them in an error.

    Raises:
        InputError: a field that does not exist, or a value of the wrong type or out of range.
    """
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return MethodsRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the question"
        if first["type"] == "extra_forbidden":
            names = ", ".join(sorted(MethodsRequest.model_fields))
            raise InputError(f"{where}: there is no {field}; there are {names}") from error
        raise InputError(f"{where}: {field}: {first['msg']}") from error


def fill_question(question: Question, job: DescribedJob) -> tuple[Question, tuple[str, ...]]:
    """Return the question completed from the job's own fields, and the assumptions made."""
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


MAX_CURVE_BYTES = 4 * 2**20


def read_curves(names: Sequence[str]) -> dict[Method, list[LearningCurve]]:
    """
    Read curves by method.

    Args:
        names: paths, or strategy=path where the file names no method or the wrong one.

    Raises:
        ProfileError: a file that is absent, too large or not a curve.
        InputError: a curve without a method.
        UnknownNameError: a method that does not exist.
    """
    out: dict[Method, list[LearningCurve]] = {}
    for name in names:
        name_given, separator, path = name.partition("=")
        if not separator or Path(name).is_file():
            name_given, path = "", name
        text = read_input(Path(path), MAX_CURVE_BYTES, kind="a learning curve", error=ProfileError)
        if b'"operations"' in text and b'"points"' not in text:
            raise InputError(
                f"{path}: is the profile of a job, not a learning curve: each strategy is traced, so give its script"
            )
        curve = LearningCurve.from_json(text, where=path)
        method = find_method(name_given) if name_given else curve.strategy
        if method is None:
            raise InputError(
                f"{path}: full fine-tuning and scratch look alike: name one, e.g. --pilot full_finetune={path}"
            )
        out.setdefault(method, []).append(curve)
    return out
