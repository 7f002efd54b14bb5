"""FareMeter in Hugging Face's Trainer: what it measures and traces, and that the training is as without it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from builders.call_counter import CallCounter
from builders.huggingface import (
    Texts,
    TimedModel,
    TimedTrainer,
    attach_meter,
    make_classifier,
    make_trainer,
    quiet,
)
from builders.lightning_modules import Clock, MeterHarness, trainer
from builders.lightning_modules import quiet as lightning_quiet
from builders.versions import is_before
from trainfare.huggingface import FareMeter
from trainfare.huggingface.versions import validates_at_end
from trainfare.ledger.place import LedgerPlace
from trainfare.ledger.run_status import write_status
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile

pytestmark = [*quiet, *lightning_quiet]


def measure(folder: Path, model: Any, harness: MeterHarness | None = None, **options: Any) -> JobProfile:
    """Return the profile of a metered run."""
    harness = harness or MeterHarness()
    metered = make_trainer(folder, model, **options)
    attach_meter(metered, harness, folder, warmup_steps=1, measure_steps=3)
    metered.train()
    return harness.profile


def sum_flops(profile: JobProfile) -> float:
    return sum(group.flops for group in profile.operations)


def test_a_step_lasts_from_end_to_end_less_evaluation_and_saving(tmp_path: Path) -> None:
    """By the clock: 2 batches of 4 samples of 1 ms, forward 7, backward 4, one update of 2; a validation batch 50."""
    clock = Clock()
    run = {
        "rows": 80,
        "gradient_accumulation_steps": 2,
        "max_steps": 20,
        "eval_strategy": "steps",
        "eval_steps": 3,
    }
    saving = {"save_strategy": "steps", "save_steps": 2, "kind": TimedTrainer}
    data = {"train_dataset": Texts(80, clock=clock)}
    profile = measure(tmp_path, TimedModel(clock), MeterHarness(clock), **run, **saving, **data)
    measured = profile.measured
    assert measured is not None
    assert measured.steps == 3
    times = (measured.step, measured.data_wait, measured.forward, measured.backward, measured.optimizer)
    expected_s = (0.032, 0.008, 0.014, 0.008, 0.002)
    assert [time.median_s for time in times if time is not None] == pytest.approx(expected_s)
    assert measured.step.p90_s == pytest.approx(0.032)
    assert measured.validation_batch is not None
    assert measured.validation_batch.median_s == pytest.approx(0.050)


def test_plan_and_batch_are_those_of_the_arguments(tmp_path: Path) -> None:
    """60 samples by 4 are 15 batches, 4 a step: 4 steps an epoch, 3 epochs; validation has 3 batches,
    after steps 5 and 10 and at the end. Before 4.49 the Trainer counts 3 steps an epoch, and makes 4; before 5.4 it does
    not validate at the end.
    """
    profile = measure(
        tmp_path,
        make_classifier(),
        rows=60,
        num_train_epochs=3,
        gradient_accumulation_steps=4,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="epoch",
        save_only_model=True,
    )
    plan, batch = profile.plan, profile.batch
    expected = (12, 3.0, 3 * 3) if validates_at_end() else (12, 3.0, 2 * 3)
    if is_before("transformers", "4.49"):
        expected = 9, 9 / 4, 3
    assert (plan.optimizer_steps, plan.epochs, plan.validation_batches) == expected
    assert (plan.checkpoint_every_n_steps, profile.parallel.accumulate_grad_batches) == (4, 4)
    assert (batch.micro_batch_size, batch.samples_per_step, batch.tokens_per_step) == (4, 16, 16 * 16)
    weights_bytes = sum(group.parameter_bytes for group in profile.parameters)
    assert plan.checkpoint_bytes == weights_bytes + profile.memory.buffer_bytes
    assert (profile.precision, profile.parallel.strategy) == ("32-true", "single_device")
    assert profile.measured is not None
    assert "transformers" in profile.measured.software
    assert profile.source.loop == "huggingface"
    written = json.loads((tmp_path / "trainfare-profile.json").read_text())
    assert written["source"]["loop"] == "huggingface"


def test_flops_are_those_of_the_same_model_in_lightning(tmp_path: Path) -> None:
    """To the digit, by phase and kind, with accumulation over 4 batches and clipped gradients."""
    ours = measure(tmp_path, make_classifier(), max_steps=10, gradient_accumulation_steps=4)
    fused = TrainingArguments(str(tmp_path)).optim == "adamw_torch_fused"  # as newer versions choose

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = make_classifier()

        def training_step(self, batch: Any, index: int) -> Any:
            return self.model(**batch).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=5e-5, fused=fused)

    harness = MeterHarness()
    meter = harness.meter(tmp_path, warmup_steps=1, measure_steps=3)
    fit = trainer(tmp_path, meter, max_steps=10, accumulate_grad_batches=4, gradient_clip_val=1.0)
    fit.fit(Module(), DataLoader(Texts(64), batch_size=4))
    theirs = harness.profile

    def count(profile: JobProfile) -> dict[tuple[str, str], float]:
        flops: dict[tuple[str, str], float] = {}
        for group in profile.operations:
            key = group.phase, group.kind
            flops[key] = flops.get(key, 0.0) + group.flops
        return {key: value for key, value in flops.items() if value}

    assert count(ours) == count(theirs)
    assert sum_flops(ours) > 0
    assert "loop" not in json.loads(theirs.to_json())["source"]
    assert ours.parameters == theirs.parameters
    assert (ours.optimizer, ours.memory.saved_activation_bytes) == (
        theirs.optimizer,
        theirs.memory.saved_activation_bytes,
    )


class Counting(CallCounter, TrainerCallback):
    """Counts the Trainer's calls of a callback of the user's."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}


