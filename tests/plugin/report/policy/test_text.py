"""The table and the Markdown of a policy's check."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace

import pytest

from builders.batches import H100, make_scaling_job
from builders.policies import DAY, check_small_job, make_mixed_answer, make_priced_inputs
from builders.toy_market import book, offer_row, small_job
from trainfare.report.escape import markdown_text
from trainfare.report.policy import build_policy_check
from trainfare.report.policy.text import build_check
from trainfare.report.render.text import format_lines, format_markdown
from trainfare.report.wording import usd
from trainfare_core.changes.explain_change import PricedJob
from trainfare_core.policy.check import policy_check
from trainfare_core.recommendation import Constraints


def test_the_table_has_a_row_for_each_job_and_a_line_for_each_rule_that_is_not_kept() -> None:
    """Verdict, dollars, hours and limits of each job; level, id, rule and numbers of what is not kept; the result."""
    text = format_lines(build_policy_check(make_mixed_answer()))
    rows = [line for line in text.splitlines() if line.startswith(" small ")]
    assert [row.split("  ")[1].strip() or row.split()[1] for row in rows]
    for row, verdict in zip(rows, ("within", "over", "waived", "not checked"), strict=True):
        assert verdict in row
    assert "1,000,000.00" in rows[0]
    assert "small: error: TF001 max_usd: broken: " in text
    assert "small: note: TF001 max_usd: waived: " in text
    assert "small: error: TF008 not_checked: train.py: no such file" in text
    assert text.splitlines()[-1] == "failed: 2 of 4 jobs pass; exit code 2"


def test_markdown_has_the_same_facts() -> None:
    """A heading with the outcome, the table, the rules that are not kept, and the result."""
    text = format_markdown(build_policy_check(make_mixed_answer()))
    assert text.startswith("## trainfare check: failed\n")
    assert "- **small**: error: TF001 max\\_usd: broken: " in text
    assert text.endswith("failed: 2 of 4 jobs pass; exit code 2\n")
    assert format_markdown(build_policy_check(policy_check([check_small_job(max_usd=1e6)]))).startswith(
        "## trainfare check: passed\n"
    )


def test_notes_are_said_once() -> None:
    """What every job says about the prices stands once."""
    job = check_small_job(job=make_priced_inputs(notes=("prices are old",)), max_usd=1e6)
    answer = policy_check([job, job.model_copy(update={"name": "other"})])
    assert (
        format_lines(build_policy_check(answer)).count("prices are old")
        == format_markdown(build_policy_check(answer)).count("prices are old")
        == 1
    )


@pytest.mark.parametrize("words", ["evil\x1b[31m\nname", "a|b`<script>", "](javascript:x)"])
def test_hostile_messages_stay_text(words: str) -> None:
    """Control bytes, table breaks, links and elements do not reach terminal or Markdown."""
    answer = make_mixed_answer(message=words)
    table, markdown = format_lines(build_policy_check(answer)), format_markdown(build_policy_check(answer))
    assert "\x1b" not in table + markdown
    assert "<script>" not in markdown
    assert "](javascript" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {8}


def test_each_job_says_what_a_change_does_to_its_cost() -> None:
    """With a base: both sides and the causes of each job that changed, one sentence for the others, notes once."""
    jobs = {
        name: check_small_job(job=make_priced_inputs(base_steps=steps), max_usd=1e6)
        for name, steps in JOBS_BEFORE.items()
    }
    answer = policy_check(job.model_copy(update={"name": name}) for name, job in jobs.items())
    table, markdown = (
        format_lines(build_policy_check(answer), width=80),
        format_markdown(build_policy_check(answer)),
    )
    match = re.search(
        r"\nCHANGE  longer: (\$0\.\d+) -> (\$0\.\d+) per run: \+\$0\.\d+ \(\+1\d\.\d % \[\+\d+ % to \+\d+ %\]\)\n",
        table,
    )
    assert match is not None
    before, after = match.groups()
    assert f"\nCHANGE  same: no change in cost: {after} per run\nCHANGE  new: unknown, because " in table
    assert table.count("20,000 -> 36,000 optimizer steps") == 1
    assert f"### Change in cost of longer\n\n**{before} -&gt; {after} per run: " in markdown
    assert f"### Change in cost of same\n\n**no change in cost: {after} per run**\n" in markdown
    for text in (table, markdown):
        assert text.count("compared") == 1
        assert text.count("leaves out the errors that they share") == 1


def test_a_job_that_is_likely_over_is_said_to_be() -> None:
    """In the row of the job and at its limit, where by its median it is a third or more over; else it cannot be told."""
    check = check_small_job(max_usd=1e6).check
    best = None if check is None else check.best
    assert best is not None
    for share, words in ((1.35, "over by the estimate, not certain"), (1.0, "cannot tell")):
        job = check_small_job(max_usd=best.run_usd.mid / share, confidence=0.999999)
        text = format_lines(build_policy_check(policy_check([job])), width=200)
        assert f" max_usd: {words}: " in text
        assert sum(words in line for line in text.splitlines()) == 2


def test_a_job_over_its_budget_is_told_what_would_be_cheaper() -> None:
    """The best machine on spot costs a quarter; a job within its budget has no such line."""
    inputs = make_priced_inputs(offer_row(), offer_row(purchase_option="spot", usd_per_hour=1.0))
    inputs = replace(inputs, asked=Constraints())
    over, within = (check_small_job(job=inputs, max_usd=limit) for limit in (1e-3, 1e6))
    assert over.check is not None
    (saving,) = (saving for saving in over.check.savings if saving.lever == "spot")
    text, markdown = (
        render(build_policy_check(policy_check([over]))) for render in (format_lines, format_markdown)
    )
    for output in (" ".join(text.split()), markdown.replace("\\", "")):
        assert f"To pay less: spot machines, {usd(saving.saved_usd)} [" in output
    assert "To pay less" not in format_lines(build_policy_check(policy_check([within])))
    assert within.check is not None
    assert within.check.savings == ()


JOBS_BEFORE = {"longer": 20_000, "same": 36_000, "new": None}


def test_each_job_says_what_its_plan_changes_of_the_script() -> None:
    """A smaller micro-batch on four of eight accelerators in the table and in Markdown; nothing of the script's own."""
    eight = make_priced_inputs(offer_row(instance_type="a100.8x", accelerator_count=8.0, usd_per_hour=32.0))
    changed = replace(eight, profile=small_job(batch=4))
    jobs = [check_small_job(job=job, max_usd=1e6) for job in (changed, make_priced_inputs())]
    answer = policy_check(
        job.model_copy(update={"name": name}) for job, name in zip(jobs, ("shared", "own"), strict=True)
    )
    text = "Plan changes: micro-batch 1 instead of 4. It uses 4 of 8 accelerators of each machine."
    table, markdown = format_lines(build_policy_check(answer)), format_markdown(build_policy_check(answer))
    assert f"\nshared: {text}\n" in table
    assert f"- **shared**: {markdown_text(text)}\n" in markdown
    for output in (table, markdown):
        assert output.count("Plan changes") == 1


