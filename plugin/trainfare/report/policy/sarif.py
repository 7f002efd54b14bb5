"""SARIF 2.1.0, the format of code scanning: one result for each rule that is not kept."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final
from urllib.parse import quote

from trainfare.report.escape import terminal_text
from trainfare_core.policy.check import JobCheck, PolicyCheck, SourcePlace
from trainfare_core.policy.limit_findings import Finding
from trainfare_core.policy.rules import RULES

_BYTES: Final = "surrogateescape"
"""How Python holds the bytes of a file's name that are no UTF-8."""
_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif_log(answer: PolicyCheck) -> str:
    """Return a log with one run; a rule that a waiver covers is a suppressed result."""
    results = [
        _result(answer, job, finding)
        for job in answer.jobs
        for finding in job.findings
        if finding.level != "none"
    ]
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
    result: dict[str, Any] = {
        "ruleId": rule.id,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": finding.level,
        "message": {"text": _escape_text(f"{job.name}: {finding.message}")},
        "locations": _locations(job.place or _policy_place(answer)),
        # The same job and rule are the same alert, whatever line the job moves to.
        "partialFingerprints": {"trainfareJobRule/v1": _fingerprint(job.name, rule.id)},
    }
    if finding.status == "waived":
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": _escape_text(finding.message)}
        ]
    return result


def _policy_place(answer: PolicyCheck) -> SourcePlace | None:
    return None if answer.policy is None else SourcePlace(path=answer.policy, line=1)


def _locations(source_place: SourcePlace | None) -> list[dict[str, Any]]:
    if source_place is None:
        return []
    path = quote(source_place.path, errors=_BYTES)
    artifact = {"uri": f"file://{path}"} if path.startswith("/") else {"uri": path, "uriBaseId": "%SRCROOT%"}
    return [{"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": source_place.line}}}]


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors=_BYTES)).hexdigest()[:32]


def _escape_text(text: str) -> str:
    """Return text in which no link of SARIF's own syntax, [words](target), remains."""
    return terminal_text(text).replace("](", "] (")
