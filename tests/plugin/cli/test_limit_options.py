"""Options, keywords and policy keys are made from the fields of `Constraints`: the recipe of CONTRIBUTING, followed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import typer
from pydantic import Field, ValidationError
from typer.testing import CliRunner

from trainfare.cli.estimate import estimate
from trainfare.cli.limit_options import (
    LimitOptions,
    LockFilterOptions,
    OfferFilters,
    RunLimits,
    StrategyLimits,
    make_options,
)
from trainfare.cli.option_groups import FORMATS, Format, group_options
from trainfare.cli.predict import predict
from trainfare.cli.probe import probe
from trainfare.estimate import EstimateRequest
from trainfare.job import Probe
from trainfare.methods.request import strategy_request_base
from trainfare.recommendation import recommend
from trainfare.script import probe_script
from trainfare_core.errors import InputError
from trainfare_core.limits.constraints import Constraints, LimitKeywords
from trainfare_core.limits.limit_fields import Limit, limits_of, parse_limits
from trainfare_core.policy.policy import allow_list_base
from trainfare_core.prediction.machine import Sharding, predict_machine
from trainfare_core.prices.book import PriceBook

ROOT = Path(__file__).parents[3]


class MoreConstraints(Constraints):
    """A copy of the model with one limit more, as the recipe adds it."""

    max_vcpus: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Limit(
            "most vCPUs of one machine",
            commands=("run", "strategy"),
            wrong="{name}: {value} is not a limit; give 1 or more",
            allow="most vCPUs of one machine",
        ),
    ] = None


class MoreLimits(LimitOptions):
    """The options of a command, made from that copy."""

    model = MoreConstraints
    __signature__ = inspect.Signature(
        make_options(limit for limit in limits_of(MoreConstraints) if "run" in limit.limit.commands)
    )


def run_with(*arguments: str) -> tuple[dict[str, Any], str]:
    """Run a command that has the options; return the keywords it was given, and what it printed."""
    given: dict[str, Any] = {}
    app = typer.Typer()

    def command(*, limits: MoreLimits) -> None:
        given.update(limits.keywords())

    command.__annotations__["limits"] = MoreLimits
    app.command()(group_options(command))
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    return given, done.output


def test_a_field_is_an_option() -> None:
    """With its text and its bounds, beside those that are there."""
    _, text = run_with("--help")
    assert "--max-vcpus" in text
    assert "most vCPUs of one machine" in text
    given, _ = run_with("--max-vcpus", "8", "--provider", "aws, gcp", "--no-porting")
    assert given == {"max_vcpus": 8, "providers": ["aws", "gcp"], "no_porting": True, "confidence": 0.9}
    _, refused = run_with("--max-vcpus", "0")
    assert "Invalid value for '--max-vcpus'" in refused


def test_a_field_is_a_keyword() -> None:
    """Checked with the words beside it; None is its default."""
    assert parse_limits(MoreConstraints, {"max_vcpus": 8}).max_vcpus == 8
    assert parse_limits(MoreConstraints, {"max_vcpus": None}).max_vcpus is None
    with pytest.raises(InputError, match="max_vcpus: 0 is not a limit; give 1 or more"):
        parse_limits(MoreConstraints, {"max_vcpus": 0})


def test_a_field_is_a_key_of_a_policy_and_of_a_strategy_file() -> None:
    """With its check."""
    table = allow_list_base(limits_of(MoreConstraints))
    assert table.model_fields["max_vcpus"].description == "most vCPUs of one machine"
    assert table.model_validate({"max_vcpus": 8}).model_dump(exclude_none=True) == {"max_vcpus": 8}
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        table.model_validate({"max_vcpus": 0})
    assert "max_vcpus" in strategy_request_base(limits_of(MoreConstraints)).model_fields


def test_the_recipe_names_these_files() -> None:
    """CONTRIBUTING says what to do, in files that exist."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = text.partition("\n## Add a constraint\n")[2].partition("\n## ")[0]
    named = [word.strip("`:,.") for word in recipe.split() if word.startswith("`") and ".py" in word]
    assert "core/trainfare_core/limits/constraints.py" in named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_typed_keywords_are_those_of_the_fields() -> None:
    """Type checkers see each keyword of `recommend` that there is, and no other."""
    keywords = [limit.keyword for limit in limits_of(Constraints)]
    assert sorted(LimitKeywords.__annotations__) == sorted(keywords)
    assert {limit.name for limit in limits_of(Constraints)} | {"max_nodes"} == set(
        Constraints.model_fields
    )  # an argument of its own, which the answer shows with the others
    signature = inspect.signature(recommend)
    assert set(keywords) < set(signature.parameters)
    assert all(f"            {keyword}: " in str(recommend.__doc__) for keyword in keywords)


def test_options_stand_in_their_order() -> None:
    """Those that most runs need first; a name that is no option's would leave one behind them all."""
    first = [
        "max_usd",
        "deadline",
        "confidence",
        "provider",
        "service",
        "region",
        "instance_type",
        "accelerator",
        "exclude",
        "residency",
        "max_accelerators",
        "quota",
        "min_network_gbit",
        "no_porting",
        "purchase",
        "all_clouds",
        "max_nodes",
        "max_hours",
        "keep_plan",
        "allow",
        "scale",
        "critical_batch",
        "data_in",
        "data_gb",
    ]
    assert list(RunLimits.__signature__.parameters)[: len(first)] == first


