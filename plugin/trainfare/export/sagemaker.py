"""A plan as the request `CreateTrainingJob` of SageMaker, and what its validators let through though it is wrong."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from trainfare.export.facts import list_facts
from trainfare.export.plan import (
    CHECKPOINT_VARIABLE,
    DATA_VARIABLE,
    ExportedFiles,
    PlanToExport,
    find_limit_s,
)
from trainfare.export.torchrun import list_torchrun_words
from trainfare.report.escape import markdown_text
from trainfare_core.clouds import SYSTEM_DISK_GIB
from trainfare_core.errors import InputError
from trainfare_core.recommendation import PREDICTION_TAG, Option

MOST_RUNTIME_S: Final = 28 * 24 * 3600
"""SageMaker ends a training job after 28 days (StoppingCondition in its API reference)."""
CHECKPOINTS: Final = "/opt/ml/checkpoints"
"""SageMaker's own folder, which it copies to and from S3."""
RENDEZVOUS: Final = (
    'import json;c=json.load(open("/opt/ml/input/config/resourceconfig.json"));h=sorted(c["hosts"]);'
    'print("export NODE_RANK=%d MASTER_ADDR=%s NCCL_SOCKET_IFNAME=%s"'
    '%(h.index(c["current_host"]),h[0],c["network_interface_name"]))'
)
"""Program that reads where the machines of a job are, from the file that SageMaker puts into each container."""

_CODE: Final = "/opt/ml/input/data/code"
_LONGEST_WORD: Final = 256
_MOST_WORDS: Final = 100
_EFA_RDMA: Final = re.compile(r"ml\.p(4d|4de|5e?n?|6-b\d+)\.")
"""Machines whose network adapter reads and writes the memory of another machine."""
_EFA_VARIABLES: Final = {
    "FI_PROVIDER": "efa",
    "FI_EFA_USE_DEVICE_RDMA": "1",
    "RDMAV_FORK_SAFE": "1",  # loaders fork
    "NCCL_PROTO": "simple",  # the adapter delivers out of order
}
"""What SageMaker's own launcher sets (aws/sagemaker-training-toolkit, `torch_distributed.py`)."""
_USUAL_QUOTA_S: Final = 5 * 24 * 3600
"""Longest run of a training job in an account that asked for no more (AWS's page of SageMaker's quotas)."""
_STOP: Final = f"SageMaker sends TERM, two minutes later KILL; what lies in {CHECKPOINTS} is in S3"
_WAIT_AT_99: Final = math.log(100)
"""Of an exponential wait: 99 of 100 are shorter than so many means."""


def export_sagemaker(plan: PlanToExport) -> ExportedFiles:
    """
    Return the request as JSON, with a page beside it of what is to be filled in.

    Raises:
        InputError: a run without a known length, or a request that SageMaker would refuse.
    """
    option = plan.option
    if plan.answer.basis != "whole_run":
        raise InputError(
            "the length of the run is not known, and SageMaker needs one: give max_steps or max_epochs"
        )
    shapes = _load_shapes()
    machines = _find_machines(plan, shapes)
    request = _write_request(plan, machines)
    check_request(request, shapes)
    text = json.dumps(request, indent=1) + "\n"
    how = (
        f"Start: aws sagemaker create-training-job --region {option.region} --cli-input-json file://FILE; the code "
        "lies in the bucket's folder code. A second job needs another TrainingJobName."
    )
    runtime_s = request["StoppingCondition"]["MaxRuntimeInSeconds"]
    if runtime_s > _USUAL_QUOTA_S:
        how = (
            "An account may train for 5 days at a time until it asks for more: raise its quota 'Longest run time for "
            f"a training job' to {runtime_s:,} s, or the request is refused. {how}"
        )
    facts = list_facts(plan, text, how, machines, stop=_STOP)
    page = "# Before the start\n\n" + "".join(f"- {markdown_text(fact)}\n" for fact in facts)
    return ExportedFiles(text, {".md": page})


