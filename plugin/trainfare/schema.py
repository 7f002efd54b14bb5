"""
Write the published JSON schemas from the pydantic models: `python -m trainfare.schema docs/schema`.

A file's name carries the `schema_version` of the documents it describes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, JsonValue

from trainfare.cli.doctor import DoctorReport
from trainfare.ledger.run_status import RunStatus
from trainfare.prices.verify import PricesVerification
from trainfare_core.bills.reconciliation import BillReconciliation
from trainfare_core.decline import ClaimsAnswer, DecompositionAnswer, ForecastAnswer, WaitAnswer
from trainfare_core.documents import format_records
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.causes import RunExplanation
from trainfare_core.ledger.device_figures import DeviceMeasurement
from trainfare_core.ledger.run_list import RunList
from trainfare_core.ledger.run_record import RunRecord
from trainfare_core.ledger.run_table import LedgerScore
from trainfare_core.methods.answer import MethodsAnswer
from trainfare_core.methods.curves import LearningCurve
from trainfare_core.methods.pilots import PilotReport
from trainfare_core.policy.budget_check import BudgetCheck
from trainfare_core.policy.check import PolicyCheck
from trainfare_core.policy.policy import Policy
from trainfare_core.prediction import MachinePrediction
from trainfare_core.prices.explain import PriceExplanation
from trainfare_core.prices.listing import OffersReport
from trainfare_core.prices.status import PricesStatus
from trainfare_core.ranking.alternatives.why_not import WhyNot
from trainfare_core.recommendation import Recommendation
from trainfare_core.rollouts import RolloutAnswer
from trainfare_core.savings import Savings
from trainfare_providers.disk.files import make_folder, write_text
from trainfare_providers.update import PricesUpdate

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


_READ: Final = (Policy,)
"""Files that users write."""

_MODELS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("bill-reconciliation", BillReconciliation),
    ("budget-check", BudgetCheck),
    ("decline-claims", ClaimsAnswer),
    ("decline-decomposition", DecompositionAnswer),
    ("decline-forecast", ForecastAnswer),
    ("decline-wait", WaitAnswer),
    ("device-measurement", DeviceMeasurement),
    ("doctor", DoctorReport),
    ("job-profile", JobProfile),
    ("learning-curve", LearningCurve),
    ("ledger-runs", RunList),
    ("ledger-score", LedgerScore),
    ("machine-prediction", MachinePrediction),
    ("offers", OffersReport),
    ("pilot-report", PilotReport),
    ("policy", Policy),
    ("policy-check", PolicyCheck),
    ("price-explanation", PriceExplanation),
    ("prices-status", PricesStatus),
    ("prices-update", PricesUpdate),
    ("prices-verification", PricesVerification),
    ("recommendation", Recommendation),
    ("rollout", RolloutAnswer),
    ("run", RunRecord),
    ("run-explanation", RunExplanation),
    ("run-status", RunStatus),
    ("savings", Savings),
    ("strategy-answer", MethodsAnswer),
    ("why-not", WhyNot),
)


@dataclass(frozen=True, slots=True)
class PublishedSchema:
    """One schema: its file name, e.g. 'recommendation-1.json', and its text."""

    file_name: str
    text: str


def list_published_schemas() -> tuple[PublishedSchema, ...]:
    """Return the schema of every published JSON document, ordered by name."""
    return tuple(_build_schema(name, model) for name, model in _MODELS)


def write_schemas(directory: Path) -> tuple[Path, ...]:
    """
    Write the schemas into a folder, created if missing, and return their paths.

    Raises:
        InputError: the folder cannot be written to.
    """
    make_folder(directory)
    schemas = list_published_schemas()
    for schema in schemas:
        write_text(directory / schema.file_name, schema.text)
    return tuple(directory / schema.file_name for schema in schemas)


def _build_schema(name: str, model: type[BaseModel]) -> PublishedSchema:
    version = model.model_fields["schema_version"].default
    # What users write may leave out what has a default; what trainfare writes leaves out nothing.
    body = model.model_json_schema(mode="validation" if model in _READ else "serialization")
    identity = {"$schema": _DIALECT, "$id": f"urn:trainfare:schema:{name}:{version}"}
    text = format_records(_sort_keys(identity | body), is_record=_is_record)
    return PublishedSchema(f"{name}-{version}.json", text)


def _sort_keys(part: JsonValue) -> JsonValue:
    if isinstance(part, dict):
        return {key: _sort_keys(part[key]) for key in sorted(part)}
    return [_sort_keys(entry) for entry in part] if isinstance(part, list) else part


def _is_record(part: JsonValue) -> bool:
    """Return whether a part of a schema is no table of properties or definitions, and holds none."""
    if isinstance(part, dict) and all(isinstance(entry, dict) for entry in part.values()):
        return False
    return not _holds_properties(part)


def _holds_properties(part: JsonValue) -> bool:
    if isinstance(part, dict):
        return "properties" in part or any(map(_holds_properties, part.values()))
    return isinstance(part, list) and any(map(_holds_properties, part))


def _run_main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m trainfare.schema DIRECTORY\n")
        return 2
    try:
        paths = write_schemas(Path(arguments[0]))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(_run_main(sys.argv[1:]))
