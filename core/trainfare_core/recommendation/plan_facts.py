"""
What a plan is, whatever loop trains the script: `PlanFacts`; and `PlanWriter`, which puts it in the loop's words.

Who asks for a ranking hands in the writer (`Request.writer`). `NEUTRAL` is the one for a loop that is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from trainfare_core.recommendation.option import ModelSplit, Sharding, TrainerArguments


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """
    How a plan runs a script.

    Attributes:
        sharding: what devices share, one of `trainfare_core.candidates.SHARDINGS`.
        devices: that the plan uses of one machine.
        nodes: machines.
        micro_batch: samples of one device at a time, of one replica where the model is split; None: not known.
        accumulate: micro-batches of a step.
        precision: the profile's word.
        recomputed_blocks: classes of the blocks whose activations are computed again; empty: none is.
        split: of the model itself; None: every device computes the whole model.
        own_strategy: the profile's word for the script's own strategy, where the plan keeps its sharding; else "".
    """

    sharding: Sharding
    devices: int
    nodes: int
    micro_batch: int | None
    accumulate: int
    precision: str
    recomputed_blocks: tuple[str, ...] = ()
    split: ModelSplit | None = None
    own_strategy: str = ""


class PlanWriter(Protocol):
    """Writer of plans in the words of a training loop."""

    def write_arguments(self, plan: PlanFacts) -> TrainerArguments:
        """Return what to give the loop so that the script runs as planned, and what the script needs besides."""
        ...

    def name_split_need(self, plan: PlanFacts) -> str:
        """Return what a plan that splits the model needs, after the word "needs"."""
        ...


class _NeutralWriter:
    """Writer for a loop that is not known: a strategy has the name of its sharding, and plain words stand for code."""

    def write_arguments(self, plan: PlanFacts) -> TrainerArguments:
        return TrainerArguments(
            devices=plan.devices,
            num_nodes=plan.nodes,
            strategy=plan.sharding,
            precision=plan.precision,
            accumulate_grad_batches=plan.accumulate,
            batch_size=plan.micro_batch,
            script_needs="" if plan.split is None else f"The plan needs {self.name_split_need(plan)}",
            code=_describe(plan),
        )

    def name_split_need(self, plan: PlanFacts) -> str:
        return f"a script that splits its model over {plan.devices * plan.nodes} devices"


def _describe(plan: PlanFacts) -> str:
    """Return a plan in plain words."""
    blocks = (
        f"activations of {', '.join(plan.recomputed_blocks)} recomputed" if plan.recomputed_blocks else ""
    )
    batches = f"gradients of {plan.accumulate} batches added up for a step" if plan.accumulate > 1 else ""
    sharding = "" if plan.sharding == "none" else plan.own_strategy or plan.sharding
    machines = f"{plan.nodes} machines with {plan.devices}" if plan.nodes > 1 else f"{plan.devices}"
    devices = f"{machines} device{'s' * (plan.devices > 1)}"
    return ", ".join(filter(None, (devices, sharding, plan.precision, batches, blocks)))


NEUTRAL: Final[PlanWriter] = _NeutralWriter()
"""Writer for a loop that is not known."""
