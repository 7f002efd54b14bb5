"""How drawn jobs are trained by each method, and what each changes of a module; see `builders.recorded`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from builders.offers import book_of, offer_row
from builders.profiles import gpt_profile, profile
from builders.recorded import answer_or_error, compare_with_recorded
from trainfare.methods.module_changes import ModuleChange
from trainfare.methods.plan import answer_methods
from trainfare.methods.request import MethodsRequest
from trainfare.methods.step_change import StepChange
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile, OptimizerFacts, ParameterGroup
from trainfare_core.methods.draws import ReachedBy
from trainfare_core.methods.methods import METHOD_NAMES

MARKET = book_of(
    offer_row(instance_type="small", accelerator="L4-24GB", accelerator_memory_gib=24.0, accelerator_count=1.0, usd_per_hour=0.8),
    offer_row(instance_type="large", accelerator="A100-SXM-80GB", accelerator_memory_gib=80.0, accelerator_count=1.0, usd_per_hour=4.0),
    offer_row(instance_type="many", accelerator="H100-SXM-80GB", accelerator_memory_gib=80.0, accelerator_count=8.0, usd_per_hour=55.0),
    offer_row(instance_type="mi", accelerator="MI300X", accelerator_memory_gib=192.0, accelerator_count=8.0, usd_per_hour=20.0),
)  # fmt: skip


def trace_step(change: StepChange, *, vision: bool, large: bool) -> JobProfile:
    """Return a made-up step of a method: fewer trained weights for adapters, none but the head's for a probe."""
    if change.strategy == "qlora" and vision:
        raise TraceError("no layer can be packed")
    if vision:
        whole = profile(batch_size=64, dtype="fp32" if change.precision.startswith("32") else "bf16")
    else:
        sizes = {"layers": 32, "width": 4096, "heads": 32} if large else {}
        whole = gpt_profile(
            batch_size=4,
            checkpointing=change.recompute,
            dtype="fp32" if change.precision.startswith("32") else "bf16",
            **sizes,
        )
    count = sum(group.count for group in whole.parameters)
    trained = {
        "lora": change.lora_rank * 10**5,
        "qlora": change.lora_rank * 10**5,
        "linear_probe": 10**5,
    }.get(change.strategy, count)
    frozen = ParameterGroup(
        dtype="int8" if change.strategy == "qlora" else "bf16",
        trainable=False,
        count=count,
        parameter_bytes=2 * count,
    )
    return whole.model_copy(
        update={
            "precision": change.precision,
            "parameters": (
                *([frozen] if trained < count else []),
                ParameterGroup(dtype="fp32", trainable=True, count=trained, parameter_bytes=4 * trained),
            ),
            "optimizer": OptimizerFacts(names=("AdamW",), state_bytes=8 * trained, implementation="foreach"),
        }
    )


def test_answers_for_drawn_jobs() -> None:
    draws, answers = random.Random(12), {}
    for index in range(10):
        vision, large = draws.random() < 0.5, draws.random() < 0.5
        fields: dict[str, Any] = {
            "samples": draws.choice([None, 5e3, 2e5]), "domain": draws.choice(["vision-cls", "vision-det"] if vision else ["llm-ift", "nlp-glue"]),
            "within_pct": draws.choice([1.0, 5.0]), "lora_rank": draws.choice([8, 64]), "max_usd": draws.choice([None, 20.0, 500.0]),
            "epochs": draws.choice([None, 3.0]), "deadline_hours": draws.choice([None, 5.0]), "learning_rate_trials": draws.choice([1, 3]),
            "known_value": draws.choice([None, 0.9]), "metric": draws.choice(["accuracy", "val_loss"]), "target_value": draws.choice([None, 0.85]),
            "max_nodes": draws.choice([None, 2]), "no_porting": draws.random() < 0.3,
        }  # fmt: skip
        given = {name: value for name, value in fields.items() if value is not None}
        job = SimpleNamespace(
            precision=draws.choice(["bf16-mixed", "32-true", "16-mixed", "bf16-true"]), train_samples=draws.choice([None, 40_000]),
            tokens_per_sample=None if vision else draws.choice([None, 512]), name="job", loss=None, head=None,
        )  # fmt: skip
        said: list[str] = []
        answer = answer_or_error(
            lambda given=given, job=job, vision=vision, large=large, said=said: answer_methods(
                job, MethodsRequest(**given), MARKET, trace=lambda change: trace_step(change, vision=vision, large=large), say=said.append,
                pilots={"lora": ReachedBy(-0.1, 0.02)} if vision else None,
            )
        )  # fmt: skip
        if not isinstance(answer, str):
            lines = [
                {
                    **line.model_dump(exclude={"machine"}, exclude_none=True),
                    "on": line.machine
                    and [
                        line.machine.instance_type,
                        line.machine.nodes,
                        line.machine.run_usd,
                        line.machine.micro_batch_size,
                    ],
                }
                for line in answer.lines
            ]
            answer = [
                answer.kind,
                answer.strategy,
                answer.sentence,
                answer.doubts,
                answer.pilot,
                answer.assumptions,
                lines,
            ]
        answers[str(index)] = [answer, said]
    compare_with_recorded("plugin_methods", answers)


class Block(nn.Module):
    def __init__(self, width: int, *, names: tuple[str, str] = ("up", "down")) -> None:
        super().__init__()
        for name, sizes in zip(names, ((width, 2 * width), (2 * width, width)), strict=True):
            self.add_module(name, nn.Linear(*sizes, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def make_frozen() -> nn.Module:
    frozen = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    frozen[0].requires_grad_(requires_grad=False)
    return frozen


MODULES: dict[str, Callable[[], nn.Module]] = {
    "blocks": lambda: nn.ModuleDict(
        {"body": nn.ModuleList(Block(8) for _ in range(3)), "head": nn.Linear(8, 4)}
    ),
    "two blocks": lambda: nn.ModuleDict(
        {
            "body": nn.ModuleList([Block(8), Block(8)]),
            "other": nn.ModuleList([Block(4)]),
            "head": nn.Linear(8, 4),
        }
    ),
    "one block": lambda: nn.ModuleDict({"body": nn.ModuleList([Block(8)]), "head": nn.Linear(8, 4)}),
    "attention": lambda: nn.ModuleDict(
        {
            "layers": nn.ModuleList(Block(8, names=("q_proj", "o_proj")) for _ in range(2)),
            "lm_head": nn.Linear(8, 32),
        }
    ),
    "plain": lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)),
    "frozen": make_frozen,
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4)
    ),
    "one layer": lambda: nn.Sequential(nn.Linear(8, 4)),
    "no layer": lambda: nn.Sequential(nn.Conv2d(3, 8, 3)),
}
"""Small networks with and without blocks that repeat, a head, batch norm and frozen parts."""


def test_what_methods_change_of_modules() -> None:
    answers = {}
    for name, strategy, settings in itertools.product(
        MODULES,
        METHOD_NAMES[:-1],
        (
            {},
            {"recompute": True},
            {"lora_rank": 2, "trains_head": False},
            {"head": "head"},
        ),
    ):
        module = MODULES[name]()
        change = ModuleChange(strategy, **{"precision": "bf16-mixed", **settings})
        notes = answer_or_error(lambda change=change, module=module: change(module))
        answers[f"{name} {strategy} {settings}"] = [
            notes,
            " ".join(
                f"{key}:{list(value.shape)}:{value.requires_grad:d}:{str(value.dtype)[6:]}"
                for key, value in module.named_parameters()
            ),
        ]
    compare_with_recorded("module_changes", answers)
