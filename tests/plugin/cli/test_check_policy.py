"""`trainfare check` without TARGET: every job of a policy, one table, the worst exit code; and its outputs."""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft202012Validator

from builders.cli import run_main
from builders.days import snapshot_day
from builders.profiles import gpt_profile
from builders.sarif import SARIF_SCHEMA
from builders.toy_market import small_job
from trainfare.cli.base import BaseOf
from trainfare.cli.check_answers import CheckAnswer, policy_answer
from trainfare.cli.check_options import PolicyOptions
from trainfare.prices.sources import PriceChoice
from trainfare_core.errors import TargetError
from trainfare_core.installation import write_install_line
from trainfare_core.job_profile import JobProfile
from trainfare_core.policy.check import PolicyCheck
from trainfare_core.recommendation import Constraints

SCHEMA = Path(__file__).parents[3] / "docs" / "schema" / "policy-check-1.json"
TRAIN = """\
import torch
from torch import nn

from trainfare import TrainingJob


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def job():
    return TrainingJob(module=Tiny, batch=lambda: torch.zeros(8, 4), batch_size=8, max_steps=1000)


class Data(Tiny):
    def training_step(self, batch, batch_idx):
        if batch.sum().item() > 0:
            raise ValueError("no branch for this")
        return self.layer(batch[batch > 0]).mean()


def untraceable():
    return TrainingJob(module=Data, batch=lambda: torch.zeros(8, 4), batch_size=8, max_steps=1000)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the root of a repository, with a job, a profile, and no policy yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "gpt.json").write_text(gpt_profile(batch_size=32).to_json(), encoding="utf-8")
    (tmp_path / "small.json").write_text(small_job().to_json(), encoding="utf-8")
    return tmp_path


def policy(text: str, name: str = "trainfare.toml") -> None:
    Path(name).write_text(text, encoding="utf-8")


run = partial(run_main, "check")


def line_of(function: str) -> int:
    return TRAIN[: TRAIN.index(f"def {function}()")].count("\n") + 1


def answer_of(capsys: pytest.CaptureFixture[str]) -> PolicyCheck:
    printed = capsys.readouterr().out
    Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(json.loads(printed))
    return PolicyCheck.model_validate_json(printed)


GPT = '[jobs.{name}]\ntarget = "gpt.json"\nmax_usd = {usd}\n'


@pytest.mark.usefixtures("folder")
def test_real_jobs_are_traced_checked_and_placed(capsys: pytest.CaptureFixture[str]) -> None:
    """A traced job within its budget, one whose step cannot be traced, and one that is not there, in one answer."""
    policy(
        '[jobs.tiny]\ntarget = "train.py:job"\nmax_usd = 1000\n'
        '[jobs.data]\ntarget = "train.py:untraceable"\nmax_usd = 1000\n'
        '[jobs.gone]\ntarget = "train.py:jobs"\nmax_usd = 1000\n'
    )
    assert run("--format", "json") == 2
    answer = answer_of(capsys)
    tiny, data, gone = answer.jobs
    assert (tiny.verdict, tiny.exit_code) == ("within", 0)
    assert tiny.check is not None
    assert tiny.check.job.name == "Tiny"
    assert tiny.place is not None
    assert (tiny.place.path, tiny.place.line) == ("train.py", line_of("job"))
    assert (data.verdict, data.exit_code) == ("not_checked", 3)
    assert data.place is not None
    assert data.place.line == line_of("untraceable")
    assert (gone.verdict, gone.exit_code) == ("not_checked", 2)
    assert "did you mean job" in gone.findings[0].message
    assert answer.policy == "trainfare.toml"


def test_a_source_that_no_parser_takes_leaves_the_other_job_its_answer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate looks for the line of a job in its own process: what is too deep for Python's parser ends neither."""
    (folder / "deep.py").write_text("x = " + "-" * 50_000 + "1\n", encoding="utf-8")
    policy('[jobs.deep]\ntarget = "deep.py:job"\nmax_usd = 1\n' + GPT.format(name="gpt", usd=1e9))
    assert run("--format", "json") == 2
    deep, gpt = answer_of(capsys).jobs
    assert (deep.verdict, deep.exit_code) == ("not_checked", 2)
    assert deep.place is not None
    assert (deep.place.path, deep.place.line) == ("deep.py", 1)
    assert (gpt.verdict, gpt.exit_code) == ("within", 0)


