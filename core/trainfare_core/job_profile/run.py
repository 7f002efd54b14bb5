"""What a profile says of the run: its batch, its devices and its length."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from trainfare_core.documents import Count, Flops, Record, leave_out_empty
from trainfare_core.job_profile.fields import Bytes, Seconds, Text

UPPER_BOUND: Final = " may end it earlier: an upper bound"
"""End of the note on the number of steps where something of the script may end the run before its last step."""


class BatchVariation(Record):
    """How far the batches of a run vary; the profile's operations are those of the mean batch."""

    batches: Count = Field(description="batches whose size was seen")
    smallest_flops: Flops = Field(
        description="of one step and device, were all its batches like the smallest"
    )
    largest_flops: Flops = Field(description="the same of the largest; the profile's memory is that of it")
    work_log_sigma: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(
        description="standard deviation of ln(mean work), by the batches that were not seen"
    )


class SynchronizedNorms(Record):
    """Modules that normalise over the samples of all devices (SyncBatchNorm): each pass exchanges their moments."""

    modules: Annotated[int, Field(ge=1, le=1_000_000)]
    channels: Annotated[int, Field(ge=1, le=2**40, description="of all of them together")]


BatchScale: TypeAlias = Literal["per_device", "fixed", "global"]
"""What more devices do to the samples of a step as the script stands: each device gets the batch of one; the script
names its devices; the samples of all devices together stay the same."""


InputKind: TypeAlias = Literal["pictures", "video", "audio", "text", "tokens", "numbers"]


FREE_KINDS: Final[frozenset[InputKind]] = frozenset(("numbers", "tokens"))
"""Samples that lie ready: a loader copies them, which no step of a device waits for."""


class InputFacts(Record):
    """What the loader makes samples of."""

    kind: InputKind = Field(
        description="pictures, video or audio to decode, text to tokenise; tokens and numbers are there as they are"
    )
    pixels: Count | None = Field(
        default=None, description="of a picture or a frame, as the model gets it; None: not known"
    )
    frames: Count | None = Field(default=None, description="of a sample of video")
    seconds: Seconds | None = Field(default=None, description="of a sample of audio")
    workers: Count | None = Field(
        default=None, description="worker processes of one device's loader; None: not known"
    )
    _leave_out = leave_out_empty("pixels", "frames", "seconds")


class LoaderTime(Record):
    """What the first batches took to load in one process where the script was traced, without its model."""

    sample_s: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="of a sample, the median batch's")
    ]
    sample_cpu_s: Annotated[float, Field(ge=0, allow_inf_nan=False, description="CPU seconds of it")]
    batches: Count = Field(description="that were timed")
    workers: Count | None = Field(default=None, description="as `InputFacts.workers`")
    processor: Text = Field(default="", description="of the host that loaded; empty: not known")
    measured_on: date


class BatchFacts(Record):
    """Samples and tokens that one device consumes."""

    micro_batch_size: Count | None = Field(description="samples in one forward pass; None: not known")
    samples_per_step: Count | None = Field(description="per device and optimizer step; None: not known")
    tokens_per_step: Count | None = Field(default=None, description="per device and optimizer step")
    loader_samples_per_s_per_vcpu: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="stated by the user: samples that the input pipeline makes on one vCPU"
    )
    loader_measured_on: Text = Field(
        default="", description="machine type or processor on which it makes them; empty: not known"
    )
    input: InputFacts | None = Field(default=None, description="None: not known")
    loader_time: LoaderTime | None = Field(default=None, description="None: it was not timed")
    batch_norm: bool | None = Field(
        default=None,
        description="modules normalise over the samples of one device's micro-batch (BatchNorm, not SyncBatchNorm); "
        "None: not known",
    )
    synchronized_norms: SynchronizedNorms | None = Field(default=None, description="None: there are none")
    variation: BatchVariation | None = Field(default=None, description="None: all batches do the same work")
    scales: BatchScale | None = Field(
        default=None,
        description="what more devices do to the samples of a step as the script stands: each has the batch of one "
        "(per_device), the script names its devices (fixed), all together have as many as before (global); None: not "
        "known",
    )
    noise_scale_samples: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="simple noise scale of the gradients, as FareMeter(noise_scale=True) measured it; None: not "
        "measured, and then it is left out",
    )
    _leave_out = leave_out_empty("noise_scale_samples", "loader_measured_on", "input", "loader_time")

    @property
    def normalises(self) -> bool:
        """Whether BatchNorm of either kind trains."""
        return bool(self.batch_norm) or self.synchronized_norms is not None


