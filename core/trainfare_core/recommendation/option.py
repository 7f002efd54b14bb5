"""`Option`: one way to run the job, with its plan, hours, dollars and doubts."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Finite, Interval, Record, leave_out_empty
from trainfare_core.energy import RunEnergy
from trainfare_core.recommendation.loader import LoaderFacts
from trainfare_core.recommendation.note import Note

Sharding: TypeAlias = Literal["none", "ddp", "fsdp", "zero1", "zero2", "hybrid"]
Cause: TypeAlias = Literal["compute", "memory", "launch", "communication", "input"]


class StepParts(Record):
    """Time of one optimizer step by cause, in seconds; hidden communication is not part of the step."""

    compute_s: Finite = Field(description="operations limited by arithmetic")
    memory_s: Finite = Field(description="operations limited by memory bandwidth")
    launch_s: Finite = Field(description="waiting for the host to launch operations")
    communication_s: Finite = Field(
        description="collectives that nothing hides, and the wait of pipeline stages for each other"
    )
    communication_hidden_s: Finite = Field(description="collectives overlapped with backward")
    input_s: Finite = Field(description="waiting for the input pipeline")

    def seconds(self) -> dict[Cause, float]:
        """Return the parts that add up to the step."""
        return {
            "compute": self.compute_s,
            "memory": self.memory_s,
            "launch": self.launch_s,
            "communication": self.communication_s,
            "input": self.input_s,
        }


class CostParts(Record):
    """Cost of the run by cause, in USD."""

    training_usd: Finite
    startup_usd: Finite
    validation_usd: Finite
    checkpoint_usd: Finite
    interruption_usd: Finite = Field(description="work lost and repeated, and restarts, on spot machines")
    storage_usd: Finite = Field(description="disks")
    staging_usd: Finite = Field(default=0.0, description="copy of the data before the first step")
    transfer_usd: Finite = Field(default=0.0, description="data sent to the machine's region")
    rounding_usd: Finite = Field(
        default=0.0, description="time billed and not used: billing steps and least billed times"
    )
    object_storage_usd: Finite = Field(
        default=0.0, description="data and trained model in object storage, and requests to it"
    )
    model_usd: Finite = Field(
        default=0.0, description="trained model sent to the region of the data, and downloads"
    )


Degree: TypeAlias = Annotated[int, Field(ge=1)]


class ModelSplit(Record):
    """How a plan splits the model itself; tensor x pipeline x context x replicas are all devices, 1 is "not split"."""

    tensor: Degree = Field(description="devices that share every matrix product")
    pipeline: Degree = Field(description="stages of consecutive layers")
    context: Degree = Field(description="devices that share one sample")
    expert: Degree = Field(description="devices, of different replicas, that hold different experts")
    replicas: Degree = Field(description="of the model, which share the global batch")


class TrainerArguments(Record):
    """Arguments, named as by Lightning's Trainer, and the loader's batch size, that make the script's plan this one."""

    devices: Annotated[int, Field(ge=1)] = Field(description="per machine")
    num_nodes: Annotated[int, Field(ge=1)]
    strategy: str
    precision: str
    accumulate_grad_batches: Annotated[int, Field(ge=1)]
    batch_size: int | None = Field(
        description="samples of one device's loader batch, of one replica's where the model is split; None: not known"
    )
    global_batch_size: int | None = Field(
        default=None,
        description="samples of a step, where NeMo's data module divides them into micro-batches of batch_size; None: "
        "the Trainer accumulates",
    )
    configure_model: str = Field(
        default="", description="what to add to the LightningModule's `configure_model` hook, to paste"
    )
    script_needs: str = Field(
        default="", description="what the script must have besides, in one sentence; empty: nothing"
    )
    code: str = Field(
        default="",
        description="the plan in the words of a loop other than Lightning's; else left out",
    )

    _leave_out_code = leave_out_empty("code")


