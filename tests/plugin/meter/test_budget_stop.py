"""`on_budget`: a run ends with a checkpoint at its budget, all of its processes after the same step."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import distributed as dist

from builders.huggingface import TimedModel, TimedTrainer, attach_meter, make_trainer
from builders.huggingface import quiet as huggingface_quiet
from builders.lightning_modules import (
    Clock,
    ClockedSGD,
    MeterHarness,
    RecordingLogger,
    Tiny,
    fare_meter_warnings,
    loader,
    quiet,
    trainer,
)
from trainfare.ledger.run_status import FILE_NAME, read_status, write_status
from trainfare.lightning import FareMeter
from trainfare.meter.budget_stop import BudgetStop
from trainfare_core.errors import InputError

pytestmark = [*quiet, *huggingface_quiet]
STOPS: dict[str, Any] = {"on_budget": "checkpoint_and_stop", "usd_per_hour": 3600.0}
"""A second costs a dollar."""


@pytest.mark.parametrize("lead", [0, 1, 2, 3, 9, 40])
@pytest.mark.parametrize("ahead", [0, 1])
def test_all_ranks_stop_after_the_same_step(lead: int, ahead: int) -> None:
    """
    Three real threads over a store of torch: however many steps one rank may lead the others, none stops alone.

    A thread that leads stands for the host of a GPU, whose queue lets it go on; `ahead` is the rank that leads.
    """
    store, done, moved = dist.HashStore(), [0, 0, 0], threading.Condition()
    stops: list[int | None] = [None] * 3

    def may_go_on(rank: int) -> bool:
        least = done[rank] - (lead if rank == ahead else 0)
        return all(done[other] >= least or stops[other] is not None for other in range(3))

    def train(rank: int) -> None:
        stop = BudgetStop(rank, 2, store, "key", lambda: done[0] >= 5)
        for step in range(1, 1000):
            with moved:
                done[rank] = step
                moved.notify_all()
                moved.wait_for(lambda: may_go_on(rank))
            if stop.decide(step):
                with moved:
                    stops[rank] = step
                    moved.notify_all()
                return

    threads = [threading.Thread(target=train, args=(rank,), daemon=True) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stops[0] is not None
    assert stops == [stops[0]] * 3
    assert 5 < stops[0] <= 7 + 4 * lead


def test_a_fault_on_rank_0_lets_no_rank_wait() -> None:
    """Rank 1 knows of the stop after step 3 and comes to it after the meter of rank 0 was turned off: it trains on."""
    store = dist.HashStore()
    first, second = (BudgetStop(rank, 1, store, "key", lambda: True) for rank in (0, 1))
    assert [(first.decide(step), second.decide(step)) for step in (1, 2)] == [(False, False)] * 2
    first.give_up()
    assert not any(second.decide(step) for step in range(3, 50))


def test_a_fault_on_another_rank_lets_rank_0_not_end_alone() -> None:
    """Rank 1 knows of the stop after step 3, and its meter is turned off before: it trains on, and so does rank 0."""
    store = dist.HashStore()
    first, second = (BudgetStop(rank, 1, store, "key", lambda: True) for rank in (0, 1))
    assert [(first.decide(step), second.decide(step)) for step in (1, 2)] == [(False, False)] * 2
    second.give_up()
    assert not any(first.decide(step) for step in range(3, 50))


def test_a_fault_on_a_rank_that_rank_0_counts_on_ends_nothing() -> None:
    """
    Rank 0 has come to the stop that both know when the meter of rank 1 is turned off: neither rank ends there.

    Rank 0 in a thread waits for rank 1 in a collective, as it were: ended alone, it would leave rank 1 in one for ever.
    """
    store, ended = dist.HashStore(), list[bool]()
    first, second = (BudgetStop(rank, 1, store, "key", lambda: True) for rank in (0, 1))
    assert [(first.decide(step), second.decide(step)) for step in (1, 2)] == [(False, False)] * 2
    thread = threading.Thread(target=lambda: ended.append(first.decide(3)), daemon=True)
    thread.start()
    while not store.check(["key/3/come"]) and thread.is_alive():
        pass
    second.give_up()
    thread.join()
    assert ended == [False]
    assert not any(first.decide(step) for step in range(4, 50))


class Impatient:
    """A store that waits for nothing, as one whose time is over."""

    def __init__(self, store: Any) -> None:
        self.set, self.get, self.add, self.check = store.set, store.get, store.add, store.check

    def wait(self, *_: Any) -> None:
        raise dist.DistStoreError("wait timeout")


@pytest.mark.parametrize("late", [0, 1])
def test_a_rank_that_does_not_come_in_time_ends_nothing(late: int) -> None:
    """The rank that has waited too long trains on, and so does the late one when it comes: neither stops alone."""
    store = dist.HashStore()
    stops = [BudgetStop(rank, 1, Impatient(store), "key", lambda: True) for rank in (0, 1)]
    assert [[stop.decide(step) for stop in stops] for step in (1, 2)] == [[False, False]] * 2
    assert not stops[1 - late].decide(3)
    assert not stops[late].decide(3)
    assert not any(stop.decide(step) for step in range(4, 50) for stop in stops)


def run(
    folder: Path, clock: Clock, meter: FareMeter, *callbacks: Any, path: Path | None = None, **options: Any
) -> Any:
    """Train 32 steps, each 36 ms long by the fake clock."""
    fit = trainer(folder, meter, *callbacks, **{"max_steps": 32, "limit_val_batches": 0, **options})
    fit.fit(Tiny(clock), loader(160, clock=clock, load_s=0.005), ckpt_path=path, weights_only=False)
    return fit


@pytest.mark.parametrize(
    ("budget_usd", "steps"), [(0.036 * 7.5, 8), (0.036 * 20.5, 21)], ids=["before the window", "after it"]
)
def test_lightning_saves_and_stops(tmp_path: Path, budget_usd: float, steps: int) -> None:
    """After the first step that ends at or above the budget: 36 ms each, a dollar a second."""
    clock = Clock()
    harness = MeterHarness(clock, write_status=write_status)
    meter = harness.meter(tmp_path, budget_usd=budget_usd, **STOPS)
    with pytest.warns(UserWarning, match="FareMeter") as warned:
        fit = run(tmp_path, clock, meter)
    assert f"the run stops after step {steps}" in fare_meter_warnings(warned)[-1]
    assert fit.global_step == steps
    assert fit.state.finished
    assert [
        line for line in harness.lines if f"ckpt_path='{tmp_path / 'trainfare-budget.ckpt'}') goes on" in line
    ]
    assert read_status(tmp_path / FILE_NAME).ended_by == "stopped at its budget"
    saved = torch.load(tmp_path / "trainfare-budget.ckpt", weights_only=True)
    assert saved["global_step"] == steps
    assert saved["callbacks"]["FareMeter"]["elapsed_s"] == pytest.approx(steps * 0.036)
    if harness.profiles:
        assert harness.profile.plan.optimizer_steps == 32  # what is ranked is the whole run
        assert "the run was stopped at its budget" in harness.profile.notes


def test_a_resumed_run_has_spent_what_it_had(tmp_path: Path) -> None:
    """With the same budget it ends after one step more; with twice the budget it spends the other half."""
    clock, logger = Clock(), RecordingLogger()
    own = ModelCheckpoint(tmp_path / "own", every_n_train_steps=100)
    first = MeterHarness(clock).meter(tmp_path, budget_usd=0.35, **STOPS)
    with pytest.warns(UserWarning, match="stops after step 10"):
        run(tmp_path, clock, first, own, enable_checkpointing=True)
    path = tmp_path / "own" / "trainfare-budget.ckpt"
    for budget_usd, steps in ((0.35, 11), (0.71, 20)):
        later = MeterHarness(clock).meter(tmp_path, budget_usd=budget_usd, **STOPS)
        with pytest.warns(UserWarning, match="FareMeter") as warned:
            fit = run(tmp_path, clock, later, path=path, logger=logger)
        assert f"stops after step {steps}" in fare_meter_warnings(warned)[-1]
        assert fit.global_step == steps
        assert logger.rows[-1][1]["fare/usd_so_far"] == pytest.approx(steps * 0.036)


def test_a_checkpoint_that_cannot_be_saved_ends_nothing(tmp_path: Path) -> None:
    """The training goes on to its end, with one warning more: what it has learnt is worth more than the budget."""

    class Unsaved(Tiny):  # type: ignore[misc]
        def on_save_checkpoint(self, checkpoint: Any) -> None:
            raise OSError(28, "No space left on device")

    clock = Clock()
    harness = MeterHarness(clock)
    fit = trainer(tmp_path, harness.meter(tmp_path, budget_usd=0.2, **STOPS), max_steps=32)
    with pytest.warns(UserWarning, match="FareMeter") as warned:
        fit.fit(Unsaved(clock), loader(160, clock=clock, load_s=0.005))
    assert fit.global_step == 32
    assert [text for text in fare_meter_warnings(warned) if "so the run goes on: OSError" in text]
    assert harness.profile.plan.optimizer_steps == 32
    assert not [note for note in harness.profile.notes if "was stopped" in note]


def test_a_run_that_must_go_on_saves_once(tmp_path: Path) -> None:
    """Lightning's min_epochs holds: the stop comes after it, and the one checkpoint is of the budget."""
    clock = Clock()
    fit = trainer(
        tmp_path, MeterHarness(clock).meter(tmp_path, budget_usd=0.1, **STOPS), min_epochs=1, max_epochs=3
    )
    with pytest.warns(UserWarning, match="stops after step 3"):
        fit.fit(Tiny(clock), loader(32, clock=clock, load_s=0.005))
    assert fit.global_step == 8
    assert torch.load(tmp_path / "trainfare-budget.ckpt", weights_only=True)["global_step"] == 3


