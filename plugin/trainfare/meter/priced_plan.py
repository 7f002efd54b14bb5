"""Whether a run is the one that was priced: its plan against that of its environment, which `trainfare export` sets."""

from __future__ import annotations

import os
from collections.abc import Mapping

from trainfare.job.run_facts import RunFacts

VARIABLE = "TRAINFARE_PREDICTION"
"""As `trainfare_core.recommendation` has it, which most runs need not load."""


def compare_plan(facts: RunFacts, environ: Mapping[str, str] = os.environ) -> str:
    """
    Return one line on the plan that a run was started for; "" where its environment has none.

    Args:
        facts: of the running plan.
        environ: variables of the process.
    """
    text = environ.get(VARIABLE)
    if text is None:
        return ""
    from trainfare_core.recommendation import PricedPlan

    plan = PricedPlan.from_text(text)
    if plan is None:
        return f"{VARIABLE} holds no plan that this version reads: the run is compared with none"
    live = PricedPlan(
        id=plan.id,
        devices=facts.parallel.devices,
        nodes=facts.parallel.num_nodes,
        strategy=facts.parallel.strategy,
        precision=facts.precision,
        accumulate=facts.parallel.accumulate_grad_batches,
        batch=facts.loader_batch_size,
    )
    differences = plan.list_differences(live)
    if differences:
        return f"this run is not the one that was priced as {plan.id}: {'; '.join(differences)}"
    priced = ""
    if plan.usd is not None:
        low, mid, high = plan.usd
        priced = f" for ${mid:,.2f} [${low:,.2f} – ${high:,.2f}]"
    return f"this run is the plan that was priced as {plan.id}{priced}"
