"""
`RunRecord`: one training run, as it was predicted and as it went; its JSON has a published schema.

A record holds counts, sizes, times and dollars; never weights, data or host names, and no path but the folder of the
run's own files. An unknown field is None, or "" where it is text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timezone
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError, model_validator

from trainfare_core.documents import Count, Document, Finite, Interval, Record, first_problem
from trainfare_core.energy import RunEnergy
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.constraints import DEFAULT_MAX_RUN_HOURS

RunState: TypeAlias = Literal["planned", "running", "finished", "failed", "died"]
Text: TypeAlias = Annotated[str, Field(max_length=500)]
_Positive: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]

_Utc: TypeAlias = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(timezone.utc))]

_OF_THE_JOB: Final[dict[str, bool | set[str]]] = {
    "precision": True,
    "operations": True,
    "parameters": True,
    "optimizer": {"names"},
}
"""Of a profile, what `identify_job` digests: no name, path, version, length of the run, time or place."""
_OF_THE_NOISE: Final[dict[str, bool | set[str]]] = {"parameters": True, "optimizer": {"names"}}
"""The same of `identify_weights`: another batch, precision of the operations or kind of trace is the same noise."""
_FINGERPRINT_CHARACTERS: Final = 16
"""Chosen: 64 bits tell millions of jobs apart."""
_MOST_STEP_S: Final = DEFAULT_MAX_RUN_HOURS * 3600

OFF: Final = "off"
"""In place of the folder of a ledger: no run is recorded."""


class LedgerSettings(Record):
    """The table `ledger` of trainfare.toml."""

    folder: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description='relative to the file; "off": no run is recorded; not given: the user\'s'
    )
    project: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="not given: the name of the git repository, else of the folder"
    )


class Compared(Record):
    """A quantity of the run as it was predicted, and as it was."""

    predicted: Interval | None = None
    measured: Finite | None = None

    def measure(self, value: float | None) -> Compared:
        """Return the quantity with its measured value."""
        return Compared(predicted=self.predicted, measured=value)


class RunMachine(Record):
    """Where the run ran."""

    cloud: Text = ""
    instance_type: Text = ""
    region: Text = ""
    accelerator: Text = Field(
        default="", description="its name in the catalogue, else the driver's, else cpu"
    )
    accelerators: _Positive | None = Field(default=None, description="that the run uses of one machine")
    nodes: _Positive | None = None
    purchase_option: Text = Field(default="", description="on_demand, spot, ...")

    @property
    def name(self) -> str:
        """Its name as `FareMeter(machine=...)` takes it; "" where a part is not known."""
        known = self.cloud and self.instance_type and self.region
        return f"{self.cloud}:{self.instance_type}@{self.region}" if known else ""


class RunSoftware(Record):
    """Versions that decide how fast a step is."""

    torch: Text = ""
    loop: Text = Field(default="", description="the training loop and its version, e.g. lightning 2.6.6")


class RunWords(Record):
    """How the job was spread over devices, in the words of the profile."""

    strategy: Text = ""
    precision: Text = ""
    devices: _Positive | None = Field(default=None, description="per node")
    nodes: _Positive | None = None
    accumulate: _Positive | None = None
    micro_batch: _Positive | None = Field(default=None, description="samples of one forward pass of a device")


class PredictedParts(Record):
    """What the prediction is made of beside steps without wait; the dollars are of the whole run."""

    input_s: Finite = Field(description="of step_s: waiting for the input pipeline")
    startup_usd: Finite = Field(
        description="start-up, copy of the data, and time that is billed and not used"
    )
    validation_usd: Finite
    checkpoint_usd: Finite
    interruption_usd: Finite
    storage_usd: Finite = Field(description="disks, object storage and transfer")

    @classmethod
    def from_values(cls, values: Iterable[float]) -> PredictedParts:
        """Return the parts in the order of the fields, as `PricedPlan.parts` has them."""
        return cls(**dict(zip(cls.model_fields, values, strict=True)))


class RunPrediction(Record):
    """Which prediction the record compares with, beside the four quantities that `RunRecord` compares."""

    id: Text = Field(
        default="", description="of the plan that was exported (`Option.plan_id`); empty: none was"
    )
    made: Literal["", "before", "after"] = Field(
        default="",
        description="before: with the exported plan, before the run; after: of the traced step without its measured "
        "times, at the end of the run or of an import; empty: there is none",
    )
    tool_version: Text = Field(
        default="", description="of the trainfare that predicted; empty: as the record's"
    )
    machine: Text = Field(default="", description="that was priced, e.g. aws:p4d.24xlarge@us-east-1")
    usd_per_hour: Finite | None = Field(default=None, description="that was priced, all nodes together")
    steps: Count | None = Field(default=None, description="optimizer steps that were priced")
    parts: PredictedParts | None = None
    traced_step_s: Interval | None = Field(
        default=None,
        description="one step as its trace is predicted without measured times and earlier runs, by which later "
        "predictions are corrected; None: `step_s` where that was made after, else not known",
    )
    nodes: Count | None = Field(default=None, description="machines that were priced; None: not known")
    differences: tuple[Text, ...] = Field(
        default=(), description="what of the run's plan is not as it was priced, e.g. 'ddp, priced fsdp'"
    )


class TimeParts(Record):
    """Seconds of `run_s` by cause, of this session; the rest of `run_s` are steps and what was not timed."""

    startup_s: Finite | None = Field(default=None, description="from the meter's set-up to the first batch")
    data_wait_s: Finite | None = Field(
        default=None, description="median wait of the measured steps, times the steps done"
    )
    validation_s: Finite | None = Field(
        default=None, description="median of a validation batch, times the batches that ran"
    )
    checkpoint_s: Finite | None = Field(
        default=None,
        description="in the loop's own method that saves checkpoints; None: the loop does not tell",
    )


class CloudJob(Record):
    """What the cloud says of the job that the run was, as `trainfare ledger update` asked."""

    began_at: _Utc
    ended_at: _Utc | None = Field(description="None: it runs")
    instance_type: Text = Field(default="", description="of its machines; empty: the cloud does not say")
    machines: _Positive | None = None
    billed_s: Finite | None = Field(
        default=None, description="of each machine; None: the cloud does not bill jobs, but machines"
    )
    is_spot: bool = Field(
        default=False, description="billed_s counts the discount of spot: hours at the price on demand"
    )


class RunProcess(Record):
    """The process that writes the record, by which a reader on the same host sees that it is gone."""

    host: Text = Field(default="", description="digest of host, boot and process namespace; no name")
    pid: Count = 0


class RunRecord(Document):
    """One training run: what was predicted, what was measured, and where and how it ran."""

    schema_version: Literal[1] = 1
    tool_version: Text = ""
    run_id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    sessions_id: Text = Field(default="", description="the same in all sessions of a run; empty: not known")
    state: RunState = Field(
        description="planned: exported, and not seen to run; running: it has begun; failed: an exception ended it; "
        "died: a reader found that it is gone"
    )
    ended_by: Text = Field(default="", description="class of the exception that ended it")
    started_at: _Utc = Field(description="UTC")
    ended_at: _Utc | None = Field(default=None, description="UTC; None: running, or died")
    project: Text = ""
    job: Text = Field(default="", description="class of the module")
    job_fingerprint: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = Field(
        default="", description="digest of the traced step, without names; empty: no step was traced"
    )
    model_fingerprint: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = Field(
        default="",
        description="digest of its weights and optimizer, the same at any batch; empty: not traced",
    )
    kind: Text = Field(default="", description="kind of work: language model, convolution, ...")
    machine: RunMachine = RunMachine()
    software: RunSoftware = RunSoftware()
    plan: RunWords = RunWords()
    prediction: RunPrediction = RunPrediction()
    step_s: Compared = Field(default=Compared(), description="one optimizer step; measured: the median")
    step_wait_s: Finite | None = Field(
        default=None,
        description="of the measured step: median wait for data; None: an earlier version did not keep it",
    )
    work_ratio: Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)] | None = Field(
        default=None,
        description="work of the median measured step over that of the traced one; None: not known",
    )
    step_p10_s: Finite | None = Field(default=None, description="of the measured steps")
    step_p90_s: Finite | None = Field(default=None, description="of the measured steps")
    steps_measured: Count = 0
    memory_bytes: Compared = Field(default=Compared(), description="peak of one device")
    run_s: Compared = Field(
        default=Compared(),
        description="predicted: of the whole run; measured: from the meter's set-up to the end of this session, "
        "earlier sessions included",
    )
    usd: Compared = Field(default=Compared(), description="measured: of run_s, each session at its own price")
    usd_per_hour: Finite | None = Field(default=None, description="all nodes together, as the meter knew it")
    steps_planned: Count | None = None
    steps_done: Count | None = Field(default=None, description="earlier sessions included; None: not known")
    earlier_s: Finite = Field(default=0.0, description="of run_s, earlier sessions of a resumed run")
    interruptions: Count | None = Field(default=None, description="0: the run is not a resumed one")
    parts: TimeParts = TimeParts()
    energy: RunEnergy | None = Field(
        default=None,
        description="of this session, with the mean power that NVML measured; None: not measured",
    )
    process: RunProcess = RunProcess()
    noise_scale_samples: Finite | None = Field(
        default=None, description="simple noise scale of the gradients; None: not measured"
    )
    noise_scale_of: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = Field(
        default="", description="digest of the weights and the optimizer that it is of; empty: not measured"
    )
    folder: Text = Field(default="", description="of the run's status file; empty: not known")
    cloud_job: CloudJob | None = Field(default=None, description="None: not asked, or not found")

    @model_validator(mode="after")
    def _check_times(self) -> RunRecord:
        if self.ended_at is not None and self.ended_at < self.started_at:
            raise ValueError("it ended before it began")
        if (self.step_s.measured or 0.0) > _MOST_STEP_S:
            raise ValueError("one step took longer than a run may")
        return self

    def add_job(self, job: CloudJob) -> RunRecord:
        """Return the run with its job: its machine and, where their price is known, the dollars that were billed."""
        cloud, _, rest = self.prediction.machine.partition(":")
        priced, _, region = rest.rpartition("@")
        name = self.machine.instance_type or (job.instance_type and priced)
        rate = self.usd_per_hour or self.prediction.usd_per_hour
        same = job.instance_type == name and job.machines == self.machine.nodes and not job.is_spot
        # What was trained before the job is in the run's times and not in what was billed of it.
        whole = self.earlier_s <= (self.started_at - job.began_at).total_seconds()
        update: dict[str, object] = {"cloud_job": job}
        if job.instance_type:
            here = {"cloud": cloud, "region": region, "instance_type": job.instance_type}
            update["machine"] = self.machine.model_copy(update=here)
        if self.state == "running":  # its process did not live to write the end
            update["state"] = "died"
        if same and whole and rate is not None and job.billed_s is not None:
            update |= {"usd_per_hour": rate, "usd": self.usd.measure(rate * job.billed_s / 3600)}
        elif self.machine.instance_type and job.instance_type not in ("", self.machine.instance_type):
            # The price is of a machine that it did not run on.
            update |= {"usd_per_hour": None, "usd": self.usd.measure(None)}
        return self.model_copy(update=update)

    @property
    def file_name(self) -> str:
        """Name of the record's file; names of one folder sort by the start of the run."""
        return f"{self.started_at:%Y%m%dT%H%M%SZ}-{self.run_id}.json"

    @property
    def difference_usd(self) -> float | None:
        """Measured less predicted dollars of a run that did all its steps as priced; None where one is not known."""
        predicted, measured = self.usd.predicted, self.usd.measured
        whole = (
            self.state == "finished"
            and (self.steps_done or 0) >= (self.steps_planned or 0)
            and not self.prediction.differences
        )
        return measured - predicted.mid if whole and predicted is not None and measured is not None else None

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "run") -> RunRecord:
        """
        Read a record.

        Args:
            text: JSON as written by `to_json`.
            where: what to call it in an error, e.g. the file's name.

        Raises:
            InputError: not JSON, not a record, a value out of range, or a newer schema.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError(f"{where}: not a run of schema 1: {first_problem(error)}") from error


def keep_last_sessions(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the last of the records of each run that was resumed, and the other ones, oldest first."""
    ordered = sorted(records, key=lambda record: (record.started_at, record.run_id))
    last_id = {record.sessions_id or record.run_id: record.run_id for record in ordered}
    return [record for record in ordered if record.run_id == last_id[record.sessions_id or record.run_id]]


