"""The policy file of `trainfare check`: read it, and check its jobs."""

from trainfare.policy.base_policy import BaseTree
from trainfare.policy.policy_file import read_policy
from trainfare.policy.target_place import place_of

__all__ = ["BaseTree", "place_of", "read_policy"]
