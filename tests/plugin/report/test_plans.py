"""What a page says of each option: its plan, why it is not the answer, what if, and what starts it."""

from __future__ import annotations

import shlex
from datetime import date
from typing import Any

import pytest

from builders.exports import answer_of, small_answer
from builders.recommendations import costs, interval, option, recommendation
from builders.versions import is_before
from trainfare.export import TARGETS, export_plan
from trainfare.report.blocks import Code, Details, Text, join_lines
from trainfare.report.sections.plans import build_files_section, build_plans_section
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Recommendation

_LACKS_G7E = is_before("botocore", "1.43")

TODAY = date(2026, 11, 24)


def _details(answer: Recommendation) -> list[Details]:
    return [block for block in build_plans_section(answer, TODAY) if isinstance(block, Details)]


def _texts(details: Details) -> list[str]:
    """Return every line below the facts of an option."""
    found: list[Any] = []
    for block in details.blocks:
        found += block.text if isinstance(block, Code) else getattr(block, "items", None) or [block.line]  # type: ignore[union-attr]
    return [join_lines((line,)) for line in found]


def _commands(details: Details) -> list[str]:
    return [
        block.text for block in details.blocks if isinstance(block, Code) and block.label.startswith("Export")
    ]


@pytest.mark.parametrize("job", ["llama-7b", "tiny"])
def test_every_export_command_of_a_page_writes_its_file(job: str) -> None:
    """Over all services of a real answer: `trainfare export` takes the plan for the target that the page names."""
    answer = answer_of(job)
    targets = set[str]()
    for details in _details(answer):
        for command in _commands(details):
            _, _, _, _, target, _, name, *rest = shlex.split(command)
            targets.add(target)
            try:
                files = export_plan(answer, target, name, porting="--porting" in rest)
                assert bool(files.beside) == (
                    "--output" in rest
                )  # several files do not go to standard output
            except InputError as error:
                assert "SageMaker ends a job after 28 days" in str(error) or (  # noqa: PT017 - of long runs alone
                    _LACKS_G7E and "update boto3" in str(error)
                )
    assert targets >= {"skypilot", "torchrun"}


def test_each_service_is_started_by_what_exports_it() -> None:
    """
    The targets of a page are those whose services `trainfare export` knows, and torchrun for all.

    Of TPUs and quoted machines SkyPilot names some alone: a page has no command that might end with an error.
    """
    for service in set().union(*(services for _, services in TARGETS.values())):
        known = {} if service in ("tpu", "gpu_cloud") else TARGETS
        expected = {name for name, (_, services) in known.items() if service in services} | {"torchrun"}
        (details,) = _details(small_answer(service=service))
        assert {shlex.split(command)[4] for command in _commands(details)} == expected


def test_a_capacity_block_has_no_file_of_a_service() -> None:
    """It is booked first: a script for its machine is all there is to export."""
    (details,) = _details(small_answer(purchase_option="capacity_block"))
    assert [shlex.split(command)[4] for command in _commands(details)] == ["torchrun"]


def test_a_file_that_a_page_cannot_show_exactly_is_left_out() -> None:
    """A tab or a control character would be another text in the clipboard; blanks are kept."""
    (only,) = small_answer().options
    texts = {
        "skypilot: FILE": "run: |\n  a  b\n",
        "torchrun: FILE": "a\tb\n",
        "sagemaker: FILE": "a\x1b[1m\n",
    }
    blocks = build_files_section([("cheapest, best-value", only, texts)])
    assert [block.text for block in blocks if isinstance(block, Code)] == ["run: |\n  a  b\n"]
    (line,) = [block.line for block in blocks if isinstance(block, Text) and not block.tone]
    assert join_lines((line,)).startswith("Cheapest, best value: 1 × g6.12xlarge (AWS, ")


def test_what_if_closes_the_gap_exactly() -> None:
    """
    The named fall of a price makes both runs cost the same.

    By hand: the answer costs $100 and the other $125, of which $0.625 (half a percent) are disks. The hours of the
    other cost $124.375, so 25 / 124.375 = 20.1 % less an hour is $100. Of its time 95.5 / 99.5 are training and
    3 / 99.5 validation (the parts of `costs`): 25 / (124.375 x 97 / 99.5 + 0.625), with disks in time, is 20.5 %.
    """
    answer = recommendation(
        options=(
            option(rank=1, usd=100.0, cost_parts=costs(100.0)),
            option(
                rank=2,
                instance_type="g6.4xlarge",
                usd=125.0,
                cost_parts=costs(125.0),
                run_usd=interval(125.0),
            ),
        ),
        cheapest_rank=1,
        fastest_rank=1,
        best_value_rank=None,
        runner_up=None,
        objective="cheapest",
    )
    _, other = _details(answer)
    (text,) = [text for text in _texts(other) if text.startswith("What if")]
    assert "1 × g6.4xlarge gets 20 % cheaper" in text
    assert "or if 1 × g6.4xlarge gets 20 % cheaper" in text
    assert any(
        text.startswith("Why: Beside 1 × g6.2xlarge, the cheapest: It costs 25 % more")
        for text in _texts(other)
    )


def test_a_guess_is_never_compared_as_if_it_were_known() -> None:
    """An option whose vendor's software was too little measured has the reason, and no change that makes it the answer."""
    answer = recommendation()
    guess = answer.options[1].model_copy(
        update={"unmeasured_software": True, "rests_on": "too few measured (4 rows)"}
    )
    texts = _texts(_details(answer.model_copy(update={"options": (answer.options[0], guess)}))[1])
    assert "Why: A guess, never named cheapest or fastest: too few measured (4 rows)." in texts
    assert not any(text.startswith("What if") for text in texts)
