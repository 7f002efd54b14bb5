"""A plan as a command job of Azure ML and the cluster that it runs on, and what their loader lets through."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

from trainfare.export.facts import list_facts
from trainfare.export.plan import CHECKPOINT_VARIABLE, DATA_VARIABLE, ExportedFiles, PlanToExport
from trainfare.export.yaml_text import format_yaml
from trainfare.report.wording import has_caveat
from trainfare_core.errors import InputError
from trainfare_core.recommendation import PREDICTION_TAG

_SCHEMAS: Final = "https://azuremlschemas.azureedge.net/latest"
_SIZE: Final = re.compile(r"Standard_[A-Z]+\d+[A-Za-z0-9_-]*")
_STOP: Final = "Azure ML cancels the job, and the cluster gives its machines back"
_FAST_NETWORK: Final = re.compile(r"Standard_[A-Z]+\d+[a-z]*r")
"""Azure's names have an r where the machines of a cluster share an RDMA network."""


def export_azureml(plan: PlanToExport) -> ExportedFiles:
    """
    Return the job, with its cluster beside it.

    Raises:
        InputError: a job that the loader would take and the service would not run.
    """
    option, size = plan.option, plan.option.instance_type
    if not _SIZE.fullmatch(size):
        raise InputError(f"{size} is no size of Azure's machines, such as Standard_NC24ads_A100_v4")
    if option.nodes > 1 and not _FAST_NETWORK.match(size):
        raise InputError(
            f"{size} has no RDMA network, which {option.nodes} machines were priced with: sizes with an r do"
        )
    tags = {PREDICTION_TAG: option.plan_id}
    cluster = {
        "$schema": f"{_SCHEMAS}/amlCompute.schema.json",
        "name": f"trainfare-{option.plan_id}",
        "type": "amlcompute",
        "size": size,
        # The tier is the cluster's: a job has none of its own.
        "tier": "low_priority" if option.purchase_option == "spot" else "dedicated",
        "min_instances": 0,
        "max_instances": option.nodes,
        "idle_time_before_scale_down": 120,
        "location": option.region,
        "tags": tags,
    }
    job = _write_job(plan, str(cluster["name"]), tags)
    body = format_yaml(job)
    how = "Start: az ml compute create --file FILE-compute.yml, then az ml job create --file FILE"
    is_listed = option.price_fetched_at is not None and not has_caveat(option, "not_checked")
    listed = f"Your workspace listed {size} when its prices were read."
    unlisted = f"It was not checked that your workspace has {size}: az ml compute list-sizes."
    facts = list_facts(plan, body, f"{how}. {listed if is_listed else unlisted}", stop=_STOP)
    return ExportedFiles(format_yaml(job, facts), {"-compute.yml": format_yaml(cluster)})


def _write_job(plan: PlanToExport, cluster: str, tags: dict[str, str]) -> dict[str, Any]:
    option, launch = plan.option, plan.launch
    words = plan.list_command_words()
    if any("${{" in word for word in words):
        raise InputError("the command has ${{, which Azure ML replaces: say it in the script")
    folder = "${{outputs.checkpoints}}"
    flags = plan.list_checkpoint_flags(folder)
    devices = plan.trainer.devices
    job: dict[str, Any] = {
        "$schema": f"{_SCHEMAS}/commandJob.schema.json",
        "type": "command",
        "display_name": f"{plan.answer.job.name} {option.plan_id}",
        "experiment_name": re.sub(r"[^A-Za-z0-9_-]+", "-", launch.project or "trainfare").strip("-_")
        or "trainfare",
        "code": ".",
        # Azure ML starts a process for each device, so torchrun would start them twice.
        "command": " ".join([f"{CHECKPOINT_VARIABLE}={folder} python {shlex.join(words)}", *flags]),
        "environment": {"image": launch.image or "FILL_IN_IMAGE"},
        "environment_variables": {**plan.list_variables(), **plan.list_visible()},
        "compute": f"azureml:{cluster}",
        "resources": {"instance_count": option.nodes},
        "outputs": {
            "checkpoints": {
                "type": "uri_folder",
                "mode": "rw_mount",
                "path": launch.checkpoints
                or f"azureml://datastores/workspaceblobstore/paths/trainfare/{option.plan_id}",
            }
        },
        "tags": tags,
    }
    if (limit_s := plan.find_limit_s()) is not None:
        job["limits"] = {"timeout": limit_s}
    if devices * option.nodes > 1:
        job["distribution"] = {"type": "pytorch", "process_count_per_instance": devices}
    if launch.data:
        job["command"] = f"{DATA_VARIABLE}=${{{{inputs.data}}}} {job['command']}"
        job["inputs"] = {"data": {"type": "uri_folder", "path": launch.data}}
    return job
