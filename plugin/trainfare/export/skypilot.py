"""A plan as a task of SkyPilot, with the machines that run the same plan in the order of the ranking."""

from __future__ import annotations

import csv
import math
import shlex
from pathlib import Path
from typing import Any, Final

from trainfare.export.facts import list_facts
from trainfare.export.plan import CHECKPOINT_VARIABLE, DATA_VARIABLE, ExportedFiles, PlanToExport
from trainfare.export.torchrun import list_torchrun_words
from trainfare.export.yaml_text import format_yaml
from trainfare_core.clouds import SYSTEM_DISK_GIB
from trainfare_core.errors import InputError
from trainfare_core.recommendation import PREDICTION_TAG, Option

_CHECKPOINTS: Final = "/checkpoints"
_DATA: Final = "/data"
_STORES: Final = {
    "gce": "gs://FILL_IN_CHECKPOINTS",
    "tpu": "gs://FILL_IN_CHECKPOINTS",
    "azure_vm": "https://FILL_IN_ACCOUNT.blob.core.windows.net/FILL_IN_CHECKPOINTS",
}
"""By service; others take S3."""
SERVICES: Final = frozenset({"ec2", "gce", "azure_vm", "tpu", "gpu_cloud"})
_GOOGLE_FAMILIES: Final = ("a2-", "a3-", "a4-", "g2-", "g4-")
"""Google's machines whose accelerators are part of their type; SkyPilot names others by their accelerators."""
_STOP: Final = (
    "`timeout` sends TERM, two minutes later KILL; the task has failed, and its machines are given back"
)
NAMES: Final = {
    row["machine"]: row["name"]
    for row in csv.DictReader(
        Path(__file__).with_name("skypilot_names.csv").read_text(encoding="utf-8").splitlines()
    )
}
"""Types of quoted machines by cloud and our name, and the software of TPUs by `tpu:` and generation."""


def export_skypilot(plan: PlanToExport) -> ExportedFiles:
    """
    Return the task.

    Raises:
        InputError: a machine that SkyPilot does not name.
    """
    option, launch = plan.option, plan.launch
    machines = [machine for machine in plan.find_machines(SERVICES) if _name_machine(machine)]
    if option not in machines:
        others = (
            other for other in plan.answer.options if other.service in SERVICES and _name_machine(other)
        )
        first = next((f": the first that it starts is --plan {other.rank}" for other in others), "")
        raise InputError(f"SkyPilot does not start {option.machine}, or by a name not known here{first}")
    is_spot = option.purchase_option == "spot"
    envs = {**plan.list_variables(), **plan.list_visible(machines)}
    task: dict[str, Any] = {
        "name": f"trainfare-{option.plan_id}",
        "workdir": ".",
        "num_nodes": option.nodes,
        "resources": _write_resources(plan, machines),
    }
    if is_spot or launch.checkpoints:
        envs[CHECKPOINT_VARIABLE] = _CHECKPOINTS
        source = launch.checkpoints or _STORES.get(option.service, "s3://FILL_IN_CHECKPOINTS")
        task["file_mounts"] = {_CHECKPOINTS: {"source": source, "mode": "MOUNT_CACHED"}}
    if launch.data:
        envs[DATA_VARIABLE] = _DATA
        task.setdefault("file_mounts", {})[_DATA] = {"source": launch.data, "mode": "MOUNT"}
    if launch.setup or not launch.image:
        task["setup"] = f"{launch.setup or 'FILL_IN_SETUP'}\n"
    command = shlex.join(plan.list_command_words(envs.get(CHECKPOINT_VARIABLE, "")))
    torchrun = " ".join(list_torchrun_words(plan, "$SKYPILOT_NODE_RANK", "$MASTER_ADDR"))
    meet = 'MASTER_ADDR="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"\n' if option.nodes > 1 else ""
    # On a slice SkyPilot runs it on every host, and Lightning starts the processes.
    launcher = "python" if option.service == "tpu" else f"torchrun {torchrun}"
    launcher = " ".join([*plan.list_timeout_words(machines), launcher])
    task |= {"envs": envs, "run": f"{meet}{launcher} \\\n  {command}\n"}
    body = format_yaml(task)
    how = "sky jobs launch FILE" if is_spot else "sky launch --down FILE"
    zone = f" Its price is of the zone {option.zone}." if option.zone else ""
    words = " A TPU's Trainer has accelerator='tpu', devices='auto' and strategy='xla'; torch_xla shards."
    is_lightnings = not plan.trainer.code
    tpu = words * (option.service == "tpu" and is_lightnings)
    facts = list_facts(plan, body, f"Start: {how}.{zone}{tpu}", machines, stop=_STOP)
    return ExportedFiles(format_yaml(task, facts))


def _name_machine(machine: Option) -> dict[str, Any]:
    """Return what names a machine in SkyPilot; nothing where it has no name that is known."""
    name = machine.instance_type
    if machine.service == "tpu":
        software = NAMES.get(f"tpu:{name.partition('-')[0]}")
        arguments = {"accelerator_args": {"runtime_version": software}}
        return {"accelerators": f"tpu-{name}", **arguments} if software else {}
    if machine.service == "gpu_cloud":
        name = NAMES.get(f"{machine.provider}:{name}", "")
    known = name and (machine.service != "gce" or name.startswith(_GOOGLE_FAMILIES))
    return {"instance_type": name} if known else {}


def _write_resources(plan: PlanToExport, machines: list[Option]) -> dict[str, Any]:
    """Return the machines: `ordered`, since `any_of` takes the lowest price an hour, not the cheapest run."""
    option = plan.option
    # A region, not a zone: names of AWS's zones differ between accounts, and prices have the zones' ids.
    entries: list[dict[str, Any]] = [
        {"infra": f"{machine.provider}/{machine.region}".removesuffix("/global"), **_name_machine(machine)}
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
