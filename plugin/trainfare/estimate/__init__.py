"""A run that a model's name or configuration file describes, without code. Loads torch only to trace."""

from trainfare.estimate.request import METHODS, EstimateRequest, Method, counted

__all__ = ["METHODS", "EstimateRequest", "Method", "counted"]
