"""A script with Hugging Face's Trainer before launch: it stops at `train`, and its profile is that of the metered run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from builders.cli import run_python
from builders.huggingface import attach_meter, quiet
from builders.lightning_modules import MeterHarness
from builders.scripts import load_script
from trainfare import trace_job
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import JobProfile

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
HEAD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import os, pathlib, torch, transformers
from builders.huggingface import Texts, make_classifier, make_trainer
from transformers import Seq2SeqTrainer, Trainer, TrainingArguments, TrainerCallback
"""

pytestmark = quiet


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trace(script: str, **options: Any) -> JobProfile:
    return trace_job(load_script(HEAD + script, **options))


def count_work(profile: JobProfile) -> dict[tuple[str, str], tuple[float, float]]:
    """Return FLOPs and bytes by phase and kind of what does FLOPs."""
    work: dict[tuple[str, str], tuple[float, float]] = {}
    for group in profile.operations:
        flops, moved = work.get((group.phase, group.kind), (0.0, 0.0))
        work[group.phase, group.kind] = flops + group.flops, moved + group.bytes_moved
    return {key: value for key, value in work.items() if value[0]}


def test_the_command_profiles_an_example(here: Path) -> None:
    """As a user types it: the steps of the trace itself, in the process of the script, stop nothing."""
    file = EXAMPLES / "hf_text_classification.py"
    done = run_python("-m", "trainfare", "profile", file, "-o", "job.json", cwd=here)
    assert done.exit_code == 0, done.stderr
    assert JobProfile.from_json((here / "job.json").read_bytes()).source.loop == "huggingface"


@pytest.mark.parametrize(
    "name",
    ["hf_text_classification", "hf_causal_lm_lora", "hf_seq2seq", "hf_trl_sft", "hf_vision"],
    ids=lambda name: name,
)
def test_before_launch_is_as_metered(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLOPs, bytes, parameters, optimizer, saved activations and plan of each example are equal both ways."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    harness = MeterHarness()
    quietly = {"use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}
    metered_run = importlib.import_module(name).make_trainer(str(here), **quietly)
    attach_meter(metered_run, harness, here, warmup_steps=1, measure_steps=3)
    metered_run.train()
    metered, before = harness.profile, trace_job(load_script((EXAMPLES / f"{name}.py").read_text()))
    assert not (here / "out-classification").exists() or not list((here / "out-classification").iterdir())
    assert count_work(before) == count_work(metered)
    assert before.parameters == metered.parameters
    assert before.optimizer == metered.optimizer
    assert before.memory.saved_activation_bytes == metered.memory.saved_activation_bytes
    assert before.plan == metered.plan
    assert before.with_loader_time(None).batch == metered.batch
    assert (before.source.loop, before.precision) == ("huggingface", metered.precision)
    assert before.parallel == metered.parallel


RUN = """
trainer = make_trainer(pathlib.Path("out"), make_classifier(), max_steps=12, gradient_accumulation_steps=2, {options})
trainer.train()
pathlib.Path("trained").touch()
"""


@pytest.mark.parametrize(
    ("options", "precision", "strategy"),
    [
        ("bf16=True, tf32=True, use_cpu=False", "bf16-mixed", "single_device"),
        ("fp16=True, use_cpu=False", "16-mixed", "single_device"),
        (
            "deepspeed={'zero_optimization': {'stage': 2}}, bf16=True, use_cpu=False",
            "bf16-mixed",
            "deepspeed_stage_2",
        ),
        ("fsdp='full_shard auto_wrap', use_cpu=False", "32-true", "fsdp"),
    ],
)
def test_arguments_that_need_a_gpu_do_not_raise(
    options: str, precision: str, strategy: str, here: Path
) -> None:
    """They are read from what the script gave, and the step is that of the same script on a GPU."""
    profile = trace(RUN.format(options=options))
    assert (profile.precision, profile.parallel.strategy) == (precision, strategy)
    types = {group.dtype for group in profile.operations if group.kind == "matmul"}
    assert types == {{"32-true": "fp32", "16-mixed": "fp16"}.get(precision, "bf16")}
    assert profile.plan.optimizer_steps == 12
    assert not (here / "trained").exists()


def test_the_script_is_not_trained_and_nothing_after_it_runs(here: Path) -> None:
    """Weights stay, no callback of the user's is told of a run, and the line of the call is named."""
    script = """
class Told(TrainerCallback):
    def on_train_begin(self, *args, **kwargs):
        pathlib.Path("began").touch()
trainer = make_trainer(pathlib.Path("out"), make_classifier(), max_steps=3, save_strategy="steps", callbacks=[Told()])
print(trainer.evaluate()["eval_loss"])
trainer.save_model("saved")
trainer.train(resume_from_checkpoint="nowhere")
"""
    job = load_script(HEAD + script)
    trainer: Any = job.live.trainer
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    profile = trace_job(job)
    assert all(map(torch.equal, before, trainer.model.parameters()))
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert trainer.optimizer is None
    assert {path.name for path in here.iterdir()} <= {"train.py", "out"}
    told = " ".join(profile.notes)
    lines = (HEAD + script).splitlines()
    line = lines.index('trainer.train(resume_from_checkpoint="nowhere")') + 1
    assert f"call 1 of Trainer.train, at train.py:{line} in <module>" in told
    assert f"Trainer.evaluate at train.py:{line - 2} in <module> did nothing here" in told
    assert f"Trainer.save_model at train.py:{line - 1} in <module> did nothing here" in told
    assert "resume_from_checkpoint" in told


def test_a_later_call_can_be_taken(here: Path) -> None:
    """`--fit 2`: the first returns at once, and the second has its own length."""
    script = RUN.format(options="") + RUN.format(options="").replace("max_steps=12", "max_steps=7")
    assert trace(script, fit=2).plan.optimizer_steps == 7
    assert (here / "trained").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("train_dataset=Texts(0)", "the training loader gave no batch|setting up the data raised"),
        ("train_dataset=None", "setting up the data raised ValueError"),
        ("deepspeed='no-such.json', use_cpu=False", "no-such.json"),
    ],
)
def test_what_cannot_be_set_up_is_said(change: str, told: str) -> None:
    """A refusal that names the reason, before anything is traced."""
    with pytest.raises(TargetError, match=told):
        trace(RUN.format(options=change))


