"""`trainfare check`: exit 0 within, 1 over, 2 bad usage, 3 cannot tell."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path

import pytest

from builders.cli import run_main
from builders.days import snapshot_day
from builders.profiles import gpt_profile, write_profile
from builders.toy_market import book, in_precisions, offer_row, small_job
from trainfare.report.policy.text import build_check
from trainfare.report.render.text import format_lines, format_markdown
from trainfare_core.policy.budget_check import BudgetCheck, judge
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints

DAY = date(2026, 11, 24)


@pytest.fixture
def job(tmp_path: Path) -> str:
    """A profile of a small GPT on disk."""
    return write_profile(tmp_path, gpt_profile(batch_size=32))


run = partial(run_main, "check")


def answer_of(capsys: pytest.CaptureFixture[str]) -> BudgetCheck:
    return BudgetCheck.model_validate_json(capsys.readouterr().out)


def test_within_ends_with_zero(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A generous budget is kept, by the cheapest machine that needs no porting and has enough confidence."""
    assert run(job, "--max-usd", "100000", "--deadline", "365d", "--format", "json") == 0
    answer = answer_of(capsys)
    assert answer.verdict == "within"
    assert answer.best is not None
    assert not answer.best.needs_porting
    assert answer.best.purchase_option == "on_demand"
    assert answer.probability_within == answer.best.probability_within == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["job\udcff.json", "j\x85b.json", "j\x1b[0mb.json"])
def test_a_profile_of_any_name_is_checked(name: str, job: str, tmp_path: Path) -> None:
    """Bytes that are no text, and control characters, which no target of a policy may have."""
    Path(job).rename(tmp_path / name)
    assert run(str(tmp_path / name), "--max-usd", "100000", "--format", "json") == 0