def train_seeded(folder: Path, *, meter: bool, **options: Any) -> dict[str, Any]:
    """Train, and return each result of the training, and how often the user's code was called."""
    random.seed(3)
    np.random.seed(3)
    data, evaluated, counting = Texts(60), Texts(10), Counting()
    run = {"rows": 60, "num_train_epochs": 2, "eval_strategy": "steps", "eval_steps": 3, **options}
    own = {"train_dataset": data, "eval_dataset": evaluated, "callbacks": [counting]}
    made = make_trainer(folder, make_classifier(), **run, **own)
    if meter:
        attach_meter(made, MeterHarness(), folder, warmup_steps=1, measure_steps=3)
    made.train()
    assert not _get_current_dispatch_mode_stack()
    states = made.optimizer.state_dict()["state"].values()
    return {
        "weights": [value.numpy().tobytes() for value in made.model.state_dict().values()],
        "optimizer": [
            value.numpy().tobytes()
            for state in states
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ],
        "random": (torch.get_rng_state().numpy().tobytes(), random.getstate(), repr(np.random.get_state())),
        "losses": [entry.get("eval_loss") for entry in made.state.log_history],
        "calls": (data.calls, evaluated.calls, counting.calls),
        "steps": made.state.global_step,
        "attributes": (set(vars(made)) - {"train"}, set(vars(made.accelerator))),
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 4, "bf16": True},
        {"gradient_checkpointing": True, "optim": "adafactor", "max_grad_norm": 0.0},
        {"label_smoothing_factor": 0.1, "save_strategy": "steps", "save_steps": 4},
    ],
)
def test_the_training_is_bitwise_that_without_it(tmp_path: Path, options: dict[str, Any]) -> None:
    """Weights, optimizer, random states, losses and the calls of data sets and callbacks are equal."""
    plain = train_seeded(tmp_path / "plain", meter=False, **options)
    metered = train_seeded(tmp_path / "metered", meter=True, **options)
    assert plain == metered
    assert plain["steps"] > 5


def test_an_exception_is_the_users_own_and_leaves_nothing(tmp_path: Path) -> None:
    """It reaches the caller while a step is traced; what was replaced is put back, and the next run is measured."""

    class Failing(TimedModel):
        fails = True

        def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            if self.fails and _get_current_dispatch_mode_stack():
                raise ValueError("the user's")
            return super().forward(input_ids, labels)

    model, harness = Failing(Clock()), MeterHarness()
    metered = make_trainer(tmp_path, model, max_steps=12)
    attach_meter(metered, harness, tmp_path, warmup_steps=1, measure_steps=3)
    with pytest.raises(ValueError, match="the user's"):
        metered.train()
    assert not _get_current_dispatch_mode_stack()
    assert {"training_step", "compute_loss", "evaluate"}.isdisjoint(vars(metered))
    model.fails = False
    metered.train()
    assert "a step raised ValueError while it was traced" in "".join(harness.lines)


def test_a_compiled_step_is_timed_and_not_traced(tmp_path: Path) -> None:
    """The reason is said, and the measured time is in the profile."""
    harness = MeterHarness()
    metered = make_trainer(
        tmp_path, TimedModel(Clock()), max_steps=8, torch_compile=True, torch_compile_backend="eager"
    )
    attach_meter(metered, harness, tmp_path, warmup_steps=1, measure_steps=3)
    metered.train()
    assert "the step was not traced, because the step runs under torch.compile" in "".join(harness.lines)
    profile = JobProfile.from_json((tmp_path / "trainfare-profile.json").read_text(), where="the profile")
    assert profile.measured is not None
    assert profile.measured.steps == 3


