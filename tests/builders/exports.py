"""Answers to export: one of every profile of docs/examples over the services of a target, and one of plans for gloo."""

from __future__ import annotations

import functools
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from builders.recommendations import interval, option, recommendation
from trainfare import recommend
from trainfare_core.errors import CannotTellError
from trainfare_core.recommendation import Launch, PricedPlan, Recommendation, TrainerArguments

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PROFILES = tuple(
    sorted(path.stem for path in EXAMPLES.glob("*.json") if '"operations"' in path.read_text()[:20000])
)
NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


@functools.cache
def answer_of(
    profile: str, *services: str, purchase: str | None = None, nodes: int | None = None
) -> Recommendation:
    """Return the answer for a profile of docs/examples on some services; without options where nothing fits."""
    limits: dict[str, Any] = {"services": list(services)} if services else {}
    try:
        return recommend(EXAMPLES / f"{profile}.json", purchase=purchase, now=NOW, max_nodes=nodes, **limits)
    except CannotTellError:
        return recommendation(
            options=(), cheapest_rank=None, fastest_rank=None, unknown_because="nothing fits"
        )


def plan(**overrides: Any) -> TrainerArguments:
    """Return a plan of two devices under DDP."""
    fields: dict[str, Any] = {
        "devices": 2, "num_nodes": 1, "strategy": "ddp", "precision": "32-true", "accumulate_grad_batches": 1,
        "batch_size": 2,
    }  # fmt: skip
    return TrainerArguments(**{**fields, **overrides})


def small_answer(command: str | None = "train.py --lr 0.1", **of_option: Any) -> Recommendation:
    """Return an answer of one option, whose plan ids are made; `launch` has the command."""
    trainer = of_option.pop("trainer", plan())
    only = option(
        **{
            "instance_type": "g6.12xlarge", "accelerator_count": 4.0, "nodes": trainer.num_nodes, "sharding": "ddp",
            "trainer": trainer, "run_hours": interval(10.0), **of_option,
        }
    )  # fmt: skip
    answer = recommendation(options=(only,), cheapest_rank=1, fastest_rank=1, outlook=None)
    return answer.model_copy(update={"launch": Launch(command=command)}).identify_plans()


def read_prediction(text: str) -> PricedPlan | None:
    """Return the plan that an exported file of any target sets, from its text alone."""
    found = re.search(r'\{\\?"id\\?":\\?"[0-9a-f]{12}\\?".*?\}', text)
    return None if found is None else PricedPlan.from_text(found[0].replace('\\"', '"'))


PAGES = tuple(
    EXAMPLES.parent / "export" / f"{target}.md" for target in ("torchrun", "sagemaker", "azureml", "skypilot")
)
_BLOCK = re.compile(r"(<!-- export: ([a-z-]+) -->\n)(?:\n?```[a-z]*\n.*?```\n)?", re.DOTALL)
_MACHINES: dict[str, dict[str, Any]] = {
    "torchrun": {"instance_type": "g6.12xlarge"},
    "sagemaker": {"service": "sagemaker", "instance_type": "ml.g6.12xlarge"},
    "azureml": {
        "provider": "azure", "service": "azure_ml", "instance_type": "Standard_NC64as_T4_v3", "region": "eastus",
        "accelerator": "T4-16GB",
    },
    "skypilot": {"instance_type": "g6.12xlarge"},
}  # fmt: skip


def draw_page(text: str) -> str:
    """Return a page of docs/export with its examples: of a made answer, for which settings state image and bucket."""
    from trainfare.export import export_plan

    def draw(match: re.Match[str]) -> str:
        target, _, part = match[2].partition("-")
        files = export_plan(small_answer(**_MACHINES[target]), target, "cheapest")
        shown = files.beside[f"-{part}.yml"] if part else files.text
        language = {"torchrun": "sh", "sagemaker": "json"}.get(target, "yaml")
        return f"{match[1]}\n```{language}\n{shown}```\n"

    return _BLOCK.sub(draw, text)


if (
    __name__ == "__main__"
):  # PYTHONPATH=tests python tests/builders/exports.py writes the examples of the pages
    for page in PAGES:
        page.write_text(draw_page(page.read_text()))