def test_a_trainer_that_generates_in_its_step_is_refused() -> None:
    """Its step is none of one batch, and the metered run counts no work of it either."""
    script = RUN.format(options="").replace("trainer.train()", "trainer.num_generations = 4; trainer.train()")
    with pytest.raises(TargetError, match="generation is not traced: measure a run with"):
        trace(script)


def test_validation_data_without_a_length_are_no_reason_to_refuse() -> None:
    """They are iterated in the run only: the plan says that their batches are not known, and the rest is priced."""
    script = """
class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            yield Texts(1)[0]
"""
    options = "eval_dataset=Endless(), eval_strategy='steps', eval_steps=4"
    profile = trace(script + RUN.format(options=options))
    assert (profile.plan.optimizer_steps, profile.plan.validation_batches) == (12, 0)
    assert "the number of validation batches is not known" in " ".join(profile.notes)


OWN: dict[str, Callable[[], str]] = {
    "an overridden loss": lambda: (
        """
class Own(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = outputs.loss + model(**inputs).logits.square().mean()
        return (loss, outputs) if return_outputs else loss
kind, more = Own, {}
"""
    ),
    "an optimizer of the user's": lambda: (
        """
model = make_classifier()
kind, more = Trainer, {"optimizers": (torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), None)}
"""
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_the_users_own_parts_are_followed(name: str, here: Path) -> None:
    """The step with the user's loss or optimizer is as metered."""
    own = f"model = make_classifier(){OWN[name]()}"
    make = 'trainer = make_trainer(pathlib.Path("out"), model, max_steps=8, kind=kind, **more)\n'
    before = trace(f"{own}{make}trainer.train()")
    space: dict[str, Any] = {}
    exec(HEAD + own + make, space)
    harness = MeterHarness()
    attach_meter(space["trainer"], harness, here, warmup_steps=1, measure_steps=3)
    space["trainer"].train()
    assert isinstance(space["trainer"], Trainer)
    assert count_work(before) == count_work(harness.profile)
    assert before.optimizer == harness.profile.optimizer
