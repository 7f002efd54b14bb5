"""A run that a model's name or configuration file describes, without code. Loads torch only to trace."""

from trainfare.estimate.request import EstimateRequest, parse_count

__all__ = ["EstimateRequest", "parse_count"]