def _write_request(plan: PlanToExport, machines: Sequence[Option]) -> dict[str, Any]:
    option, launch = plan.option, plan.launch
    bucket = f"s3://{launch.bucket or 'FILL_IN_BUCKET'}"
    home = f"{bucket}/{PREDICTION_TAG}/{option.plan_id}"
    slug = re.sub(r"[^A-Za-z0-9]+", "-", plan.answer.job.name)[:30].strip("-")
    torchrun = " ".join(list_torchrun_words(plan, "$NODE_RANK", "$MASTER_ADDR"))
    meet = 'eval "$(python -c "$TRAINFARE_RENDEZVOUS")" && ' if option.nodes > 1 else ""
    runtime_s = max(map(find_limit_s, machines))
    environment = {
        **plan.list_variables(f"{CHECKPOINTS}/trainfare-ledger"),
        CHECKPOINT_VARIABLE: CHECKPOINTS,
        **plan.list_visible(machines),
    }
    if option.nodes > 1:
        environment["TRAINFARE_RENDEZVOUS"] = RENDEZVOUS
        if all(_EFA_RDMA.match(machine.instance_type) for machine in machines):
            environment |= _EFA_VARIABLES
    request: dict[str, Any] = {
        "TrainingJobName": f"{f'trainfare-{slug}'.rstrip('-')}-{option.plan_id}",
        "RoleArn": launch.role or "arn:aws:iam::FILL_IN_ACCOUNT:role/FILL_IN_ROLE",
        "AlgorithmSpecification": {
            "TrainingImage": launch.image or "FILL_IN_IMAGE",
            "TrainingInputMode": "FastFile",
            "ContainerEntrypoint": ["sh", "-c", f'cd {_CODE} && {meet}exec torchrun {torchrun} "$@"', "sh"],
            "ContainerArguments": plan.list_command_words(CHECKPOINTS),
        },
        "InputDataConfig": [_write_channel("code", f"{bucket}/code", "File")],
        "OutputDataConfig": {"S3OutputPath": f"{home}/output"},
        "ResourceConfig": _write_machines(plan, machines),
        "StoppingCondition": {"MaxRuntimeInSeconds": runtime_s},
        "CheckpointConfig": {"S3Uri": launch.checkpoints or f"{home}/checkpoints", "LocalPath": CHECKPOINTS},
        "Environment": environment,
        "Tags": [{"Key": PREDICTION_TAG, "Value": option.plan_id}],
    }
    if launch.data:
        environment[DATA_VARIABLE] = "/opt/ml/input/data/data"
        request["InputDataConfig"].append(_write_channel("data", launch.data, "FastFile"))
    if option.purchase_option == "spot":
        waiting_s = math.ceil(
            3600 * _WAIT_AT_99 * (0.0 if option.spot is None else option.spot.waiting_hours)
        )
        request["EnableManagedSpotTraining"] = True
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = runtime_s + waiting_s
    return request


def _write_channel(name: str, uri: str, mode: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": mode}


def _find_machines(plan: PlanToExport, shapes: Any) -> tuple[Option, ...]:
    """Return the machine; on demand, those that run the same plan in its region too, where botocore knows how."""
    option = plan.option
    knows = shapes is not None and "InstancePreferences" in shapes.shape_for("ResourceConfig").members
    if not knows or option.purchase_option != "on_demand":
        return (option,)
    others = (
        machine
        for machine in plan.find_machines(frozenset({"sagemaker"}))[1:]
        if machine.region == option.region and find_limit_s(machine) <= MOST_RUNTIME_S
    )
    return (option, *others)


def _write_machines(plan: PlanToExport, machines: Sequence[Option]) -> dict[str, Any]:
    disk = {"VolumeSizeInGB": math.ceil(SYSTEM_DISK_GIB + (plan.answer.constraints.data_gb or 0.0))}
    entries = [
        {"InstanceType": machine.instance_type, "InstanceCount": machine.nodes} for machine in machines
    ]
    return {**(entries[0] if len(entries) == 1 else {"InstancePreferences": entries}), **disk}


def check_request(request: dict[str, Any], shapes: Any) -> None:
    """
    Refuse what botocore's validator lets through and the service does not.

    Args:
        request: of `CreateTrainingJob`.
        shapes: botocore's model of the service; None: it is not installed, and types of machines are not checked.

    Raises:
        InputError: the first such thing.
    """
    machines, stop = request["ResourceConfig"], request["StoppingCondition"]
    runtime_s = stop["MaxRuntimeInSeconds"]
    if runtime_s > MOST_RUNTIME_S:
        raise InputError(
            f"SageMaker ends a job after 28 days, and this run may take {runtime_s / 86400:.1f}: --plan fastest, or "
            "fewer steps"
        )
    spot = bool(request.get("EnableManagedSpotTraining"))
    if spot and stop.get("MaxWaitTimeInSeconds", 0) < runtime_s:
        raise InputError("MaxWaitTimeInSeconds must be at least MaxRuntimeInSeconds on spot machines")
    preferences = machines.get("InstancePreferences", [])
    if preferences and (spot or "InstanceType" in machines):
        raise InputError("InstancePreferences stands neither beside InstanceType nor beside spot machines")
    if shapes is not None:
        known = shapes.shape_for("TrainingInstanceType").enum
        types = [entry["InstanceType"] for entry in preferences] or [machines["InstanceType"]]
        for name in (name for name in types if name not in known):
            raise InputError(f"the installed botocore knows no training machine {name}: update boto3")
    algorithm = request["AlgorithmSpecification"]
    words = [*algorithm["ContainerEntrypoint"], *algorithm["ContainerArguments"]]
    if len(words) > _MOST_WORDS or any(len(word) > _LONGEST_WORD or "\n" in word for word in words):
        raise InputError(
            f"SageMaker takes {_MOST_WORDS} words of {_LONGEST_WORD} characters on one line: shorten the command"
        )


def _load_shapes() -> Any:
    """Return botocore's model of SageMaker, which ships with it: no configuration or credential is read."""
    if importlib.util.find_spec("botocore") is None:
        return None
    description = import_module("botocore.loaders").Loader().load_service_model("sagemaker", "service-2")
    return import_module("botocore.model").ServiceModel(description, "sagemaker")