def identify_job(profile: JobProfile) -> str:
    """
    Return the fingerprint of a job: the same for the same step, whatever its name, module names, place and length.

    >>> from pathlib import Path
    >>> profile = JobProfile.from_json(Path("docs/examples/llama-7b.json").read_bytes())
    >>> identify_job(profile) == identify_job(profile.model_copy(update={"name": "Other"}))
    True
    """
    # Lightning copies the loss, one number a micro-batch, which the trace before launch does not; so the loss is read,
    # and what a compiler leaves of its bytes is another.
    operations = tuple(
        group.model_copy(update={"fused_bytes_share": None})
        for group in profile.operations
        if (group.name, group.shape) != ("aten.clone", (1,))
    )
    return _digest(profile.model_copy(update={"operations": operations}), _OF_THE_JOB)


def identify_weights(profile: JobProfile) -> str:
    """Return the fingerprint of what a job trains, and by which optimizer; the same with batches of any size."""
    return _digest(profile, _OF_THE_NOISE)


def _digest(profile: JobProfile, parts: dict[str, bool | set[str]]) -> str:
    text = profile.model_dump_json(include=parts)
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_CHARACTERS]


def name_kind(profile: JobProfile) -> str:
    """
    Return the kind of a job's work: "language model" for attention over token ids, else what has most of its FLOPs.

    >>> from pathlib import Path
    >>> name_kind(JobProfile.from_json(Path("docs/examples/llama-7b.json").read_bytes()))
    'language model'
    """
    flops: dict[str, int] = {}
    for group in profile.operations:
        flops[group.kind] = flops.get(group.kind, 0) + group.flops
    if profile.batch.tokens_per_step and "attention" in flops:
        return "language model"
    return max(flops, key=lambda kind: flops[kind], default="").replace("_", " ")
