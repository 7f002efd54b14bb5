"""Files that start the run of a plan: for SkyPilot, SageMaker, Azure ML or torchrun. Nothing is started here."""

from trainfare.export.facts import list_fill_ins
from trainfare.export.plan import ExportedFiles, PlanToExport, choose_plan, find_option
from trainfare.export.targets import TARGETS, export_named_plans, export_plan, read_launch

__all__ = [
    "TARGETS",
    "ExportedFiles",
    "PlanToExport",
    "choose_plan",
    "export_named_plans",
    "export_plan",
    "find_option",
    "list_fill_ins",
    "read_launch",
]