def test_a_budget_warns_and_stops_nothing_by_default(tmp_path: Path) -> None:
    """One line, of what is expected before it is spent; no checkpoint."""
    clock = Clock()
    with pytest.warns(UserWarning, match="will cost about .*over the budget") as warned:
        fit = run(tmp_path, clock, MeterHarness(clock).meter(tmp_path, budget_usd=0.9, usd_per_hour=3600.0))
    assert len(fare_meter_warnings(warned)) == 1
    assert fit.global_step == 32
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"on_budget": "stop"}, "it must be 'warn' or 'checkpoint_and_stop'"),
        ({"on_budget": "checkpoint_and_stop", "usd_per_hour": 1.0}, "budget_usd"),
        ({"on_budget": "checkpoint_and_stop", "budget_usd": 1.0}, "usd_per_hour or machine"),
    ],
)
def test_what_could_stop_nothing_is_refused(arguments: dict[str, Any], says: str) -> None:
    """A word that is none, and a budget or a price that is missing."""
    with pytest.raises(InputError, match=says):
        FareMeter(**arguments)


def test_a_machine_without_a_price_is_told(tmp_path: Path) -> None:
    """Its price cannot be read: the run is not stopped, and a warning says so before it begins."""

    def fail(*_: Any) -> float:
        raise ConnectionError("offline")

    meter = MeterHarness(usd_per_hour=fail).meter(
        tmp_path, machine="aws:g6.xlarge@us-east-1", budget_usd=1.0, on_budget="checkpoint_and_stop"
    )
    with pytest.warns(UserWarning, match="FareMeter") as warned:
        assert run(tmp_path, Clock(), meter).global_step == 32
    assert "the budget does not stop this run: its price is not known" in fare_meter_warnings(warned)[1]