class ParallelFacts(Record):
    """Distribution of the run over devices."""

    strategy: Text = Field(default="single_device", description="Lightning's name: auto, ddp, fsdp, ...")
    devices: Annotated[int, Field(ge=1, le=65_536)] = Field(default=1, description="per node")
    num_nodes: Annotated[int, Field(ge=1, le=65_536)] = 1
    accumulate_grad_batches: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    replicas: Annotated[int, Field(ge=1, le=2**32)] | None = Field(
        default=None,
        description="copies of the model over all devices, where the script splits it over devices; None: it does not",
    )

    @property
    def world_size(self) -> int:
        """Devices in the whole run."""
        return self.devices * self.num_nodes

    @property
    def data_parallel_size(self) -> int:
        """Copies of the model that share the samples of a step."""
        return self.replicas or self.world_size


class EpochFacts(Record):
    """What the length of the run is counted from, as far as another number of devices changes it."""

    samples: Count | None = Field(
        default=None, description="of all devices; None: the batches alone are known"
    )
    batches: Count | None = Field(description="of one device; None: not known, and steps alone end the run")
    drops_last: bool = Field(default=False, description="a last batch that is not full is left out")
    shared: bool = Field(
        default=True, description="devices share the samples of an epoch; false: each has all of them"
    )
    epochs: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None, description="after which the run ends; None: no number of epochs ends it"
    )
    max_steps: Count | None = Field(
        default=None,
        description="optimizer steps after which the run ends on any number of devices; None: no limit",
    )
    validation_batches: Count = Field(default=0, description="of one validation on one device")
    validation_shared: bool = Field(default=True, description="devices share the samples of a validation")
    validate_every_n_steps: Annotated[int, Field(ge=1, le=10**12)] | None = Field(
        default=None, description="None: by epochs"
    )
    validate_every_n_epochs: Annotated[int, Field(ge=1, le=10**12)] | None = Field(
        default=None,
        description="None: by steps, or after each epoch, the last one too where it is not whole",
    )
    validations_in_epoch: Count = Field(default=1, description="of an epoch in which it validates")
    checkpoint_every_n_epochs: Annotated[int, Field(ge=1, le=10**12)] | None = Field(
        default=None, description="None: by optimizer steps, or never"
    )


class RunPlan(Record):
    """Length of the run in the Trainer's units. None is 'not known', with a reason."""

    optimizer_steps: Count | None = Field(description="in the whole run; None: unknown, see unknown_because")
    unknown_because: Text | None = None
    steps_note: Text | None = Field(
        default=None, description="what the number of steps is, where it is not simply the Trainer's plan"
    )
    epochs: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    validation_batches: Count = Field(default=0, description="per device, in the whole run")
    checkpoint_bytes: Bytes = Field(default=0, description="size of one checkpoint with optimizer state")
    checkpoint_every_n_steps: Annotated[int, Field(ge=1, le=10**12)] | None = None
    max_time_s: Seconds | None = Field(default=None, description="the Trainer stops itself after this long")
    epoch: EpochFacts | None = Field(
        default=None, description="what the length is counted from on other devices; None: it is scaled"
    )
    warmup_steps: Count | None = Field(
        default=None,
        description="of the learning rate's warm-up, where the script states it in steps; None: not known, and then it "
        "is left out",
    )
    _leave_out_warmup = leave_out_empty("warmup_steps")

    @model_validator(mode="after")
    def _check_reason(self) -> RunPlan:
        if self.optimizer_steps is None and not self.unknown_because:
            raise ValueError("optimizer_steps is None and unknown_because is empty: say why")
        return self
