"""A script with Hugging Face's Trainer: what is replaced up to its call of `train`, and the job of that call."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Final, cast

from trainfare.fake_step.fake_tensors import seeded_random
from trainfare.fake_step.several_batches import READ_BATCHES, read_batches, whole_batches
from trainfare.huggingface.pretrained import replace_configuration, replace_loading
from trainfare.job import Batches, LiveJob, LiveRun, place_of_caller
from trainfare.job.fit_call import FitCall, Recorder, skip_call
from trainfare.job.loading import load_in_this_process, report_user_errors
from trainfare.job.loop import do_nothing
from trainfare.job.made_up_data import MadeUpData
from trainfare.job.on_import import on_import
from trainfare.job.untrained import UntrainedMetrics
from trainfare.job.user_code import replace_attribute
from trainfare.meter.batch_facts import BatchSizes
from trainfare.script.loop_scripts import LoopScript
from trainfare.trace import count_samples
from trainfare_core.errors import TargetError

_NAMESPACE: Final = "transformers"
_ELSEWHERE: Final = ("deepspeed", "fsdp", "tf32")
"""Of TrainingArguments: what cannot be had without GPUs or packages, and is read from what the script gave."""
_ONE_DEVICE: Final = (
    "the launcher and not the script sets the number of devices: step and plan are those of one"
)


@contextlib.contextmanager
def _intercept_huggingface(recorder: Recorder) -> Generator[None, None, None]:
    """
    Replace what a Trainer of Hugging Face would start, write or need a device for, once it is imported.

    Args:
        recorder: takes the calls of `train`.
    """
    with contextlib.ExitStack() as stack:

        def replace(kind: Any, name: str, method: Callable[..., Any]) -> None:
            stack.enter_context(replace_attribute(kind, name, method))

        for home, change in (
            ("configuration_utils", replace_configuration),
            ("modeling_utils", replace_loading),
            ("training_args", _replace_arguments),
            ("trainer", _replace_trainer),
        ):
            name = f"{_NAMESPACE}.{home}"
            stack.enter_context(on_import(name, functools.partial(change, name, replace, recorder)))
        yield


def _replace_arguments(home: str, replace: Callable[..., None], _: Recorder) -> None:
    kind: Any = sys.modules[home].TrainingArguments
    original = kind.__post_init__

    def init(self: Any) -> None:
        own = cast("dict[str, Any]", vars(self))
        given = {name: own.get(name) for name in _ELSEWHERE}
        own.update({name: getattr(kind, name) for name in _ELSEWHERE}, use_cpu=True)  # as if none was given
        original(self)
        # A script may read them; with `fsdp` a Trainer refuses one process, and with fp16 accelerate a CPU.
        own.update({**given, "fsdp": self.fsdp, "asked_fsdp": given["fsdp"], "mixed_precision": "no"})

    replace(kind, "__post_init__", init)


def _replace_trainer(home: str, replace: Callable[..., None], recorder: Recorder) -> None:
    loose: Any = sys.modules[home]
    trainer = loose.Trainer
    original, accelerate = trainer.train, trainer.create_accelerator_and_postprocess

    def train(self: Any, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        # Up to its inner loop it does what changes the model: `model_init`, checkpointing of activations, ...
        call = FitCall(self, {}, _NAMESPACE, place_of_caller(), _load_train_call)
        if resume_from_checkpoint:
            recorder.skip("resume_from_checkpoint", "was left out: the plan is that of the whole run")

        def stop(*_: Any, **__: Any) -> Any:
            # A Trainer of 4.x turns it on in what is replaced here.
            off = not getattr(self.model, "is_gradient_checkpointing", False)
            if self.args.gradient_checkpointing and off:
                self.model.gradient_checkpointing_enable(
                    gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs
                )
            recorder.note_call(call, "Trainer.train")
            return loose.TrainOutput(0, math.nan, {})

        with replace_attribute(self, "_inner_training_loop", stop):
            return original(self, None, *args, **kwargs)

    def keep(first: Any, *others: Any, **_: Any) -> Any:
        return (first, *others) if others else first

    def make_accelerator(self: Any) -> None:
        accelerate(self)
        # By which a loop without a Trainer begins; on one device it leaves a loader as it is.
        self.accelerator.prepare = keep

    def make_metrics(_: object) -> UntrainedMetrics:
        return UntrainedMetrics({}, lambda name: recorder.skip(f"metrics[{name!r}]", "is nan here"))

    replace(trainer, "train", train)
    replace(trainer, "create_accelerator_and_postprocess", make_accelerator)
    evaluated = "did nothing here: its metrics are nan"
    replace(
        trainer,
        "evaluate",
        skip_call(trainer.evaluate, "Trainer.evaluate", recorder, make_metrics, evaluated),
    )
    for name in ("save_model", "push_to_hub"):
        replace(trainer, name, skip_call(getattr(trainer, name), f"Trainer.{name}", recorder, do_nothing))


def _load_train_call(call: FitCall, notes: tuple[str, ...], _made_up: MadeUpData | None) -> LiveJob:
    """
    Set up the data and the length of a call of `train` and return its job.

    Args:
        call: under way, before it loads data.
        notes: on the script, for the profile.

    Raises:
        TargetError: the data cannot be set up, or there is no batch.
    """
    from transformers.trainer_utils import has_length

    from trainfare.huggingface.loop_kind import HuggingFaceKind
    from trainfare.huggingface.run_facts import GENERATES, read_length, read_run
    from trainfare.huggingface.versions import count_training, set_intervals, take_batches

    trainer: Any = call.trainer
    args, size = trainer.args, int(trainer._train_batch_size)  # noqa: SLF001
    with load_in_this_process() as times, report_user_errors("setting up the data"), seeded_random():
        loader, accumulate = trainer.get_train_dataloader(), int(args.gradient_accumulation_steps)
        training = count_training(trainer, loader)
        run = read_run(trainer, trainer.model, training.samples)
        batches: tuple[Any, ...] = read_batches(loader, max(READ_BATCHES, accumulate))
        batches = whole_batches(batches, count_samples(batches[0]) if run.batch_of_rows and batches else size)
        _, items = take_batches(trainer, iter(batches), accumulate)
        data_sets: Any = trainer.eval_dataset
        names: list[Any] = [*data_sets] if isinstance(data_sets, dict) else [None]
        validated = [trainer.get_eval_dataloader(n) for n in names if args.eval_strategy != "no"]
        validation = sum(map(len, validated)) if all(map(has_length, validated)) else None
    if not batches:
        raise TargetError(f"{call.place}: the training loader gave no batch")
    if run.split_because == GENERATES:
        raise TargetError(f"{call.place}: {GENERATES}: measure a run with trainfare.huggingface.FareMeter")
    set_intervals(trainer, training.steps)
    facts, sizes = read_length(trainer, training, validation), BatchSizes.of_batches(size, batches)
    if run.batch_of_rows:
        sizes = replace(sizes, micro_batch_size=size, notes=())
    compiled = ("torch_compile=True: the trace is eager",) if args.torch_compile else ()
    halved = (
        f"auto_find_batch_size=True: where {size} samples do not fit, fewer are trained with: not planned",
    )
    sizes = sizes if not args.auto_find_batch_size else replace(sizes, notes=(*sizes.notes, *halved))
    return LiveJob(
        module=trainer.model,
        batch=Batches(batches, times.add_to(run.input, loader, sizes.micro_batch_size)),
        batch_size=sizes.micro_batch_size or 1,
        train_samples=None if facts.batches_per_epoch is None else training.samples,
        tokens_per_sample=sizes.tokens_per_sample,
        precision=run.precision,
        accumulate_grad_batches=accumulate,
        strategy=run.parallel.strategy,
        live=LiveRun(
            trainer,
            facts,
            batch_size_known=sizes.micro_batch_size is not None,
            notes=(*notes, _ONE_DEVICE, *compiled, *sizes.notes),
            kind=HuggingFaceKind(trainer, items),
            root=(args, "output_dir"),
        ),
    )


SCRIPT: Final = LoopScript(_intercept_huggingface, probe="trainfare.huggingface.probe")
"""As `trainfare.loops` asks for it."""
