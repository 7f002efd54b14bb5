"""Workflow commands of GitHub Actions: each printed line becomes an annotation at the line of the job's function."""

from __future__ import annotations

from typing import Final

from trainfare.report.escape import terminal_text
from trainfare_core.policy.check import JobCheck, PolicyCheck
from trainfare_core.policy.limit_findings import Finding
from trainfare_core.policy.rules import RULES

_COMMAND: Final = {"error": "error", "warning": "warning", "note": "notice"}

# What GitHub's documentation of workflow commands names; the percent sign is not escaped a second time.
_DATA: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY: Final = _DATA | str.maketrans({":": "%3A", ",": "%2C"})


def github_annotations(answer: PolicyCheck) -> str:
    """Return one command for each rule that is not kept; empty where all are."""
    lines = [
        _command(job, finding) for job in answer.jobs for finding in job.findings if finding.level != "none"
    ]
    return "".join(f"{line}\n" for line in lines)


def _command(job: JobCheck, finding: Finding) -> str:
    properties = {"title": f"{RULES[finding.rule].id} {finding.rule}: {job.name}"}
    if job.place is not None:
        properties = {"file": job.place.path, "line": str(job.place.line), **properties}
    text = ",".join(f"{key}={terminal_text(value).translate(_PROPERTY)}" for key, value in properties.items())
    return f"::{_COMMAND[finding.level]} {text}::{terminal_text(finding.message).translate(_DATA)}"
