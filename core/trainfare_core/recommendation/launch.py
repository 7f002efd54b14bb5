"""What starts the run of a plan: `Launch`, which no plan says, and `PricedPlan`, by which the run finds its plan."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from pydantic import Field, ValidationError

from trainfare_core.documents import Finite, Interval, Record
from trainfare_core.recommendation.option import Option

PREDICTION_VARIABLE: Final = "TRAINFARE_PREDICTION"
"""Environment variable of a run with its `PricedPlan`."""
PREDICTION_TAG: Final = "trainfare-prediction"
"""Tag and label of a run's machines with the id of its plan; Google's labels allow no capital, dot or colon."""
MOST_CHARACTERS: Final = 512
"""Of `PREDICTION_VARIABLE`: SageMaker's limit on the value of a variable of a training job's environment."""

_Text = Annotated[str, Field(min_length=1, max_length=2000)]
_End = tuple[Finite, Finite, Finite]


_LEDGER: Final = {"memory_bytes", "step_s", "usd_per_hour", "steps", "parts"}
"""What only the ledger reads."""
_LONGEST: Final = _LEDGER | {"strategy", "machine", "precision"}


class Launch(Record):
    """What a launch needs beside the plan; what is None is marked `FILL_IN_` in an exported file."""

    command: _Text | None = Field(
        default=None,
        description="what follows `python` in a shell: the script, or -m and its module, with its arguments",
    )
    trainer_flags: bool = Field(
        default=False,
        description="the command is a LightningCLI's, which takes --trainer.devices and the like",
    )
    project: _Text | None = Field(default=None, description="name of the folder from which the command runs")
    data: _Text | None = Field(
        default=None, description="where the training data are, e.g. s3://bucket/folder"
    )
    checkpoints: _Text | None = Field(
        default=None, description="where checkpoints are kept, e.g. s3://bucket/folder"
    )
    image: _Text | None = Field(default=None, description="container image with the packages of the script")
    setup: _Text | None = Field(
        default=None, description="command that installs them where there is no image"
    )
    bucket: _Text | None = Field(default=None, description="S3 bucket of a SageMaker job's code and output")
    role: _Text | None = Field(default=None, description="ARN of the role that a SageMaker job takes")


class PricedPlan(Record):
    """A plan as it was priced, short enough for an environment variable; None: left out for its length."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    machine: str | None = None
    nodes: int | None = None
    devices: int | None = None
    strategy: str | None = None
    precision: str | None = None
    accumulate: int | None = None
    batch: int | None = None
    hours: _End | None = Field(default=None, description="low_80, mid, high_80")
    usd: _End | None = Field(default=None, description="low_80, mid, high_80")
    step_s: _End | None = Field(default=None, description="low_80, mid, high_80")
    memory_bytes: _End | None = Field(default=None, description="low_80, mid, high_80")
    usd_per_hour: Finite | None = Field(default=None, description="all nodes together")
    steps: int | None = Field(default=None, description="optimizer steps of the run")
    parts: Annotated[tuple[Finite, ...], Field(min_length=6, max_length=6)] | None = Field(
        default=None, description="as `PredictedParts` of the ledger has them"
    )

    @classmethod
    def from_option(cls, option: Option, steps: int | None = None) -> PricedPlan:
        """Return the plan of an option; `steps` are those of the script, where the option does not say its own."""
        own_steps = None if option.optimizer_steps is None else round(option.optimizer_steps)
        plan, hours, usd = option.trainer, option.run_hours, option.run_usd
        return cls(
            id=option.plan_id,
            machine=option.machine,
            nodes=option.nodes,
            devices=None if plan is None else plan.devices,
            strategy=None if plan is None else plan.strategy,
            precision=None if plan is None else plan.precision,
            accumulate=None if plan is None else plan.accumulate_grad_batches,
            batch=None if plan is None else plan.batch_size,
            hours=(hours.low_80, hours.mid, hours.high_80),
            usd=(usd.low_80, usd.mid, usd.high_80),
            step_s=_shorten(option.step_s),
            memory_bytes=_shorten(option.memory_gib, 2**30),
            usd_per_hour=option.usd_per_hour,
            steps=steps if own_steps is None else own_steps,
            parts=_list_parts(option),
        )

    @classmethod
    def from_text(cls, text: str) -> PricedPlan | None:
        """Return the plan of an environment variable; None where it holds none, or one of another version."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    def to_text(self) -> str:
        """Return JSON of at most `MOST_CHARACTERS`: what is too long is left out, a strategy's arguments first."""
        shorter = set[str](), {"parts"}, _LEDGER, {"strategy", "parts"}, _LEDGER | {"strategy"}, _LONGEST
        texts = (self.model_dump_json(exclude=names, exclude_none=True) for names in shorter)
        return next(
            (text for text in texts if len(text) <= MOST_CHARACTERS), self.model_dump_json(include={"id"})
        )

    def list_differences(self, live: PricedPlan) -> list[str]:
        """Return what of a running plan is not as it was priced, e.g. "ddp, priced fsdp"; unknown values are equal."""
        words = {"strategy": "", "devices": "devices ", "nodes": "machines ", "precision": "precision "}
        words |= {"accumulate": "accumulation of ", "batch": "batch size "}
        differences: list[str] = []
        for name, word in words.items():
            here, priced = getattr(live, name), getattr(self, name)
            same = here == priced or (name == "strategy" and live._name_sharding() == self._name_sharding())
            if None not in (here, priced) and not same:
                differences.append(f"{word}{here}, priced {priced}")
        return differences

    def _name_sharding(self) -> str:
        """Return the kind of a strategy, whatever its other arguments: `FSDPStrategy(...)` is fsdp."""
        word = (self.strategy or "").lower().replace("_", "")
        if "hybrid" in word:
            return "hybrid"
        kinds = (
            "deepspeedstage1",
            "deepspeedstage2",
            "deepspeedstage3",
            "megatron",
            "modelparallel",
            "fsdp",
            "ddp",
        )
        kind = next((kind for kind in kinds if word.startswith(kind)), word)
        alone = (self.devices or 1) * (self.nodes or 1) == 1
        # Lightning's "auto" is DDP on several devices, and one device shares nothing whatever the word says.
        return "one device" if alone else "ddp" if kind in ("auto", "none") else kind


def _shorten(interval: Interval, unit: int = 1) -> _End:
    """Return low_80, mid and high_80 in six figures, more than any prediction has."""
    low, mid, high = (float(f"{unit * end:.6g}") for end in (interval.low_80, interval.mid, interval.high_80))
    return low, mid, high


def _list_parts(option: Option) -> tuple[float, ...]:
    """Return `PricedPlan.parts` in six figures."""
    cost = option.cost_parts
    startup_usd = cost.startup_usd + cost.staging_usd + cost.rounding_usd
    storage_usd = cost.storage_usd + cost.object_storage_usd + cost.transfer_usd + cost.model_usd
    timed = option.step_parts.input_s, startup_usd, cost.validation_usd, cost.checkpoint_usd
    return tuple(float(f"{part:.6g}") for part in (*timed, cost.interruption_usd, storage_usd))


def identify_plan(option: Option, job: str) -> Option:
    """
    Return an option with its `plan_id`: of the same job, machine, plan, hours and dollars it is always the same.

    Args:
        option: without an id, or with an older one.
        job: its name.
    """
    names = {"provider", "service", "instance_type", "region", "zone", "purchase_option", "nodes", "trainer"}
    text = option.model_dump_json(include=names | {"run_hours", "run_usd"})
    return option.model_copy(update={"plan_id": hashlib.sha256(f"{job}\n{text}".encode()).hexdigest()[:12]})