Chance: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class SpotFallback(Record):
    """A run on spot machines that changes to the same machines on demand after some interruptions."""

    after: Annotated[int, Field(ge=1)] = Field(description="interruptions")
    chance: Chance = Field(description="of changing")
    run_usd: Finite = Field(description="expected")
    p50_hours: Finite
    p90_hours: Finite
    chance_in_time: Chance | None = Field(description="of keeping the deadline; None: there is none")


class SpotOutlook(Record):
    """What interruptions mean for a run on spot machines."""

    interruptions: Finite = Field(
        description="expected in the run, of any of its machines, over the middle 80 % of their rates"
    )
    per_machine_hour: Interval = Field(description="interruptions; the rate is known no better")
    rate_source: str
    waiting_hours: Finite = Field(
        description="expected wait for capacity, in the hours of the run, not billed"
    )
    p50_hours: Finite = Field(description="half of such runs have ended by then")
    p90_hours: Finite
    chance_in_time: Chance | None = Field(description="of keeping the deadline; None: there is none")
    save_every_n_steps: Annotated[int, Field(ge=1)] = Field(
        description="steps between checkpoints that lose least"
    )
    fallback: SpotFallback | None = Field(
        default=None, description="None: the price of the machine on demand in this region is not known"
    )


class Commitment(Record):
    """What a reservation, savings plan or capacity block is paid for, whether used or not."""

    hours: Finite = Field(description="of the term, or of the block, which is booked in whole days")
    usd: Finite = Field(description="for all of them, of all machines")
    use: Finite | None = Field(
        default=None, description="stated share of the term that is used; None: not stated"
    )
    pays_from_use: Finite | None = Field(
        default=None,
        description="share of the term from which it costs less than the answer; None: not compared",
    )


class QualityRatio(Record):
    """Samples to the script's quality over those of its own global batch, central 80 %."""

    low: Finite
    mid: Finite | None = Field(description="None: so large a batch has a lower end alone")
    high: Finite | None