def test_a_trainer_that_generates_in_its_step_is_timed_and_not_traced(tmp_path: Path) -> None:
    """TRL's GRPOTrainer and RLOOTrainer set `num_generations`; time is measured, and no work is counted."""
    harness = MeterHarness()
    metered = make_trainer(tmp_path, TimedModel(Clock()), max_steps=8)
    metered.num_generations = 4
    attach_meter(metered, harness, tmp_path, warmup_steps=1, measure_steps=3)
    metered.train()
    assert "generation is not traced" in "".join(harness.lines)
    profile = JobProfile.from_json((tmp_path / "trainfare-profile.json").read_text(), where="the profile")
    assert profile.operations == ()
    assert profile.measured is not None


def test_a_callback_that_may_end_the_run_is_named(tmp_path: Path) -> None:
    """The plan of a run with EarlyStoppingCallback is an upper bound."""
    stop = EarlyStoppingCallback(early_stopping_patience=100)
    early = {
        "eval_strategy": "steps",
        "eval_steps": 4,
        "metric_for_best_model": "eval_loss",
        "callbacks": [stop],
    }
    saved = {"save_strategy": "steps", "save_steps": 4, "load_best_model_at_end": True}
    harness = MeterHarness()
    metered = make_trainer(tmp_path, make_classifier(), max_steps=12, **early, **saved)
    meter = attach_meter(metered, harness, tmp_path, warmup_steps=1, measure_steps=3)
    notes: list[Any] = []

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            notes.append(meter._meter._run.progress.plan().steps_note)  # type: ignore[union-attr]

    metered.add_callback(Look)
    metered.train()
    assert notes[0] == "EarlyStoppingCallback may end it earlier: an upper bound"