def train_timed(
    folder: Path, clock: Clock, budget_usd: float, path: str | None = None, **options: Any
) -> Any:
    """Train a Trainer of Hugging Face whose step takes 13 ms by the clock, and saving 30."""
    options = {"max_steps": 30, "save_strategy": "no", **options}
    made = make_trainer(folder, TimedModel(clock), kind=RealSaves, **options)
    attach_meter(
        made, MeterHarness(clock), folder, warmup_steps=1, measure_steps=3, budget_usd=budget_usd, **STOPS
    )
    made.train(resume_from_checkpoint=path)
    return made


class RealSaves(TimedTrainer):
    """Saves as Trainer does."""

    _save_checkpoint = TimedTrainer.__mro__[1]._save_checkpoint  # type: ignore[attr-defined]


@pytest.mark.parametrize("strategy", ["no", "best"])
def test_hugging_face_saves_and_stops(tmp_path: Path, strategy: str) -> None:
    """After the step that reaches the budget, also where an evaluation decides on saving; a resumed run goes on."""
    clock = Clock()
    options = {} if strategy == "no" else {
        "save_strategy": "best", "eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss",
        "greater_is_better": True,
    }  # fmt: skip
    with pytest.warns(UserWarning, match="FareMeter"):
        first = train_timed(tmp_path, clock, 0.15, **options)
    steps = first.state.global_step
    assert steps == 12 if strategy == "no" else 0 < steps < 30  # of 13 ms: $0.156
    saved = tmp_path / f"checkpoint-{steps}"
    assert (saved / "model.safetensors").is_file()
    with pytest.warns(UserWarning, match=rf"FareMeter.*the run stops after step {steps + 1}$"):
        assert train_timed(tmp_path, clock, 0.15, str(saved), **options).state.global_step == steps + 1