class Option(Record):
    """One way to run the job: an offer, the number of machines, and how the job is spread over them."""

    rank: Annotated[int, Field(ge=1)]
    provider: str
    service: str
    instance_type: str
    region: str
    zone: str | None
    purchase_option: str
    accelerator: str
    accelerator_count: Annotated[float, Field(gt=0)] = Field(description="per machine")
    nodes: Annotated[int, Field(ge=1)]
    sharding: Sharding
    micro_batch_size: int | None
    accumulate_grad_batches: int = Field(
        description="micro-batches of a step on one device, or of one replica where the model is split"
    )
    global_batch_size: int | None = Field(
        default=None, description="samples of an optimizer step over all devices; None: not known"
    )
    batch_ratio: Finite = Field(default=1.0, description="of the global batch to that of the script as it is")
    optimizer_steps: Finite | None = Field(default=None, description="of the whole run; None: not known")
    samples_ratio: Finite | None = Field(
        default=None, description="samples that the run sees over those of the script's run; None: not known"
    )
    checkpoint_every_n_steps: int | None = Field(
        default=None,
        description="optimizer steps between two checkpoints; None: none is written before the end",
    )
    quality_ratio: QualityRatio | None = Field(
        default=None,
        description="None: the global batch is the script's own, or smaller, or nothing is predicted",
    )
    plan_changes: tuple[str, ...] = Field(
        default=(), description="what differs from the script's own plan besides the number of devices"
    )
    model_split: ModelSplit | None = Field(
        default=None, description="None: every device computes the whole model"
    )
    trainer: TrainerArguments | None = Field(default=None, description="None in documents of older versions")
    step_s: Interval
    samples_per_s: Interval | None
    run_hours: Interval
    run_usd: Interval
    usd_per_hour: Finite = Field(description="all nodes together, as last seen")
    usd_per_hour_now: Interval | None = Field(
        default=None, description="all nodes together: how far the price may have moved since it was seen"
    )
    loader_samples_per_s_per_vcpu: Finite | None = Field(
        default=None, description="what the input pipeline must make on each vCPU to keep up; None: not known"
    )
    loader: LoaderFacts | None = Field(
        default=None,
        description="None: its rate is neither known nor published, and it is counted as nothing",
    )
    memory_gib: Interval = Field(description="peak per device")
    device_memory_gib: Finite
    bound_by: Cause
    mfu: Finite | None = Field(
        default=None,
        description="model FLOPs of a step over the dense peak of the devices used; None: the plan changes the job, or "
        "no peak of its type is known",
    )
    accelerator_measured: bool = Field(
        default=True,
        description="steps or kernels of this very accelerator were in the fit of the prediction",
    )
    step_parts: StepParts
    cost_parts: CostParts
    probability_within: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="chance that all limits given are kept; None: none was given"
    )
    needs_porting: bool = Field(
        description="the script does not run there as it is: another backend, runtime or CPU architecture"
    )
    rests_on: str = Field(
        default="",
        description="rows in another vendor's software that its figures rest on, or why these are too few",
    )
    unmeasured_software: bool = Field(
        default=False, description="there are too few: its figures are a guess, and it is never named cheaper"
    )
    arm64_host: bool = Field(
        default=False, description="the host CPU is arm64: x86-64 wheels and containers do not run there"
    )
    spot: SpotOutlook | None = Field(default=None, description="None: the machine is not taken back")
    expected_usd: Finite | None = Field(
        default=None,
        description="mean of the cost, which doubt raises above the median; None in documents of older versions",
    )
    commitment: Commitment | None = Field(
        default=None, description="None: the machine is paid by the hour as long as it is kept"
    )
    energy: RunEnergy | None = Field(default=None, description="None in documents of older versions")
    on_front: bool = Field(
        description="no other option is at least as good in expected_usd, in the hours within which nine of ten runs "
        "end (run_hours.high_80) and in probability_within (to a thousandth), and better in one"
    )
    price_observed_on: str = Field(
        description="date of the price, as precise as its source: 2026-07-20, 2026-03"
    )
    price_source: str
    price_source_class: str = Field(
        default="unstated",
        description="price_api, api_copy, catalogue, quote, own (your rate or discount) or unstated",
    )
    price_fetched_at: str | None = Field(
        default=None, description="when the price was fetched, ISO 8601 in UTC; None: shipped, not fetched"
    )
    price_by_contract: bool = Field(
        default=False, description="a negotiated rate: in force however long ago it was agreed"
    )
    guess_because: str = Field(
        default="",
        description="why time and cost are a guess, and which measured runs are nearest; empty: they are none",
    )
    notes: tuple[Note, ...] = ()
    also_services: tuple[str, ...] = Field(
        default=(),
        description="other services of the cloud that rent the same machine at the same price an hour",
    )
    plan_id: str = Field(
        default="",
        pattern="^([0-9a-f]{12})?$",  # it becomes a part of names and labels
        description="of this plan at this price; empty in documents of older versions",
    )

    def price_samples(self, times: float) -> float:
        """Return the dollars of so many times the samples; what is paid before the first step stays."""
        paid, parts = self.run_usd.mid, self.cost_parts
        once_usd = min(parts.startup_usd + parts.staging_usd + parts.transfer_usd + parts.model_usd, paid)
        return once_usd + (paid - once_usd) * times

    @property
    def machine(self) -> str:
        """The name `FareMeter(machine=...)` takes, e.g. aws:p4d.24xlarge@us-east-1."""
        return f"{self.provider}:{self.instance_type}@{self.region}"

    @property
    def purchased_machines(self) -> str:
        """All machines of the run and how they are bought, e.g. 2 x aws:p4d.24xlarge@us-east-1 (on_demand)."""
        count = f"{self.nodes} x " if self.nodes > 1 else ""
        return f"{count}{self.machine} ({self.purchase_option})"
