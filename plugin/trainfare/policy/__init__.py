"""The policy file of `trainfare check`: read it, and check its jobs."""

from trainfare.policy.base_policy import BaseTree, Ruling, rule_policy
from trainfare.policy.jobs import Pricing, check_jobs, check_one
from trainfare.policy.policy_file import PolicyFile, read_policy
from trainfare.policy.target_place import place_of
from trainfare.policy.traced_jobs import TracedJobs, leave_reason, write_traced_jobs

__all__ = [
    "BaseTree",
    "PolicyFile",
    "Pricing",
    "Ruling",
    "TracedJobs",
    "check_jobs",
    "check_one",
    "leave_reason",
    "place_of",
    "read_policy",
    "rule_policy",
    "write_traced_jobs",
]