@pytest.mark.usefixtures("folder")
def test_one_table_and_the_worst_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Each job has its row; over is worse than within; --job leaves the others out."""
    policy(GPT.format(name="small", usd=1e6) + GPT.format(name="large", usd=0.01))
    assert run() == 1
    captured = capsys.readouterr()
    rows = [line.split()[:2] for line in captured.out.splitlines() if line.startswith(" ")]
    assert ["small", "within"] in rows
    assert ["large", "over"] in rows
    assert captured.out.splitlines()[-1] == "failed: 1 of 2 jobs pass; exit code 1"
    assert run("--job", "small") == 0
    assert run("--job", "smal") == 2
    assert "did you mean small?" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_project_file_and_a_named_file_hold_policies(tmp_path: Path) -> None:
    """[tool.trainfare] of pyproject.toml is found; --policy names a file elsewhere, whose paths count from there."""
    policy(
        f"[tool.trainfare]\n{GPT.format(name='a', usd=1e6)}".replace("[jobs", "[tool.trainfare.jobs"),
        "pyproject.toml",
    )
    assert run() == 0
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "gpt.json").write_text(gpt_profile(batch_size=32).to_json(), encoding="utf-8")
    policy(GPT.format(name="a", usd=0.01), "inner/costs.toml")
    assert run("--policy", "inner/costs.toml") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-usd", "5"), "--max-usd without TARGET"),
        (("--confidence", "0.9"), "--confidence without TARGET"),
        (("gpt.json", "--max-usd", "5", "--job", "a"), "--job with TARGET"),
        (("gpt.json", "--max-usd", "5", "--policy", "trainfare.toml"), "--policy with TARGET"),
        (("--policy", "none.toml"), "none.toml: cannot be read"),
        (("--output", "sarf=x"), "did you mean sarif?"),
        (("--output", "sarif="), "name a file after the ="),
        (("--output", "sarif=x", "--output", "markdown=x"), "two formats cannot go to one file"),
        (("--output", "a", "--output", "b"), "a second file for --format table"),
        (("--output", "sarif=nowhere/x"), "there is no folder"),
        (("--output", "json=gpt.json"), "exists already"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_usage_ends_with_two_and_writes_nothing(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that do not go together, unknown formats and files that may not be written are refused before the work."""
    policy(GPT.format(name="a", usd=1e6))
    before = sorted(Path().iterdir())
    assert run("--output", "table=fine.txt", *arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("folder")
def test_no_policy_says_how_to_write_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Who forgets the TARGET reads about both ways."""
    assert run() == 2
    assert "give a TARGET" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_several_formats_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Annotations are printed, and Markdown, SARIF and JSON each get a file; the same again gives the same bytes."""
    policy(GPT.format(name="large", usd=0.01))
    outputs = [f"--output={form}=1.{form}" for form in ("markdown", "sarif", "json", "table")]
    assert run("--format", "github", *outputs) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("::error file=gpt.json,line=1,title=TF001 max_usd%3A large::")
    assert Path("1.markdown").read_text(encoding="utf-8").startswith("## trainfare check: failed")
    Draft202012Validator(SARIF_SCHEMA).validate(json.loads(Path("1.sarif").read_text(encoding="utf-8")))
    assert PolicyCheck.model_validate_json(Path("1.json").read_bytes()).exit_code == 1
    assert run("--format", "github", *(output.replace("=1.", "=2.") for output in outputs)) == 1
    assert capsys.readouterr().out == printed
    for form in ("markdown", "sarif", "json", "table"):
        assert Path(f"1.{form}").read_bytes() == Path(f"2.{form}").read_bytes()


@pytest.mark.usefixtures("folder")
def test_a_target_has_the_same_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """One TARGET with the limits of the command line goes into the same formats, beside its own JSON."""
    arguments = ("train.py:job", "--max-usd", "0.000001", "--max-nodes", "1")
    assert run(*arguments, "--format", "github", "--output", "sarif=x.sarif", "--output", "json=x.json") == 1
    assert capsys.readouterr().out.startswith(
        f"::error file=train.py,line={line_of('job')},title=TF001 max_usd%3A check::"
    )
    log: dict[str, Any] = json.loads(Path("x.sarif").read_text(encoding="utf-8"))
    assert log["runs"][0]["results"][0]["ruleId"] == "TF001"
    assert json.loads(Path("x.json").read_text(encoding="utf-8"))["verdict"] == "over"


@pytest.mark.usefixtures("folder")
def test_junit_is_written_or_names_its_extra(capsys: pytest.CaptureFixture[str]) -> None:
    """Without junitparser the format is refused before the work, and no other file is written; with it, it is XML."""
    policy(GPT.format(name="large", usd=0.01))
    code = run("--output", "junit=x.xml", "--output", "json=x.json")
    if importlib.util.find_spec("junitparser") is None:
        assert code == 2
        assert write_install_line("ci") in capsys.readouterr().err
        assert not list(Path().glob("x.*"))
    else:
        assert code == 1
        assert ET.parse("x.xml").getroot().get("failures") == "1"


def middle_usd() -> float:
    assert run("gpt.json", "--max-usd", "1e6", "--output", "json=middle.json") == 0
    value: float = json.loads(Path("middle.json").read_text(encoding="utf-8"))["best"]["run_usd"]["mid"]
    return value


@pytest.mark.usefixtures("folder")
def test_on_unknown_decides_for_a_target_and_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """A limit at the median fails, warns or passes; the command line overrides the file and the job."""
    limit = str(middle_usd())
    policy('on_unknown = "pass"\n' + GPT.format(name="a", usd=limit) + 'on_unknown = "warn"\n')
    capsys.readouterr()
    for chosen, code in (("pass", 0), ("warn", 0), ("fail", 3)):
        assert run("gpt.json", "--max-usd", limit, "--on-unknown", chosen) == code
        captured = capsys.readouterr()
        assert "CANNOT TELL" in captured.out
        assert ("kept with a chance of" in captured.err) == (chosen == "warn")
        assert run("--on-unknown", chosen) == code
    capsys.readouterr()
    assert run() == 0
    assert "a: warning: TF001 max_usd: cannot tell" in capsys.readouterr().out


WAIVER = '[[waivers]]\njob = "a"\nrule = "{rule}"\nowner = "ml"\nreason = "first run"\nexpires = 2026-12-31\n'


@pytest.mark.usefixtures("folder")
def test_a_waiver_holds_until_its_last_day(capsys: pytest.CaptureFixture[str]) -> None:
    """Days are counted to --as-of: on the last one the check passes, on the next it fails and says why."""
    policy(GPT.format(name="a", usd=0.01) + WAIVER.format(rule="max_usd"))
    assert run("--as-of", "2026-12-31") == 0
    assert "waived by ml until 2026-12-31: first run" in capsys.readouterr().out
    assert run("--as-of", "2027-01-01") == 1
    assert "TF009 waiver: the waiver of max_usd by ml expired after 2026-12-31" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_old_prices_fail_warn_or_are_waived(capsys: pytest.CaptureFixture[str]) -> None:
    """Prices past the policy's age end with 3 where on_stale says so, and a waiver makes them a note."""
    head = 'max_price_age_days = 1\non_stale = "fail"\non_unknown = "pass"\n'
    policy(head + GPT.format(name="a", usd=1e6) + WAIVER.format(rule="max_price_age_days"))
    assert run("--as-of", "2027-01-01") == 3
    out = capsys.readouterr().out
    assert "a: error: TF006 max_price_age_days: " in out
    assert "the waiver of max_price_age_days by ml expired" in out
    assert run("--as-of", "2026-12-31") == 0
    assert run("--as-of", "2027-01-01", "--on-stale", "warn") == 0
    assert run("--as-of", "2027-01-01", "--max-price-age-days", "1000000") == 0


@pytest.mark.usefixtures("folder")
def test_allow_lists_decide_where_a_job_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Cloud, region, accelerator and purchase option of the best machine are among those allowed; a typing error is named."""
    allow = 'allow = {{ providers = ["aws"], regions = ["{region}"], accelerators = ["{name}"], purchase = ["spot"] }}\n'
    small = GPT.format(name="a", usd=1e6).replace("gpt", "small")
    policy(
        small
        + allow.format(region="us-east-1", name="a10g")
        + GPT.format(name="b", usd=1e6)
        + allow.format(region="us-est-1", name="a10g")
    )
    assert run("--as-of", snapshot_day(), "--format", "json") == 2
    a, b = answer_of(capsys).jobs
    assert a.check is not None
    assert a.check.best is not None
    best = a.check.best
    assert (best.provider, best.region, best.purchase_option) == ("aws", "us-east-1", "spot")
    assert best.accelerator == "A10G-24GB"
    assert "us-east-1" in b.findings[0].message


@pytest.mark.usefixtures("folder")
def test_a_folder_of_profiles_is_the_base_of_each_job(capsys: pytest.CaptureFixture[str]) -> None:
    """NAME.json is a job's base: its limits on increases apply, and what changed is in the answer; another job may have had another name."""
    limit = "max_increase_percent = 5\n"
    head = GPT.format(name="a", usd=1e6).replace("gpt", "small")
    policy(head + limit + head.replace("jobs.a", "jobs.b") + limit)
    Path("before").mkdir()
    Path("before/a.json").write_text(small_job(steps=18_000).to_json(), encoding="utf-8")
    assert run("--base", "before", "--format", "json") == 1
    a, b = answer_of(capsys).jobs
    assert {finding.rule: finding.status for finding in a.findings}["max_increase_percent"] == "broken"
    (increase,) = [finding for finding in b.findings if finding.rule == "max_increase_percent"]
    assert (increase.status, increase.level) == ("cannot_tell", "error")
    assert increase.message == "the base: before: it has no b.json"
    assert a.check is not None
    assert a.check.change is not None
    assert a.check.change.base.label == "before/a.json"
    assert run("--base", "before") == 1
    shown = capsys.readouterr().out
    (row,) = (line for line in shown.splitlines() if re.match(r" a +over", line))
    assert "+5 %" in row  # the limit that broke, not the budget, which is kept
    rules = [line for line in shown.splitlines() if line.strip("─ ") == ""]
    assert rules
    assert max(map(len, rules)) <= 120
    assert run("--base", "small.json") == 2
    assert "no folder" in capsys.readouterr().err


def test_help_names_the_table_of_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are markup to the help's renderer: the table's name and that of the output's format stand without loss."""
    assert run("--help") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "tool.trainfare of pyproject.toml" in shown
    assert "FORMAT=" in shown


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("first", "precisions"),
    [
        ("", False),
        ('allow_changes = ["precision"]\n', True),
        ('allow_changes = ["precision"]\nkeep_plan = true\n', False),
    ],
)
def test_a_policy_that_allows_other_precisions_has_its_jobs_traced_in_them(
    first: str, precisions: bool
) -> None:
    """Those of the change and those before it."""
    policy(f"{first}{GPT.format(name='a', usd=10)}")
    constraints_list: list[Constraints] = []

    def trace_module(_place: str, limits: Constraints) -> JobProfile:
        constraints_list.append(limits)
        return small_job()

    def before(_place: str, limits: Constraints) -> BaseOf:
        constraints_list.append(limits)
        return lambda _loaded: None

    choice = PriceChoice(now=datetime(2026, 11, 1, tzinfo=timezone.utc))
    policy_answer(PolicyOptions(), choice, trace_module, None, before, None)
    assert [limits.any_precision for limits in constraints_list] == [precisions, precisions]


