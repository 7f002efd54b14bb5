"""A run that a model's name or configuration file describes, without code. Loads torch only to trace."""

from trainfare.estimate.request import EstimateRequest, parse_count
from trainfare.estimate.rollout_request import RolloutRequest

__all__ = ["EstimateRequest", "RolloutRequest", "parse_count"]
