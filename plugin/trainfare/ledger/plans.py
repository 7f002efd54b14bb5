"""Predictions of exported plans: as records of runs that have not begun, and in answers and launch files."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from trainfare.ledger.store import name_folder, write_run
from trainfare_core.documents import Interval
from trainfare_core.errors import InputError
from trainfare_core.installation import __version__
from trainfare_core.job_profile import MAX_TEXT_CHARACTERS
from trainfare_core.ledger.run_record import Compared, PredictedParts, RunMachine, RunPrediction, RunRecord
from trainfare_core.number_format import shorten_text
from trainfare_core.recommendation import PREDICTION_VARIABLE, Option, PricedPlan, Recommendation
from trainfare_providers.disk.files import read_input

_MOST_BYTES: Final = 2**26
"""Largest answer that is read. Chosen: answers with every region are a few MB."""
_VARIABLE: Final = re.compile(PREDICTION_VARIABLE + r"\"?\s*[:=]\s*([\"'].*)")
"""In JSON, YAML and a script of a shell."""


def add_plan(record: RunRecord, plan: PricedPlan, differences: Sequence[str] = ()) -> RunRecord:
    """Return a record with the prediction that its run is started for, and what runs otherwise than it was priced."""
    prediction = RunPrediction(
        id=plan.id, made="before", machine=plan.machine or "", usd_per_hour=plan.usd_per_hour, steps=plan.steps,
        parts=PredictedParts.from_values(plan.parts) if plan.parts else None, nodes=plan.nodes,
        differences=tuple(shorten_text(text, MAX_TEXT_CHARACTERS) for text in differences),
    )  # fmt: skip
    hours = plan.hours and tuple(3600.0 * end for end in plan.hours)
    ends = {"run_s": hours, "usd": plan.usd, "step_s": plan.step_s, "memory_bytes": plan.memory_bytes}
    compared = {
        name: Compared(predicted=Interval(low_80=end[0], mid=end[1], high_80=end[2]))
        for name, end in ends.items()
        if end is not None
    }
    return record.model_copy(update={"prediction": prediction, **compared})


def keep_plan(
    answer: Recommendation, option: Option, folder: Path, project: str, at: datetime
) -> Path | None:
    """
    Write an exported plan into a ledger as a run that has not begun, and return its path; None: it is there.

    Raises:
        OSError: it cannot be written.
    """
    plan = PricedPlan.from_option(option, answer.job.optimizer_steps)
    if any((folder / name_folder(project)).glob(f"*-{plan.id}.json")):
        return None
    machine = RunMachine(
        cloud=option.provider, instance_type=option.instance_type, region=option.region,
        accelerator=option.accelerator, accelerators=plan.devices, nodes=plan.nodes,
        purchase_option=option.purchase_option,
    )  # fmt: skip
    record = RunRecord(
        tool_version=__version__, run_id=plan.id, state="planned", started_at=at, project=project,
        job=answer.job.name, machine=machine, steps_planned=plan.steps,
    )  # fmt: skip
    return write_run(add_plan(record, plan), folder)


def read_estimates(files: Sequence[Path]) -> dict[str, Interval]:
    """
    Return predicted dollars by prediction, of answers and of files that `trainfare export` wrote.

    Raises:
        InputError: a file cannot be read, or is neither.
    """
    estimates: dict[str, Interval] = {}
    for file in files:
        content = read_input(file, _MOST_BYTES, label="answer ", kind="an answer")
        try:
            found = dict(_list_answer(Recommendation.from_json(content, where=str(file))))
        except InputError:
            found = dict(_list_launch(content.decode(errors="replace")))
        if not found:
            raise InputError(f"answer {file}: neither an answer as JSON nor a file of `trainfare export`")
        estimates |= found
    return estimates


def _list_answer(answer: Recommendation) -> Iterator[tuple[str, Interval]]:
    for option in (*answer.options, answer.own_plan, answer.best_spot, answer.other_clouds):
        if option is not None:
            yield option.plan_id, option.run_usd


def _list_launch(text: str) -> Iterator[tuple[str, Interval]]:
    for match in _VARIABLE.finditer(text):
        with contextlib.suppress(ValueError):  # somebody changed it
            quoted = match[1]
            value = json.JSONDecoder().raw_decode(quoted)[0] if quoted[0] == '"' else shlex.split(quoted)[0]
            plan = PricedPlan.from_text(value)
            if plan is not None and plan.usd is not None:
                low, mid, high = plan.usd
                yield plan.id, Interval(low_80=low, mid=mid, high_80=high)
