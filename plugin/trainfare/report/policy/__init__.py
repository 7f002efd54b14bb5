"""The answer of a check in the formats that people, code hosts and CI systems read."""

from trainfare.report.policy.annotations import github_annotations
from trainfare.report.policy.junit import junit_xml
from trainfare.report.policy.sarif import sarif_log
from trainfare.report.policy.text import policy_markdown, policy_table

__all__ = ["github_annotations", "junit_xml", "policy_markdown", "policy_table", "sarif_log"]
