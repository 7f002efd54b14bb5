"""A plan for a script of Hugging Face's: its words are TrainingArguments' own, and torchrun's; a plain loop has neither."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from builders.cli import capture_main
from builders.profiles import profile, write_profile
from builders.versions import is_before, needs_version
from trainfare.huggingface.plan_code import WRITER, HuggingFaceWriter
from trainfare.loops import format_plan
from trainfare_core.ranking.pricing.spot import write_saving, write_saving_argument
from trainfare_core.recommendation import PlanFacts

_NEW_WORDS = needs_version("transformers", "5.23", "says the plan in older words")
_ON_CPU = partial(TrainingArguments, "out", use_cpu=True)


def write(**facts: Any) -> str:
    shared: dict[str, Any] = {"sharding": "none", "devices": 1, "nodes": 1, "micro_batch": 4, "accumulate": 2}
    plan = PlanFacts(**{**shared, "precision": "32-true", **facts})
    return format_plan(WRITER.write_arguments(plan))


def write_old(**facts: Any) -> str:
    shared: dict[str, Any] = {"sharding": "none", "devices": 1, "nodes": 1, "micro_batch": 4, "accumulate": 2}
    plan = PlanFacts(**{**shared, "precision": "32-true", **facts})
    return format_plan(HuggingFaceWriter("4.46.0").write_arguments(plan))


def read(code: str, make: Any = _ON_CPU) -> Any:
    """Call what is to be pasted, without what starts it."""
    return eval(
        code.partition(", started by ")[0].partition(", the model in ")[0], {"TrainingArguments": make}
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"recomputed_blocks": ("Block",)}, {"gradient_checkpointing": True}),
        ({"sharding": "fsdp", "devices": 8}, {"fsdp": "full_shard auto_wrap"}),
        (
            {"sharding": "hybrid", "devices": 8, "nodes": 2, "recomputed_blocks": ("Block",)},
            {"fsdp": "hybrid_shard auto_wrap", "fsdp_config": {"activation_checkpointing": True}},
        ),
    ],
)
def test_an_older_transformers_gets_its_own_words(facts: dict[str, Any], expected: dict[str, Any]) -> None:
    """It knows no `activation_checkpointing`, and takes the sharding as words; the class takes them where it is old."""
    assert read(write_old(**facts), dict).items() >= expected.items()
    if is_before("transformers", "5.23"):
        args = read(write_old(**facts))
        assert [str(option.value) for option in args.fsdp or ()] == expected.get("fsdp", "").split()
        assert write(**facts) == write_old(**facts)


@_NEW_WORDS
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"precision": "bf16-mixed"}, {"bf16": True, "fp16": False, "fsdp": None}),
        ({"precision": "16-mixed"}, {"bf16": False, "fp16": True}),
        ({"sharding": "ddp", "devices": 8}, {"fsdp": None, "activation_checkpointing": False}),
        ({"recomputed_blocks": ("Block",)}, {"activation_checkpointing": True}),
        (
            {"sharding": "fsdp", "devices": 8, "own_strategy": "fsdp"},
            {"fsdp": True, "activation_checkpointing": False},
        ),
    ],
)
def test_the_words_are_arguments_of_transformers(facts: dict[str, Any], expected: dict[str, Any]) -> None:
    """The class itself takes them, and has what the plan says."""
    args = read(write(**facts))
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 2)
    assert {name: getattr(args, name) or (None if name == "fsdp" else False) for name in expected} == expected


@_NEW_WORDS
def test_activations_are_recomputed_by_fsdp_where_it_shards() -> None:
    """As transformers' documentation of `fsdp_config` prefers; a hybrid is one of FSDP1 alone there."""
    args = read(write(sharding="hybrid", devices=8, nodes=2, recomputed_blocks=("Block",)))
    config = args.fsdp_config
    assert (config["version"], config["reshard_after_forward"]) == (1, "hybrid_shard")
    assert config["activation_checkpointing"] is True
    assert not args.activation_checkpointing


@pytest.mark.parametrize(
    ("facts", "stage"),
    [
        ({"sharding": "zero1"}, 1),
        ({"sharding": "zero2"}, 2),
        ({"sharding": "fsdp", "own_strategy": "deepspeed_stage_3"}, 3),
    ],
)
def test_stages_are_a_configuration_of_deepspeed(facts: dict[str, Any], stage: int) -> None:
    """A dict that the Trainer completes, where it says "auto"; DeepSpeed requires one of its batch sizes."""
    arguments = read(write(devices=4, **facts), dict)
    assert arguments["deepspeed"]["zero_optimization"] == {"stage": stage}
    assert arguments["deepspeed"]["train_micro_batch_size_per_gpu"] == "auto"
    shared: dict[str, Any] = {"nodes": 1, "micro_batch": 4, "accumulate": 1, "precision": "32-true"}
    written = WRITER.write_arguments(PlanFacts(devices=4, **shared, **facts))
    assert written.strategy == f"deepspeed_stage_{stage}"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, ""),
        ({"sharding": "ddp", "devices": 8}, ", started by torchrun --nproc-per-node=8"),
        (
            {"sharding": "fsdp", "devices": 8, "nodes": 2},
            ", started by torchrun --nnodes=2 --nproc-per-node=8",
        ),
        ({"precision": "bf16-true"}, ", the model in dtype=torch.bfloat16"),
    ],
)
def test_what_no_argument_says_stands_beside_it(facts: dict[str, Any], expected: str) -> None:
    """The processes, and the type of the weights."""
    assert write(**facts).endswith(f"){expected}")


@pytest.mark.parametrize(
    ("loop", "told", "untold"),
    [
        ("huggingface", "TrainingArguments(per_device_train_batch_size=", "Trainer(devices"),
        ("plain", "Plan, batch size ", "Train"),
        ("", "Trainer(devices=", "TrainingArguments("),
    ],
)
def test_an_answer_speaks_the_words_of_the_loop(
    loop: str, told: str, untold: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line of the plan, and what would allow spot machines."""
    job = profile()
    job = job.model_copy(update={"source": job.source.model_copy(update={"loop": loop})})
    shown = capture_main(capsys, "recommend", write_profile(tmp_path, job)).stdout
    plan = shown[shown.index("Plan") :].partition("\n")[0]
    assert told in plan
    assert untold not in plan
    saving = {"huggingface": "TrainingArguments(save_strategy='steps', save_steps=7)"}
    saving[""] = "ModelCheckpoint(every_n_train_steps=7)"
    assert write_saving(job, 7) == saving.get(loop, "a checkpoint every 7 steps")
    assert write_saving_argument(job, 7) in write_saving(job, 7)
    assert ("every_n_train_steps" in write_saving_argument(job, 7)) == (loop == "")
