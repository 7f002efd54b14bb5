"""
The answer of a check in the formats of CI systems.

SARIF 2.1.0 is the format of code scanning: one result for each rule that is not kept. JUnit XML is shown as tests: one
suite for each job, one case for each rule. Each printed line with a workflow command of GitHub Actions becomes an
annotation at the line of the job's function.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final
from urllib.parse import quote

from trainfare.report.escape import terminal_text
from trainfare_core.errors import MissingExtraError
from trainfare_core.policy.check import JobCheck, PolicyCheck, SourcePlace
from trainfare_core.policy.limit_findings import Finding
from trainfare_core.policy.rules import RULES

_BYTES: Final = "surrogateescape"
"""How Python holds the bytes of a file's name that are no UTF-8."""
_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def list_findings(answer: PolicyCheck) -> Iterator[tuple[JobCheck, Finding]]:
    """Yield each rule that is not kept, with its job."""
    for job in answer.jobs:
        for finding in job.findings:
            if finding.level != "none":
                yield job, finding


def sarif_log(answer: PolicyCheck) -> str:
    """Return a log with one run; a rule that a waiver covers is a suppressed result."""
    results = [_result(answer, job, finding) for job, finding in list_findings(answer)]
    # A limit that is broken is a result, not a failure of the tool.
    worked = all(job.verdict != "not_checked" for job in answer.jobs)
    run = {
        "tool": {
            "driver": {
                "name": "trainfare",
                "version": answer.tool_version,
                "rules": [
                    {
                        "id": rule.id,
                        "name": rule.name,
                        "shortDescription": {"text": rule.title},
                        "fullDescription": {"text": rule.title},
                        "help": {"text": rule.help},
                        "defaultConfiguration": {"level": "error"},
                    }
                    for rule in RULES.values()
                ],
            }
        },
        "invocations": [{"executionSuccessful": worked, "exitCode": answer.exit_code}],
        "columnKind": "utf16CodeUnits",
        "results": results,
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"


def _result(answer: PolicyCheck, job: JobCheck, finding: Finding) -> dict[str, Any]:
    rule = RULES[finding.rule]
    policy_place = None if answer.policy is None else SourcePlace(path=answer.policy, line=1)
    # The same job and rule are the same alert, whatever line the job moves to.
    fingerprint = hashlib.sha256(f"{job.name}\0{rule.id}".encode(errors=_BYTES)).hexdigest()[:32]
    result: dict[str, Any] = {
        "ruleId": rule.id,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": finding.level,
        "message": {"text": _escape_text(f"{job.name}: {finding.message}")},
        "locations": _locations(job.place or policy_place),
        "partialFingerprints": {"trainfareJobRule/v1": fingerprint},
    }
    if finding.status == "waived":
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": _escape_text(finding.message)}
        ]
    return result


def _locations(source_place: SourcePlace | None) -> list[dict[str, Any]]:
    if source_place is None:
        return []
    path = quote(source_place.path, errors=_BYTES)
    artifact = {"uri": f"file://{path}"} if path.startswith("/") else {"uri": path, "uriBaseId": "%SRCROOT%"}
    return [{"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": source_place.line}}}]


def _escape_text(text: str) -> str:
    """Return text in which no link of SARIF's own syntax, [words](target), remains."""
    return terminal_text(text).replace("](", "] (")


def junit_xml(answer: PolicyCheck) -> str:
    """
    Return the answer as JUnit XML.

    Raises:
        MissingExtraError: junitparser is not installed.
    """
    try:
        junitparser: Any = import_module("junitparser")
    except ImportError as error:
        raise MissingExtraError("junitparser", "ci") from error

    document: Any = junitparser.JUnitXml("trainfare check")
    for job in answer.jobs:
        suite: Any = junitparser.TestSuite(job.name)
        for finding in job.findings:
            suite.add_testcase(_case(junitparser, job, finding))
        document.add_testsuite(suite)
    document.update_statistics()
    text: str | bytes = document.tostring()
    body = text.decode("utf-8") if isinstance(text, bytes) else text
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return declaration + body.removeprefix("<?xml version='1.0' encoding='utf-8'?>\n") + "\n"


def _case(junitparser: Any, job: JobCheck, finding: Finding) -> Any:
    rule = RULES[finding.rule]
    case: Any = junitparser.TestCase(f"{rule.id} {rule.name}", classname=f"trainfare.{job.name}")
    text = terminal_text(finding.message)
    if finding.rule == "not_checked" or job.verdict == "not_checked":
        case.result = [junitparser.Error(text, rule.id)]
    elif finding.level == "error":
        case.result = [junitparser.Failure(text, rule.id)]
    elif finding.status in ("waived", "not_applied", "cannot_tell"):
        case.result = [junitparser.Skipped(text)]
    else:
        case.system_out = text
    return case


_COMMAND: Final = {"error": "error", "warning": "warning", "note": "notice"}

# What GitHub's documentation of workflow commands names; the percent sign is not escaped a second time.
_DATA: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY: Final = _DATA | str.maketrans({":": "%3A", ",": "%2C"})


def github_annotations(answer: PolicyCheck) -> str:
    """Return one command for each rule that is not kept; empty where all are."""
    return "".join(f"{_command(job, finding)}\n" for job, finding in list_findings(answer))


def _command(job: JobCheck, finding: Finding) -> str:
    properties = {"title": f"{RULES[finding.rule].id} {finding.rule}: {job.name}"}
    if job.place is not None:
        properties = {"file": job.place.path, "line": str(job.place.line), **properties}
    text = ",".join(f"{key}={terminal_text(value).translate(_PROPERTY)}" for key, value in properties.items())
    return f"::{_COMMAND[finding.level]} {text}::{terminal_text(finding.message).translate(_DATA)}"