@pytest.mark.usefixtures("folder")
def test_jobs_traced_at_a_time_give_the_same_answer() -> None:
    """Two traces wait for each other, which only two at once can; an error is its job's, a target is traced once."""
    names = ("first", "broken", "second", "again")
    targets = dict(zip(names, ("a.py:job", "b.py:job", "c.py:job", "a.py:job"), strict=True))
    policy("".join(f'[jobs.{name}]\ntarget = "{targets[name]}"\nmax_usd = 50\n' for name in names))
    asked: list[str] = []

    def answer(at_once: int, meet: Callable[[], object]) -> CheckAnswer:
        def trace(target: str, _constraints: Constraints) -> JobProfile:
            asked.append(target)
            if target != "b.py:job":
                meet()
                return small_job()
            raise TargetError("b.py: no such file")

        options, choice = (
            PolicyOptions(jobs=at_once),
            PriceChoice(now=datetime(2026, 11, 1, tzinfo=timezone.utc)),
        )
        return policy_answer(options, choice, trace, None, lambda *_: lambda _loaded: None, None)

    alone = answer(1, lambda: None)
    asked.clear()
    together = answer(3, threading.Barrier(2).wait)
    assert together.exit_code == alone.exit_code == 2
    assert together.renderers["json"]() == alone.renderers["json"]()
    assert sorted(asked) == ["a.py:job", "b.py:job", "c.py:job"]
