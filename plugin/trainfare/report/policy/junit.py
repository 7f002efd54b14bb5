"""JUnit XML, which CI systems show as tests: one suite for each job, one case for each rule."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trainfare.report.escape import terminal_text
from trainfare_core.errors import MissingExtraError
from trainfare_core.policy.check import JobCheck, PolicyCheck
from trainfare_core.policy.limit_findings import Finding
from trainfare_core.policy.rules import RULES


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
