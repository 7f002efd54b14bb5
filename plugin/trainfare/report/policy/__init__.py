"""The answer of a check in the formats that people, code hosts and CI systems read."""

from trainfare.report.policy.formats import github_annotations, junit_xml, sarif_log
from trainfare.report.policy.text import build_policy_check

__all__ = ["build_policy_check", "github_annotations", "junit_xml", "sarif_log"]
