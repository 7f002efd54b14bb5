"""JUnit XML of a check, read back by junitparser and by the standard library."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.policies import check_small_job, make_mixed_answer
from trainfare.report.policy import junit_xml
from trainfare_core.policy.check import policy_check

junitparser: Any = pytest.importorskip("junitparser", reason="the extra trainfare[ci] is not installed")

OVER = check_small_job(max_usd=0.01)


def test_each_job_is_a_suite_and_each_rule_a_case() -> None:
    """Broken limits are failures, unchecked jobs errors, waived and unapplied limits skipped, kept ones pass."""
    answer = make_mixed_answer()
    jobs = [job.model_copy(update={"name": f"job{index}"}) for index, job in enumerate(answer.jobs)]
    text = junit_xml(policy_check(jobs))
    read = junitparser.JUnitXml.fromstring(text.encode())
    assert (read.tests, read.failures, read.errors, read.skipped) == (6, 1, 1, 2)
    assert [suite.name for suite in read] == ["job0", "job1", "job2", "job3"]
    cases = [(case.name, [type(each).__name__ for each in case.result]) for suite in read for case in suite]
    assert cases == [
        ("TF001 max_usd", []),
        ("TF002 max_hours", []),
        ("TF001 max_usd", ["Failure"]),
        ("TF001 max_usd", ["Skipped"]),
        ("TF005 max_increase_percent", ["Skipped"]),
        ("TF008 not_checked", ["Error"]),
    ]


def test_equal_answers_give_equal_bytes() -> None:
    """No time and no host is written."""
    assert junit_xml(make_mixed_answer()) == junit_xml(make_mixed_answer())
    assert "timestamp" not in junit_xml(make_mixed_answer())


def test_one_declaration_stands_first() -> None:
    """Parsers want one, and nothing before it."""
    text = junit_xml(policy_check([check_small_job(max_usd=1e6)]))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites')
    assert text.count("<?xml") == 1


@given(st.text(max_size=60) | st.sampled_from(["]]>", "<!--", "&amp;", '"\x00\x1b', "\ud800"]))
def test_any_message_is_well_formed_xml(message: str) -> None:
    """Control characters that XML has no place for are dropped, the rest is escaped."""
    finding = OVER.findings[0].model_copy(update={"message": f"m{message}"})
    root = ET.fromstring(junit_xml(policy_check([OVER.model_copy(update={"findings": (finding,)})])))
    assert root.tag == "testsuites"
