"""A plan as the line of Python that gives it to Lightning's Trainer. Loads no torch: a report shows it."""

from __future__ import annotations

from trainfare_core.recommendation import TrainerArguments

__all__ = ["format_plan"]


def format_plan(plan: TrainerArguments) -> str:
    """
    Return the arguments of a plan as Python, to paste.

    >>> format_plan(
    ...     TrainerArguments(
    ...         devices=8, num_nodes=1, strategy="ddp", precision="bf16-mixed", accumulate_grad_batches=1, batch_size=4
    ...     )
    ... )
    "Trainer(devices=8, num_nodes=1, strategy='ddp', precision='bf16-mixed', accumulate_grad_batches=1)"
    """
    given = plan.model_dump(exclude={"batch_size", "global_batch_size", "configure_model", "script_needs"})
    texts = {name: repr(value) for name, value in given.items()}
    if plan.strategy.endswith(")"):  # a strategy's object, which has no name in Lightning's registry
        texts["strategy"] = plan.strategy
    if plan.global_batch_size is not None and plan.precision.endswith("mixed"):
        # NeMo's is a plugin of its own.
        texts["plugins"] = f"MegatronMixedPrecision(precision={texts.pop('precision')})"
    return f"Trainer({', '.join(f'{name}={text}' for name, text in texts.items())})"