def train_plainly(
    clock: Clock, meter_arguments: dict[str, Any], state: Any = None, *, by_hand: bool = False
) -> Any:
    """Train two passes of 20 batches of 10 ms in a loop of one's own, and return its meter."""
    model = torch.nn.Linear(8, 2)
    optimizer = ClockedSGD(model.parameters(), lr=0.01)
    optimizer.clock = clock
    kind = type("FareMeter", (FareMeter,), {"services": MeterHarness(clock).services})
    meter = kind.loop(model, optimizer, total_steps=40, report=False, **meter_arguments)
    if state is not None:
        meter.load_state_dict(state)
    with meter:
        for _ in range(2):
            data = loader(80)
            for batch in data if by_hand else meter.steps(data):
                clock.advance(0.008)
                model(batch).square().mean().backward()
                optimizer.step()
                if by_hand:
                    meter.step()
                    if meter.stopped:
                        break
            if meter.stopped:
                break
    return meter


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_plain_loop_ends_and_says_so(by_hand: bool) -> None:
    """`steps` gives no more batches, and `stopped` says why; the user's loop saves the state that goes on."""
    clock = Clock()
    given = {"budget_usd": 0.065, **STOPS}
    with pytest.warns(UserWarning, match="the run stops after step 7"):
        meter = train_plainly(clock, given, by_hand=by_hand)
    assert meter.stopped
    state = meter.state_dict()
    assert state.pop("run")
    assert state == {"version": 1, "elapsed_s": pytest.approx(0.070), "usd": pytest.approx(0.070), "steps": 7}
    with pytest.warns(UserWarning, match="the run stops after step 10"):
        later = train_plainly(clock, given, state, by_hand=by_hand)
    # The first two steps show what one consists of, so that the third is the first that can end the run.
    assert later.state_dict()["run"] != ""
    assert later.state_dict()["steps"] == 10
    assert (later.state_dict()["elapsed_s"], later.state_dict()["usd"]) == (
        pytest.approx(0.1),
        pytest.approx(0.1),
    )
    assert not train_plainly(clock, {"budget_usd": 10.0, **STOPS}, by_hand=by_hand).stopped


@pytest.mark.parametrize(
    "state", [None, [], {}, {"elapsed_s": 1.0, "steps": "many"}, {"elapsed_s": 1.0, "steps": -1}]
)
def test_an_invalid_state_of_a_plain_loop_is_ignored(state: Any) -> None:
    """It loses steps, and no run."""
    model = torch.nn.Linear(8, 2)
    meter = FareMeter.loop(model, torch.optim.SGD(model.parameters(), lr=0.1))
    meter.load_state_dict(state)
    assert meter.state_dict()["steps"] == 0


def test_a_plain_loop_over_another_loader_gets_nothing(tmp_path: Path) -> None:
    """Once stopped, `steps` takes no batch of any loader."""
    clock = Clock()
    with pytest.warns(UserWarning, match="stops after step 3"):
        meter = train_plainly(clock, {"budget_usd": 0.01, **STOPS})

    def fail() -> Any:
        pytest.fail("a batch was taken")
        yield

    assert list(meter.steps(fail())) == []
