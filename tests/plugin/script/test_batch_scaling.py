"""What more devices do to the batch and the steps of a script: the answer of the number written in, before it is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from builders import huggingface, lightning_modules
from builders.launched_scripts import (
    ACCELERATE,
    FABRIC,
    FIT,
    HUGGING_FACE,
    LIGHTNING,
    LOOP,
    ROWS,
    SIZE,
    VALIDATED,
)
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare_core.batch_scaling import launch_on
from trainfare_core.errors import InputError, TargetError
from trainfare_core.job_profile import JobProfile

pytestmark = [*lightning_modules.quiet, *huggingface.quiet]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trace(text: str) -> JobProfile:
    return trace_job(load_script(text))


def fit(devices: object, options: str = "max_epochs=6", loader: str = f"rows({ROWS})") -> str:
    return LIGHTNING + FIT.format(devices=repr(devices), options=options, loader=loader, validated=VALIDATED)


def plan_of(profile: JobProfile) -> dict[str, object]:
    return profile.plan.model_dump(exclude={"epoch"})


@pytest.mark.parametrize(
    ("options", "loader"),
    [
        ("max_epochs=6", f"rows({ROWS})"),
        ("max_epochs=6, accumulate_grad_batches=3", f"rows({ROWS}, shuffle=True)"),
        ("max_epochs=6", f"rows({ROWS}, drop_last=True)"),
        ("max_epochs=6, max_steps=50", f"rows({ROWS})"),
        ("max_steps=40, max_epochs=-1", f"rows({ROWS})"),
        ("max_epochs=6, val_check_interval=2, check_val_every_n_epoch=None", f"rows({ROWS})"),
        ("max_epochs=6", f"DataLoader(Stream(), {SIZE})"),
        ("max_epochs=6, use_distributed_sampler=False", f"rows({ROWS})"),
    ],
    ids=["epochs", "accumulation", "dropped", "both", "steps", "validation", "stream", "no sampler"],
)
@pytest.mark.parametrize(("asked", "devices"), [("auto", 2), (-1, 8)])
def test_lightnings_plan_is_that_of_the_number_written_in(
    asked: object, devices: int, options: str, loader: str
) -> None:
    auto = trace(fit(asked, options, loader))
    assert (auto.batch.scales, auto.parallel.devices) == ("per_device", 1)
    written, launched = trace(fit(devices, options, loader)), launch_on(auto, devices)
    assert written.batch.scales == "fixed"
    assert plan_of(launched) == plan_of(written)
    assert launched.global_samples_per_step == written.global_samples_per_step


def test_a_stream_is_read_whole_by_each_device() -> None:
    """Lightning gives it no sampler: eight devices see eight times the samples in as many steps."""
    auto = trace(fit("auto", loader=f"DataLoader(Stream(), {SIZE})"))
    launched = launch_on(auto, 8)
    assert launched.plan.optimizer_steps == auto.plan.optimizer_steps == 6 * math.ceil(ROWS / SIZE)


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        ("num_train_epochs=3", 3 * math.ceil(math.ceil(ROWS / SIZE / 8) / 2)),
        ("max_steps=30", 30),
    ],
)
def test_hugging_faces_steps_on_eight_devices_are_those_that_accelerate_makes(limit: str, steps: int) -> None:
    pytest.importorskip("transformers")
    one = trace(HUGGING_FACE % limit)
    assert one.batch.scales == "per_device"
    eight = launch_on(one, 8)
    assert eight.plan.optimizer_steps == steps
    assert eight.global_samples_per_step == 8 * 2 * SIZE


def test_a_launchers_variable_that_hugging_face_takes_for_a_launch_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(TargetError, match="is given by --launched, without --pass-env WORLD_SIZE"):
        load_script(HUGGING_FACE % "max_steps=30")


def test_accelerates_batch_follows_the_launcher() -> None:
    pytest.importorskip("accelerate")
    set_up, backward = ACCELERATE
    one = trace(LOOP.format(set_up=set_up, backward=backward))
    assert one.batch.scales == "per_device"
    assert launch_on(one, 8).plan.optimizer_steps == 6 * math.ceil(math.ceil(ROWS / SIZE) / 8)


@pytest.mark.parametrize("processes", ["1", "4"])
def test_a_batch_that_accelerate_splits_stays_whole(processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not a launcher's variables say how many devices share it."""
    monkeypatch.setenv("WORLD_SIZE", processes)
    configured = (
        "from accelerate.utils import DataLoaderConfiguration as Configuration\naccelerator = Accelerator("
    )
    splits = f"{configured}dataloader_config=Configuration(split_batches=True)"
    set_up = ACCELERATE[0].replace("accelerator = Accelerator(", splits)
    one = trace(LOOP.format(set_up=set_up, backward=ACCELERATE[1]))
    assert (one.batch.scales, one.global_samples_per_step, one.parallel.world_size) == ("global", SIZE, 1)
    with pytest.raises(InputError, match="the script divides its batch by their number"):
        launch_on(one, 8)


def test_a_batch_that_a_trainer_splits_or_may_halve_is_said() -> None:
    splits = "num_train_epochs=3, accelerator_config={'split_batches': True}"
    assert trace(HUGGING_FACE % splits).batch.scales == "global"
    found = trace(HUGGING_FACE % "num_train_epochs=3, auto_find_batch_size=True")
    note = f"auto_find_batch_size=True: where {SIZE} samples do not fit, fewer are trained with: not planned"
    assert (found.batch.scales, note in found.notes) == ("per_device", True)


@pytest.mark.parametrize(("devices", "scales"), [("'auto'", "per_device"), ("4", "fixed")])
def test_fabrics_batch_follows_the_devices_where_it_names_none(devices: str, scales: str) -> None:
    set_up, backward = FABRIC
    one = trace(LOOP.format(set_up=set_up.format(devices=devices), backward=backward))
    assert one.batch.scales == scales
    if scales == "per_device":  # its wrapper of a DataLoader shares the batches
        assert launch_on(one, 8).plan.optimizer_steps == 6 * math.ceil(math.ceil(ROWS / SIZE) / 8)


def test_a_loop_that_nothing_shares_has_no_launcher() -> None:
    one = trace(LOOP.format(set_up="", backward="loss.backward()"))
    assert one.batch.scales is None
    with pytest.raises(InputError, match="--launched 8: nothing shares its batch"):
        launch_on(one, 8)


@pytest.mark.parametrize(("stated", "known"), [("warmup_steps=40", 40), ("warmup_steps=0", None)])
def test_hugging_faces_warm_up_is_known_where_it_is_stated_in_steps(stated: str, known: int | None) -> None:
    pytest.importorskip("transformers")
    assert trace(HUGGING_FACE % f"num_train_epochs=3, {stated}").plan.warmup_steps == known


def test_a_batch_that_accelerate_splits_is_that_of_all_devices() -> None:
    pytest.importorskip("transformers")
    one = trace(HUGGING_FACE % "max_steps=30, accelerator_config={'split_batches': True}")
    assert one.batch.scales == "global"