def test_a_plan_with_another_batch_than_the_script_s_or_the_base_s_names_both_and_what_it_costs() -> None:
    """In the terminal, and in the Markdown of the comment; the limit is judged on what the script does there."""
    one, any_number = (
        job.model_copy(
            update={
                "batch": job.batch.model_copy(update={"batch_norm": True}),
                "plan": job.plan.model_copy(update={"optimizer_steps": 3_130_000, "checkpoint_bytes": 0}),
            }
        )
        for job in (make_scaling_job("fixed", epochs=10_000), make_scaling_job(epochs=10_000))
    )
    inputs = replace(make_priced_inputs(EIGHT_ROW), base=PricedJob(one, EIGHT, "base.json"))
    written, auto = (replace(inputs, profile=profile) for profile in (one, any_number))
    hours = [
        check.best.run_hours.mid
        for job in (auto, written)
        if (check := check_small_job(job=job, max_usd=1e6).check) is not None and check.best is not None
    ]
    assert hours[0] < hours[1] / 3
    limit = math.sqrt(hours[0] * hours[1])
    verdicts = [check_small_job(job=job, max_hours=limit).verdict for job in (auto, written)]
    assert verdicts == ["within", "over"]
    job = check_small_job(job=auto, max_hours=limit)
    assert job.check is not None
    assert job.check.critical_batch is not None
    for blocks in (build_policy_check(policy_check([job])), build_check(job.check, as_of=DAY)):
        for text in (format_lines(blocks, width=120), format_markdown(blocks)):
            flat = " ".join(html.unescape(text).replace("\\", "").split())
            assert (
                "Each of 8 devices has 32 samples: a global batch of 256, not 32, in 400,000 steps, not 3,130,000. To the "
                "quality of 32 it needs 1."
            ) in flat
            assert "devices: 1 -> auto, global batch 32 -> 256 on 8 devices" in flat
            assert re.search(r"global batch \|? ?32 in 3,130,000 steps \|? ?256 in 400,000 steps", flat)
            assert re.search(
                r"to the quality of 32 [| ]*\$[0-9.]+ to \$[0-9.]+: 1\.[0-9]+ to [0-9.]+ times", flat
            )


def test_a_plan_with_the_script_s_batch_says_nothing_of_it() -> None:
    job = check_small_job(
        job=replace(make_priced_inputs(base_steps=20_000), profile=make_scaling_job()), max_usd=1e6
    )
    assert job.check is not None
    for blocks in (build_policy_check(policy_check([job])), build_check(job.check, as_of=DAY)):
        text = format_lines(blocks, width=120)
        assert "global batch" not in text
        assert "quality" not in text


EIGHT_ROW = offer_row(instance_type="h100.8x", accelerator=H100, accelerator_count=8.0, usd_per_hour=32.0)
EIGHT = book(EIGHT_ROW)
