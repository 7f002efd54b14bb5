"""The answer of a check in the formats that people, code hosts and CI systems read."""

from trainfare.report.policy.annotations import github_annotations
from trainfare.report.policy.junit import junit_xml
from trainfare.report.policy.sarif import sarif_log
from trainfare.report.policy.text import build_policy_check

__all__ = ["build_policy_check", "github_annotations", "junit_xml", "sarif_log"]
