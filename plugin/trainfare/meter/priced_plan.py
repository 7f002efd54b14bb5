"""Whether a run is the one that was priced: its plan against that of its environment, which `trainfare export` sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainfare.job.run_facts import RunFacts

if TYPE_CHECKING:
    from trainfare_core.recommendation import PricedPlan

VARIABLE = "TRAINFARE_PREDICTION"
"""As `trainfare_core.recommendation` has it, which most runs need not load."""


def read_priced_plan(environ: Mapping[str, str] = os.environ) -> PricedPlan | None:
    """Return the plan that a run was started for; None where its environment has none that this version reads."""
    text = environ.get(VARIABLE)
    if text is None:
        return None
    from trainfare_core.recommendation import PricedPlan

    return PricedPlan.from_text(text)


def list_differences(plan: PricedPlan, facts: RunFacts) -> list[str]:
    """Return what of the running plan is not as it was priced."""
    parallel = facts.parallel
    live = {
        "devices": parallel.devices,
        "nodes": parallel.num_nodes,
        "strategy": parallel.strategy,
        "precision": facts.precision,
        "accumulate": parallel.accumulate_grad_batches,
        "batch": facts.loader_batch_size,
    }
    # Plans are priced on machines with accelerators; a try of the exported file on a CPU is no measure of them.
    host = ["on a CPU, priced on an accelerator"] if facts.device_kind == "cpu" else []
    return [*plan.list_differences(plan.model_copy(update=live)), *host]


def compare_plan(facts: RunFacts, environ: Mapping[str, str] = os.environ) -> str:
    """
    Return one line on the plan that a run was started for; "" where its environment has none.

    Args:
        facts: of the running plan.
        environ: variables of the process.
    """
    if VARIABLE not in environ:
        return ""
    plan = read_priced_plan(environ)
    if plan is None:
        return f"{VARIABLE} holds no plan that this version reads: the run is compared with none"
    differences = list_differences(plan, facts)
    if differences:
        return f"this run is not the one that was priced as {plan.id}: {'; '.join(differences)}"
    priced = ""
    if plan.usd is not None:
        low, mid, high = plan.usd
        priced = f" for ${mid:,.2f} [${low:,.2f} – ${high:,.2f}]"
    return f"this run is the plan that was priced as {plan.id}{priced}"