def test_a_step_that_is_called_by_names_is_theirs(tmp_path: Path) -> None:
    """As a loop of a derived class may call it: the run ends as it does without a meter."""
    made = make_trainer(tmp_path, TimedModel(Clock()), max_steps=6)
    attach_meter(made, MeterHarness(), tmp_path, warmup_steps=1, measure_steps=3)

    class Name(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            step = made.training_step
            made.training_step = lambda model, inputs, items=None: step(
                model=model, inputs=inputs, num_items_in_batch=items
            )

    made.add_callback(Name)
    made.train()
    assert made.state.global_step == 6


@pytest.mark.parametrize("local", ["0", "many"])
def test_a_wrong_count_of_processes_ends_nothing(
    tmp_path: Path, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a launcher of one's own may leave in the environment: the run is one of one machine."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    harness, made = MeterHarness(), make_trainer(tmp_path, TimedModel(Clock()), max_steps=6)
    attach_meter(made, harness, tmp_path, warmup_steps=1, measure_steps=3)
    made.train()
    assert (made.state.global_step, harness.profile.parallel.num_nodes) == (6, 1)


def test_what_is_not_attached_says_so(tmp_path: Path) -> None:
    """Given among the callbacks it measures nothing, warns once, and the run goes on."""
    made = make_trainer(tmp_path, TimedModel(Clock()), max_steps=2, callbacks=[FareMeter()])
    with pytest.warns(UserWarning, match="attach it to the Trainer") as warned:
        made.train()
    assert len(warned) == 1
    assert made.state.global_step == 2


def test_a_callback_taken_away_in_mid_run_is_off(tmp_path: Path) -> None:
    """Nothing of it is left in the Trainer and in the ledger, and the run goes on."""
    harness = MeterHarness(
        find_ledger=lambda: LedgerPlace(tmp_path / "ledger", "job"), write_status=write_status
    )
    made = make_trainer(tmp_path, TimedModel(Clock()), max_steps=6)
    meter = attach_meter(made, harness, tmp_path, warmup_steps=1, measure_steps=3)

    class Remove(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                made.remove_callback(meter)

    made.add_callback(Remove)
    made.train()
    assert (made.state.global_step, harness.profiles) == (6, [])
    assert not _get_current_dispatch_mode_stack()
    assert "_save_checkpoint" not in vars(made)
    assert not [*tmp_path.glob("ledger/*/*.json"), *tmp_path.glob("trainfare-status.json")]


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda: FareMeter(pilot="lora"), "pilot"),
        (lambda: FareMeter(measure_step=3), "measure_step="),
        (lambda: FareMeter(measure_steps=0), "measure_steps=0"),
        (lambda: FareMeter().attach(object()), "one transformers.Trainer"),
    ],
)
def test_wrong_uses_are_refused(use: Any, told: str) -> None:
    """Before any training, with the name of the argument."""
    with pytest.raises(InputError, match=told):
        use()


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"eval_strategy": "steps", "eval_steps": 3}, 7),
        ({"eval_strategy": "steps", "eval_steps": 3}, 9),
        ({"eval_strategy": "steps", "eval_steps": 2, "eval_delay": 5}, 9),
        ({"eval_strategy": "steps", "eval_steps": 0.25, "eval_on_start": True}, 8),
        ({"eval_strategy": "epoch"}, 9),
        ({"eval_strategy": "epoch", "eval_delay": 2}, 9),
    ],
)
def test_planned_validations_are_those_that_run(tmp_path: Path, options: dict[str, Any], steps: int) -> None:
    """The plan before the first step has as many validation batches as the Trainer then runs; an epoch is 4 steps."""
    made = make_trainer(tmp_path, TimedModel(Clock()), rows=16, max_steps=steps, **options)
    meter = attach_meter(made, MeterHarness(), tmp_path, trace=False, report=False)
    planned: list[int | None] = []
    batches = 0

    class Count(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            planned.append(meter._meter._run.progress.length.validation_runs)  # type: ignore[union-attr]

        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            nonlocal batches
            batches += 1

    made.add_callback(Count)
    made.train()
    assert batches == 3 * (planned[0] or 0) > 0


def read_scalars(folder: Path) -> dict[str, list[float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_metrics_go_to_its_trackers_and_survive_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into TensorBoard past `log`, so that the user's code is not called; the run ends at step 14, of which 12 is saved."""
    clock, logged = Clock(), list[dict[str, float]]()

    class Ends(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 14 and not resumed:
                raise KeyboardInterrupt

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            logged.append(logs)

    scalars: list[dict[str, list[float]]] = []
    for resumed in (False, True):
        board = tmp_path / f"board-{resumed}"
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(board))
        made = make_trainer(
            tmp_path, TimedModel(clock), max_steps=24, callbacks=[Ends()], report_to=["tensorboard"],
            train_dataset=Texts(200, clock=clock), save_strategy="steps", save_steps=12, logging_strategy="steps",
            logging_steps=2, **({"logging_dir": str(board)} if is_before("transformers", "5.0") else {}),
        )  # fmt: skip
        harness = MeterHarness(clock, write_status=write_status, update_every_s=0.0)
        attach_meter(made, harness, tmp_path, warmup_steps=1, measure_steps=3, usd_per_hour=3600.0)
        if resumed:
            made.train(resume_from_checkpoint=True)
        else:
            with pytest.raises(KeyboardInterrupt):
                made.train()
        scalars.append(read_scalars(board))
    names = {
        "fare/eta_s",
        "fare/usd_so_far",
        "fare/usd_total",
        "fare/usd_total_low_80",
        "fare/usd_total_high_80",
    }
    assert all(names <= set(values) for values in scalars)
    assert not any(name.startswith("fare/") for logs in logged for name in logs)
    paid = [*scalars[0]["fare/usd_so_far"], *scalars[1]["fare/usd_so_far"]]
    assert paid == sorted(paid)
    step_s = 4 * 0.001 + 0.007 + 0.004  # loading, forward, backward: the optimizer is torch's own
    # In each session the loader is a batch ahead.
    assert paid[-1] == pytest.approx((14 + 12) * step_s + 2 * 0.004)


def test_the_bar_shows_dollars_and_is_put_back(tmp_path: Path) -> None:
    """Behind the numbers of tqdm's own, and in the comment of a notebook's."""
    clock, shown, bars = Clock(), list[str](), list[Any]()

    class Tracker:
        comment = ""

        def update(self, value: int, comment: str = "") -> None:
            self.comment = comment

    class Notebook(TrainerCallback):
        training_tracker = Tracker()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.training_tracker.update(state.global_step, comment="Epoch 1/1")

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            bars.append(progress.training_bar)
            shown[:] = [str(bars[-1].postfix), notebook.training_tracker.comment]

    notebook = Notebook()
    data = {"train_dataset": Texts(80, clock=clock), "callbacks": [notebook]}
    made = make_trainer(tmp_path, TimedModel(clock), max_steps=20, disable_tqdm=False, **data)
    progress: Any = next(c for c in made.callback_handler.callbacks if type(c).__name__ == "ProgressCallback")
    made.add_callback(Look())
    harness = MeterHarness(clock, update_every_s=0.0)
    attach_meter(made, harness, tmp_path, warmup_steps=1, measure_steps=3, usd_per_hour=3600.0)
    made.train()
    step_s = 4 * 0.001 + 0.007 + 0.004
    paid = (
        19 * step_s + 0.004
    )  # the bar is drawn before the meter counts the 20th step; the loader is a batch ahead
    assert shown[0].startswith(f"${paid:.2f}/{paid + step_s:.2f} [")
    assert shown[1] == f"Epoch 1/1, {shown[0]}"
    assert "update" not in vars(bars[-1])
    assert "update" not in vars(notebook.training_tracker)
