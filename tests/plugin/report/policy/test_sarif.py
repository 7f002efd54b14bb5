"""SARIF 2.1.0 of a check."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from builders.policies import check_small_job, make_mixed_answer, waiver
from builders.sarif import SARIF_SCHEMA
from trainfare.report.escape import terminal_text
from trainfare.report.policy import sarif_log
from trainfare_core.policy.check import PolicyCheck, SourcePlace, policy_check
from trainfare_core.policy.rules import RULES

OVER = check_small_job(max_usd=0.01)
VALIDATOR = Draft202012Validator(SARIF_SCHEMA, format_checker=FormatChecker())


def log_of(answer: PolicyCheck) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(sarif_log(answer))
    VALIDATOR.validate(log)
    return log


def results_of(answer: PolicyCheck) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = log_of(answer)["runs"][0]["results"]
    return fields


def test_the_log_is_valid_and_has_a_result_for_each_rule_that_is_not_kept() -> None:
    """Kept limits are no results; the rule of a result is at its index."""
    log = log_of(make_mixed_answer())
    run = log["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [
        result["ruleId"] for result in run["results"]
    ]
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("TF001", "error"),
        ("TF001", "note"),
        ("TF005", "note"),
        ("TF008", "error"),
    ]
    assert run["invocations"] == [{"executionSuccessful": False, "exitCode": 2}]
    assert {rule["id"]: rule["help"]["text"] for rule in rules} == {
        rule.id: rule.help for rule in RULES.values()
    }


@pytest.mark.skipif(
    "TRAINFARE_SARIF_SCHEMA" not in os.environ, reason="TRAINFARE_SARIF_SCHEMA names no official schema"
)
def test_the_log_satisfies_the_official_schema() -> None:
    """Where the official schema is at hand, our strict one is not the only judge."""
    schema = json.loads(Path(os.environ["TRAINFARE_SARIF_SCHEMA"]).read_text(encoding="utf-8"))
    for answer in (make_mixed_answer(), policy_check([check_small_job(max_usd=1e6)])):
        Draft7Validator(schema).validate(json.loads(sarif_log(answer)))


@pytest.mark.parametrize(
    "change",
    [{"level": "fatal"}, {"ruleId": None}, {"message": "text"}, {"locations": [{}]}, {"surprise": 1}],
)
def test_the_strict_schema_refuses_what_the_standard_refuses(change: dict[str, Any]) -> None:
    """The schema of the tests can fail."""
    log = log_of(make_mixed_answer())
    log["runs"][0]["results"][0].update(change)
    assert not VALIDATOR.is_valid(log)


def test_a_waived_rule_is_a_suppressed_result() -> None:
    """Code scanning shows it as dismissed, with the reason."""
    (result,) = results_of(policy_check([check_small_job(waiver(), max_usd=0.01)]))
    assert result["suppressions"][0]["status"] == "accepted"
    assert "first run" in result["suppressions"][0]["justification"]


def test_the_location_is_the_function_and_else_the_policy() -> None:
    """A path is relative to the repository and encoded; a file outside of it has its own address."""
    over = check_small_job(max_usd=0.01)

    def location(path: str) -> Any:
        job = over.model_copy(update={"place": SourcePlace(path=path, line=7)})
        (result,) = results_of(policy_check([job]))
        return result["locations"][0]["physicalLocation"]

    assert location("jobs/train me%.py") == {
        "artifactLocation": {"uri": "jobs/train%20me%25.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 7},
    }
    assert location("/tmp/train.py")["artifactLocation"] == {"uri": "file:///tmp/train.py"}
    nowhere = over.model_copy(update={"place": None})
    (result,) = results_of(policy_check([nowhere], policy="trainfare.toml"))
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "trainfare.toml"
    (result,) = results_of(policy_check([nowhere]))
    assert result["locations"] == []


def test_an_alert_stays_the_same_when_its_line_moves() -> None:
    """The fingerprint is of job and rule; another job or rule has another one."""
    over = check_small_job(max_usd=0.01, max_hours=1e-6)
    moved = over.model_copy(update={"place": SourcePlace(path="other.py", line=1)})
    other = over.model_copy(update={"name": "other"})

    def prints(answer: PolicyCheck) -> list[str]:
        return [result["partialFingerprints"]["trainfareJobRule/v1"] for result in results_of(answer)]

    assert prints(policy_check([over])) == prints(policy_check([moved]))
    assert len(set(prints(policy_check([over, other])))) == 4


@given(st.text(max_size=40) | st.sampled_from(["](javascript:x)", "\x1b[31m\n::error::", "{0} [a](1)"]))
def test_hostile_text_stays_text(text: str) -> None:
    """Messages of user code bring in neither control characters nor SARIF's own links."""
    finding = OVER.findings[0].model_copy(update={"message": f"m {text}"})
    (result,) = results_of(policy_check([OVER.model_copy(update={"findings": (finding,)})]))
    shown = result["message"]["text"]
    assert "](" not in shown
    assert terminal_text(shown) == shown


def test_a_file_name_that_is_no_utf8_has_an_address() -> None:
    """Python holds the byte FF of a name as a lone surrogate; the address has the byte."""
    place = SourcePlace(path="a\udcff.json", line=1)
    job = OVER.model_copy(update={"name": "a\udcff", "place": place})
    (result,) = json.loads(sarif_log(policy_check([job])))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%FF.json"