def test_filters_and_plans_reach_the_check(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is about the machine that was named, and about nothing else."""
    code = run(
        job, "--max-usd", "100000", "--accelerator", "H100", "--service", "ec2", "--instance-type", "p5", "--exclude",
        "p5.48xlarge", "--no-porting", "--keep-plan", "--allow", "batch-norm", "--max-hours", "999", "--format", "json",
    )  # fmt: skip
    assert code == 0
    answer = answer_of(capsys)
    assert answer.best is not None
    assert answer.best.instance_type == "p5.4xlarge"
    constraints = answer.constraints
    assert (constraints.no_porting, constraints.keep_plan, constraints.allow, constraints.max_run_hours) == (
        True,
        True,
        ("batch-norm",),
        999,
    )
    assert constraints.excluded == ("p5.48xlarge",)


def test_limits_that_a_policy_has_no_key_for_reach_the_check(
    job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of the command line is never ignored."""
    code = run(
        job, "--max-usd", "100000", "--residency", "eu", "--max-accelerators", "8", "--min-network-gbit", "10",
        "--data-gb", "1", "--format", "json",
    )  # fmt: skip
    assert code == 0
    answer = answer_of(capsys)
    asked = answer.constraints
    assert (asked.residency, asked.max_accelerators, asked.min_network_gbit_per_s, asked.data_gb) == (
        ("eu",),
        8,
        10.0,
        1.0,
    )
    assert answer.best is not None
    assert answer.best.region.startswith(("eu-", "europe-"))


def test_over_ends_with_one(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A cent is not enough on any machine, and the nearest miss is shown."""
    assert run(job, "--max-usd", "0.01", "--format", "json") == 1
    answer = answer_of(capsys)
    assert answer.verdict == "over"
    assert answer.best is not None
    assert answer.best.run_usd.low_80 > 0.01
    assert "over 0.01 USD" in answer.reason


def test_between_ends_with_three(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget at the median of the cheapest run is neither kept nor broken with 90 % confidence."""
    assert run(job, "--max-usd", "0.01", "--format", "json") == 1
    best = answer_of(capsys).best
    assert best is not None
    assert run(job, "--max-usd", str(best.run_usd.mid), "--format", "json") == 3
    answer = answer_of(capsys)
    assert answer.verdict == "cannot_tell"
    assert answer.probability_within is not None
    assert 0.1 < answer.probability_within < 0.9


def test_an_unknown_length_ends_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a number of steps there is no total cost to compare."""
    assert run(write_profile(tmp_path, small_job(steps=None)), "--max-usd", "1000") == 3
    assert "the data has no length" in capsys.readouterr().out


def test_a_job_that_fits_nowhere_ends_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """'Cannot tell' names the nearest miss in GiB."""
    huge = gpt_profile(layers=400, width=20_480, heads=160, batch_size=1)
    assert run(write_profile(tmp_path, huge), "--max-usd", "1e9", "--max-nodes", "1") == 3
    assert "GiB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "nothing to check"),
        (("--max-usd", "nan"), "max_usd"),
        (("--max-usd", "inf"), "max_usd"),
        (("--max-usd=-5",), "max_usd"),
        (("--deadline=-5",), "--deadline"),
        (("--deadline", "nan"), "--deadline"),
        (("--max-usd", "5", "--confidence", "nan"), "confidence"),
        (("--max-usd", "5", "--provider", "amazon"), "provider"),
        (("--max-usd", "5", "--max-nodes", "0"), "max-nodes"),
        (("--max-usd", "five"), "--max-usd"),
    ],
)
def test_bad_usage_ends_with_two(
    job: str, arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No limit, impossible numbers and unknown names never pass a gate."""
    assert run(job, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert word in captured.err


def test_no_common_price_ends_with_three(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Known names without a price in common are not 'over budget'."""
    assert run(job, "--max-usd", "5", "--provider", "aws", "--purchase", "savings_3y", "--use", "1") == 3
    assert "no price matches" in capsys.readouterr().err


def test_spot_counts_only_when_named(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The default judges at on-demand prices and says so; --purchase spot judges with spot."""
    assert run(job, "--max-usd", "100000") == 0
    assert "on-demand prices" in capsys.readouterr().out


def test_spot_is_judged_when_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that saves checkpoints may be judged on spot machines."""
    path = write_profile(tmp_path, small_job())
    asked = ("--purchase", "spot", "--as-of", snapshot_day(), "--format", "json")
    assert run(path, "--max-usd", "100000", *asked) == 0
    best = answer_of(capsys).best
    assert best is not None
    assert best.purchase_option == "spot"


@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_formats_say_the_verdict(
    job: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each format carries the verdict, on standard output or in a new file."""
    assert run(job, "--max-usd", "0.01", "--format", form) == 1
    printed = capsys.readouterr().out
    assert "over" in printed.lower()
    out = tmp_path / "answer"
    assert run(job, "--max-usd", "0.01", "--format", form, "-o", str(out)) == 1
    assert out.read_text(encoding="utf-8") == printed


def test_an_output_file_that_is_there_is_not_replaced(job: str, tmp_path: Path) -> None:
    """A verdict never overwrites a file."""
    out = tmp_path / "answer"
    out.write_text("mine", encoding="utf-8")
    assert run(job, "--max-usd", "100000", "-o", str(out)) == 2
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["evil\x1b[31m\nname", "a|b`<script>", "](javascript:x)"])
def test_hostile_names_stay_text(name: str) -> None:
    """Control bytes, table breaks, links and elements of a job's name do not reach terminal or Markdown."""
    prices = book(offer_row(instance_type=name))
    answer = judge(small_job(name=name), prices, Request(Constraints(max_usd=1e6)))
    table, markdown = (
        format_lines(build_check(answer, as_of=DAY)),
        format_markdown(build_check(answer, as_of=DAY)),
    )
    assert "\x1b" not in table + markdown
    assert "<script>" not in markdown
    assert "](javascript" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}


def test_the_age_stands_beside_the_total() -> None:
    """The verdict shows the age of its price, in the terminal and in Markdown."""
    answer = judge(small_job(), book(offer_row(observed_on="2026-07-20")), Request(Constraints(max_usd=1e6)))
    for text in (
        format_lines(build_check(answer, as_of=DAY)),
        format_markdown(build_check(answer, as_of=DAY)),
    ):
        assert "2026-07-20 (127 days old, stale)" in text.replace("\\", "")


def test_what_the_plan_changes_is_said() -> None:
    """A run is not called affordable in silence where that needs another plan than the script's."""
    mixed = in_precisions(small_job(), "bf16-mixed")
    full = tuple(group.model_copy(update={"dtype": "fp32"}) for group in mixed.operations)
    job = mixed.model_copy(update={"precision": "32-true", "operations": full})
    for allow, said in (((), False), (("precision",), True)):
        answer = judge(job, book(offer_row()), Request(Constraints(max_usd=1e6, allow=allow)))
        for text in (
            format_lines(build_check(answer, as_of=DAY)),
            format_markdown(build_check(answer, as_of=DAY)),
        ):
            assert ("Plan changes: precision bf16" in text.replace("\\", "")) == said


def test_same_answer_same_bytes() -> None:
    """Judging twice gives the same JSON."""
    prices, limits = book(offer_row()), Constraints(max_usd=1.0)
    assert (
        judge(small_job(), prices, Request(limits)).to_json()
        == judge(small_job(), prices, Request(limits)).to_json()
    )


def test_confidence_decides_between_over_and_cannot_tell() -> None:
    """The same probability is 'cannot tell' at a high confidence and a verdict at a low one."""
    prices = book(offer_row())
    middle = judge(small_job(), prices, Request(Constraints(max_usd=1e6))).best
    assert middle is not None
    limit = middle.run_usd.mid * 0.95
    strict = judge(small_job(), prices, Request(Constraints(max_usd=limit, confidence=0.99)))
    easy = judge(small_job(), prices, Request(Constraints(max_usd=limit, confidence=0.5)))
    assert (strict.verdict, easy.verdict) == ("cannot_tell", "over")


def test_a_base_profile_shows_the_change(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--base FILE prices the other profile with the same prices and names what changed."""
    plan = gpt_profile().plan.model_copy(update={"optimizer_steps": 50_000})
    base = write_profile(tmp_path, gpt_profile(batch_size=32, plan=plan), "base.json")
    assert run(job, "--max-usd", "100000", "--base", base, "--format", "json") == 0
    answer = answer_of(capsys)
    assert answer.change is not None
    assert answer.best is not None
    assert answer.change.head.usd == answer.best.run_usd
    assert answer.change.base.label == str(base)
    assert [cause.cause for cause in answer.change.causes] == ["steps"]
    for form in ("table", "markdown"):
        assert run(job, "--max-usd", "100000", "--base", str(base), "--format", form) == 0
        assert "50,000 -" in capsys.readouterr().out


def test_a_base_does_not_change_the_verdict(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal base and head: the exit code is the budget's, and the change is none."""
    assert run(job, "--max-usd", "0.01", "--base", job) == 1
    assert "no change in cost" in capsys.readouterr().out


def test_a_base_of_unknown_length_says_so(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the base costs is not known: the head is still judged."""
    base = write_profile(tmp_path, small_job(steps=None), "unknown.json")
    assert run(job, "--max-usd", "100000", "--base", base) == 0
    assert f"unknown, because {base}: the length of the run is not known" in capsys.readouterr().out


def test_a_base_that_is_no_profile_ends_with_two(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken base is bad input, and named."""
    base = tmp_path / "base.json"
    base.write_text("{}", encoding="utf-8")
    assert run(job, "--max-usd", "100000", "--base", str(base)) == 2
    assert str(base) in capsys.readouterr().err
