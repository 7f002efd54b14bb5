"""A plan as a task of SkyPilot, with the machines that run the same plan in the order of the ranking."""

from __future__ import annotations

import math
import shlex
from typing import Any, Final

from trainfare.export.facts import list_facts
from trainfare.export.plan import CHECKPOINT_VARIABLE, DATA_VARIABLE, ExportedFiles, PlanToExport
from trainfare.export.torchrun import list_torchrun_words
from trainfare.export.yaml_text import format_yaml
from trainfare_core.clouds import SYSTEM_DISK_GIB
from trainfare_core.errors import InputError
from trainfare_core.recommendation import PREDICTION_TAG, PREDICTION_VARIABLE, Option

_CHECKPOINTS: Final = "/checkpoints"
_DATA: Final = "/data"
_STORES: Final = {
    "ec2": "s3://FILL_IN_CHECKPOINTS",
    "gce": "gs://FILL_IN_CHECKPOINTS",
    "azure_vm": "https://FILL_IN_ACCOUNT.blob.core.windows.net/FILL_IN_CHECKPOINTS",
}
SERVICES: Final = frozenset(_STORES)
_GOOGLE_FAMILIES: Final = ("a2-", "a3-", "a4-", "g2-", "g4-")
"""Google's machines whose accelerators are part of their type; SkyPilot names others by their accelerators."""


def export_skypilot(plan: PlanToExport) -> ExportedFiles:
    """
    Return the task.

    Raises:
        InputError: a machine that SkyPilot does not name by its type.
    """
    option, launch = plan.option, plan.launch
    machines = [machine for machine in plan.find_machines(SERVICES) if _has_type(machine)]
    if option not in machines:
        raise InputError(f"SkyPilot has no type {option.instance_type}: its accelerators are added to it")
    is_spot = option.purchase_option == "spot"
    envs = {PREDICTION_VARIABLE: plan.prediction}
    task: dict[str, Any] = {
        "name": f"trainfare-{option.plan_id}",
        "workdir": ".",
        "num_nodes": option.nodes,
        "resources": _write_resources(plan, machines),
    }
    if is_spot or launch.checkpoints:
        envs[CHECKPOINT_VARIABLE] = _CHECKPOINTS
        source = launch.checkpoints or _STORES[option.service]
        task["file_mounts"] = {_CHECKPOINTS: {"source": source, "mode": "MOUNT_CACHED"}}
    if launch.data:
        envs[DATA_VARIABLE] = _DATA
        task.setdefault("file_mounts", {})[_DATA] = {"source": launch.data, "mode": "MOUNT"}
    if launch.setup or not launch.image:
        task["setup"] = f"{launch.setup or 'FILL_IN_SETUP'}\n"
    command = shlex.join(plan.list_command_words(envs.get(CHECKPOINT_VARIABLE, "")))
    torchrun = " ".join(list_torchrun_words(plan, "$SKYPILOT_NODE_RANK", "$MASTER_ADDR"))
    meet = 'MASTER_ADDR="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"\n' if option.nodes > 1 else ""
    task |= {"envs": envs, "run": f"{meet}torchrun {torchrun} \\\n  {command}\n"}
    body = format_yaml(task)
    how = "sky jobs launch FILE" if is_spot else "sky launch --down FILE"
    zone = f" Its price is of the zone {option.zone}." if option.zone else ""
    facts = list_facts(plan, body, f"Start: {how}.{zone}", machines)
    return ExportedFiles(format_yaml(task, facts))


def _has_type(machine: Option) -> bool:
    return machine.service != "gce" or machine.instance_type.startswith(_GOOGLE_FAMILIES)


def _write_resources(plan: PlanToExport, machines: list[Option]) -> dict[str, Any]:
    """Return the machines: `ordered`, since `any_of` takes the lowest price an hour, not the cheapest run."""
    option = plan.option
    # A region, not a zone: names of AWS's zones differ between accounts, and prices have the zones' ids.
    entries: list[dict[str, Any]] = [
        {"infra": f"{machine.provider}/{machine.region}", "instance_type": machine.instance_type}
        for machine in machines
    ]
    common: dict[str, Any] = {
        "disk_size": math.ceil(SYSTEM_DISK_GIB + (plan.answer.constraints.data_gb or 0.0)),
        "labels": {PREDICTION_TAG: option.plan_id},
    }
    if option.nodes > 1:
        common["network_tier"] = "best"
    if option.purchase_option == "spot":
        common |= {"use_spot": True, "job_recovery": {"strategy": "FAILOVER"}}
    if plan.launch.image:
        common["image_id"] = f"docker:{plan.launch.image}"
    return {**common, **(entries[0] if len(entries) == 1 else {"ordered": entries})}
