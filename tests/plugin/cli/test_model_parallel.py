"""`--allow model-parallel`: the same split, change and lines for the script in every output."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.cli import run_main
from builders.profiles import gpt_profile, write_profile
from trainfare_core.policy.budget_check import BudgetCheck
from trainfare_core.ranking.alternatives.why_not import WhyNot
from trainfare_core.recommendation import ModelSplit, Recommendation

MACHINE = ("--instance-type", "g6.48xlarge", "--max-nodes", "1")
"""Eight L4 of 24 GB, over PCIe."""
CHANGE = "Plan changes: "


@pytest.fixture
def job(tmp_path: Path) -> str:
    """A profile of a decoder of 3 billion parameters, a batch of one: sharding it over devices needs more samples."""
    profile = gpt_profile(layers=14, width=4096, heads=32, sequence=2048, batch_size=1, checkpointing=True)
    return write_profile(tmp_path, profile)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Return what a command prints; of text for people, with lines joined and Markdown's escapes removed."""
    assert run_main(*arguments) == code
    printed = capsys.readouterr().out
    return printed if "json" in arguments else " ".join(printed.split()).replace("\\", "")


def test_every_output_names_the_split_what_it_changes_and_what_the_script_needs(
    job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table, details, Markdown, HTML, JSON, `why` and `check` say the same of the one machine."""
    flag = ("--allow", "model-parallel")
    document = answer(capsys, "recommend", job, *MACHINE, *flag, "--format", "json")
    (option,) = Recommendation.from_json(document).options
    split, trainer = option.model_split, option.trainer
    assert split == ModelSplit(tensor=8, pipeline=1, context=1, expert=1, replicas=1)
    assert trainer is not None
    assert "tensor parallelism over 8 devices" in option.plan_changes[0]
    for form in (("table",), ("table", "--details"), ("markdown",)):
        text = answer(capsys, "recommend", job, *MACHINE, *flag, "--format", *form)
        assert CHANGE in text
        assert "ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=8)" in text
        assert trainer.script_needs.split("(")[0] in text
        assert ", batch size 1 per replica" in text
        assert ("tensor 8, micro-batch 1" in text) == ("--details" in form)
    why = answer(capsys, "why", "g6.48xlarge", job, "--max-nodes", "1", *flag)
    assert CHANGE in why
    assert "parallelize_module" in why
    explained = answer(capsys, "why", "g6.48xlarge", job, "--max-nodes", "1", *flag, "--format", "json")
    result = WhyNot.model_validate_json(explained).option
    assert result is not None
    assert result.model_split == split
    limits = ("--max-usd", "1000000000", "--max-hours", "1000000")
    assert CHANGE in answer(capsys, "check", job, *MACHINE, *flag, *limits)
    checked = answer(capsys, "check", job, *MACHINE, *flag, *limits, "--format", "json")
    best = BudgetCheck.model_validate_json(checked).best
    assert best is not None
    assert best.model_split == split


def test_without_the_flag_the_answer_names_it(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing fits on one machine: the nearest run is the split one, with the flag that admits it."""
    text = answer(capsys, "recommend", job, *MACHINE, code=3)
    assert "--allow model-parallel: cheapest with the model split over devices" in text