def test_prices_are_filtered_by_each_name_that_they_have() -> None:
    """A limit that takes names of a column of the prices is an option of `offers` and of `prices lock` too."""
    columns = {
        limit.option for limit in limits_of(Constraints) if limit.takes_names and limit.name in FILTERED
    }
    assert columns == set(OfferFilters.__signature__.parameters) - {"all_clouds"}
    # A lock has every size of a machine: a ranking that may choose among them is the same as with all prices.
    assert columns - {"instance_type"} == set(LockFilterOptions.__signature__.parameters)


FILTERED = set(inspect.signature(PriceBook.filter).parameters) - {"excluded"}


def option_defaults(command: Callable[..., None]) -> dict[str, Any]:
    return {name: option.default for name, option in inspect.signature(command).parameters.items()}


def test_predict_has_an_option_for_each_argument_and_its_default() -> None:
    """Under the names that people type; what is read from files is no option."""
    renamed = {"accelerator_name": "on", "sharding": "strategy", "network_gbit_per_s": "network_gbit"}
    arguments = dict(inspect.signature(predict_machine).parameters)
    options = option_defaults(predict)
    for name in ("profile", "earlier"):
        del arguments[name]
    assert {renamed.get(name, name): argument.default for name, argument in arguments.items()} == {
        renamed.get(name, name): options[renamed.get(name, name)] for name in arguments
    }
    choices = get_args(
        get_args(inspect.signature(predict, eval_str=True).parameters["strategy"].annotation)[0]
    )
    assert {*choices, "none"} == set(get_args(Sharding))  # none: the script's own on one device


def test_probe_and_estimate_have_an_option_for_each_field() -> None:
    """The fields of what they ask for, with their defaults."""
    options = option_defaults(probe)
    assert {field.name for field in fields(Probe)} - {"end"} < set(options)
    assert options["optimizer_step"] == inspect.signature(probe_script).parameters["optimizer_step"].default
    asked = {field.name: field.default for field in fields(EstimateRequest) if field.default is not MISSING}
    assert asked == {name: option_defaults(estimate)[name] for name in asked}


def test_constraints_and_keywords_together() -> None:
    """A keyword is over the constraints; one that there is none of is named, as is what is no `Constraints`."""
    limits = Constraints(providers=("aws",), data_gb=5.0, max_usd=3.0)
    both = parse_limits(Constraints, {"max_usd": 7, "data_in": "aws:us-east-1", "regions": None}, limits)
    assert both == limits.model_copy(update={"max_usd": 7.0, "data_in": "aws:us-east-1"})
    call: Any = recommend
    with pytest.raises(TypeError, match=r"recommend\(\) got an unexpected keyword argument 'max_used'"):
        call("job.json", max_used=3)
    with pytest.raises(InputError, match="expected Constraints, got str; give a limit by its keyword"):
        call("job.json", "aws")


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"providers": 3}, "providers: 3 is no name; give a name, or a list of names"),
        ({"no_porting": "perhaps"}, "no_porting: 'perhaps' is neither True nor False"),
        ({"max_usd": "much"}, "max_usd: much is not a limit; give a finite number that is not negative"),
        ({"max_run_hours": 0}, "max_hours: 0 is not a limit; give a finite number above 0"),
        (
            {"data_in": "here"},
            "data_in: 'here' is no place; give a cloud and a region, such as aws:us-east-1",
        ),
        ({"data_in": "aws:x"}, "data_in: aws:x: give data_gb too, the size of the data in GB"),
        ({"allow": ["plan", "all"]}, "allow: 'all' is not one of plan, batch-norm, batch, "),
    ],
)
def test_a_value_that_cannot_be_used_is_named(keywords: dict[str, Any], words: str) -> None:
    """In the words beside its field, or in those of its kind."""
    with pytest.raises(InputError) as raised:
        parse_limits(Constraints, keywords)
    assert str(raised.value).startswith(words)


def test_every_command_has_the_options_of_its_limits() -> None:
    """A new limit is in the commands that it names; lists of prices name theirs."""
    options = {limit.option: limit.limit.commands for limit in limits_of(Constraints)}
    for group, command in ((RunLimits, "run"), (StrategyLimits, "strategy")):
        expected = {option for option, commands in options.items() if command in commands}
        assert set(group.__signature__.parameters) == expected | {"max_nodes"}
    assert set(OfferFilters.__signature__.parameters) < set(options)


def test_format_is_narrowed_to_the_command() -> None:
    """One table has the formats; the first is the default's."""

    def offers(*, output: Format = "table") -> None:
        """List."""

    offers.__annotations__["output"] = Format
    option = inspect.signature(group_options(offers)).parameters["output"]
    assert set(option.annotation.__origin__.__args__) == set(FORMATS["offers"])
    assert all(formats[0] == option.default for formats in FORMATS.values())
