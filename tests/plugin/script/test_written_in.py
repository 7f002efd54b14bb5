"""
The answer of a script whose batch follows the devices is that of the same script with their number written in.

Lightning and Fabric have the number in the script; Accelerate and a loop under DDP in the variables of a launcher, which
such a script may read; of Hugging Face's Trainer, which such variables would start, the steps are those of the loaders
that Accelerate makes for so many processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders import huggingface, lightning_modules
from builders.launched_scripts import (
    ACCELERATE,
    DDP,
    FABRIC,
    FIT,
    HUGGING_FACE,
    LIGHTNING,
    LOOP,
    ROWS,
    SIZE,
    VALIDATED,
)
from builders.process_groups import end_process_group
from builders.scripts import load_script
from builders.toy_market import book, offer_row
from trainfare.fake_step import trace_job
from trainfare_core.batch_scaling import launch_on
from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option

pytestmark = [*lightning_modules.quiet, *huggingface.quiet]

DATA_OF_LOOP = f"DataLoader(data, {SIZE}"
DEVICES = ((1, 1), (2, 1), (4, 1), (8, 1), (4, 2))
"""On each machine, and machines."""
MACHINES = book(
    *(
        offer_row(instance_type=f"{name}.{count}x", accelerator=name, accelerator_count=float(count), usd_per_hour=usd * count)
        for name, usd in (("H100-SXM-80GB", 4.0), ("A100-SXM-80GB", 2.0), ("L4-24GB", 0.7))
        for count in (1, 2, 4, 8)
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """A script with what it says of the devices, and how it is given their number."""

    text: str
    write: str = ""
    """What stands for the number in `text`; "": a launcher says it."""
    asked: str = ""
    steps: Callable[[int], int] | None = None
    """Of so many processes, where no variable of a launcher can be given."""


def lightning(asked: str, options: str, loader: str = f"rows({ROWS})") -> Script:
    fit = FIT.format(devices="DEVICES", options=options, loader=loader, validated=VALIDATED)
    return Script(LIGHTNING + fit, "DEVICES", asked)


def loop(parts: tuple[str, str], write: str = "", asked: str = "", more: str = "") -> Script:
    text = LOOP.format(set_up=parts[0].format(devices="DEVICES"), backward=parts[1])
    return Script(text.replace(DATA_OF_LOOP, DATA_OF_LOOP + more), write, asked)


def count_batches(rows: int, processes: int) -> int:
    """Return the batches of one process, by the loader that Accelerate makes for it."""
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader

    loader: DataLoader[int] = DataLoader(range(rows), SIZE)  # type: ignore[arg-type]
    return len(prepare_data_loader(loader, num_processes=processes, process_index=0))


SCRIPTS = {
    "auto": lightning("'auto'", "max_epochs=6"),
    "-1, dropped": lightning("-1", "max_epochs=6", f"rows({ROWS}, drop_last=True)"),
    "auto, accumulation": lightning("'auto'", "max_epochs=6, accumulate_grad_batches=3"),
    "-1, steps": lightning("-1", "max_steps=4_000, max_epochs=-1"),
    "auto, stream": lightning("'auto'", "max_epochs=6", f"DataLoader(Stream(), {SIZE})"),
    "Hugging Face": Script(
        HUGGING_FACE % "num_train_epochs=30, save_strategy='no'",
        steps=lambda processes: 30 * math.ceil(count_batches(ROWS, processes) / 2),
    ),
    "Hugging Face, steps": Script(
        HUGGING_FACE % "max_steps=3_000, save_strategy='no'", steps=lambda _: 3_000
    ),
    "Accelerate": loop(ACCELERATE),
    "Accelerate, dropped": loop(ACCELERATE, more=", drop_last=True"),
    "Fabric": loop(FABRIC, "DEVICES", "'auto'"),
    "Fabric, -1": loop(FABRIC, "DEVICES", "-1"),
    "DDP": loop(DDP),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trace(text: str) -> JobProfile:

    try:
        return trace_job(load_script(text))
    finally:
        end_process_group()


def write_in(script: Script, devices: int, nodes: int, monkeypatch: pytest.MonkeyPatch) -> JobProfile:
    """Return the profile of a script that says so many devices, or is told so by the variables of its launcher."""
    if script.write:
        number = str(devices) if nodes == 1 else f"{devices}, num_nodes={nodes}"
        return trace(script.text.replace(script.write, number))
    if script.steps is None:
        monkeypatch.setenv("WORLD_SIZE", str(devices * nodes))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(devices))
        return trace(script.text)
    world = devices * nodes
    own = trace(script.text)
    update = {"optimizer_steps": script.steps(world), "validation_batches": 0, "epoch": None, "epochs": None}
    strategy = own.parallel.strategy if world == 1 else "ddp"
    return own.model_copy(
        update={
            "plan": own.plan.model_copy(update=update),
            "batch": own.batch.model_copy(update={"scales": "fixed"}),
            "parallel": own.parallel.model_copy(update={"devices": devices, "num_nodes": nodes, "strategy": strategy}),
        }
    )  # fmt: skip


def list_prices(
    profile: JobProfile, devices: int, nodes: int, **limits: object
) -> dict[tuple[object, ...], object]:
    """Return dollars and hours of each machine with so many devices that uses all of them."""
    request = Request(constraints=Constraints.model_validate({"max_nodes": nodes, **limits}), limit=200)
    answer = rank(profile, MACHINES, request)
    return {
        (option.instance_type, option.nodes): price_of(option)
        for option in answer.options
        if (option.accelerator_count, option.nodes) == (devices, nodes) and is_whole(option)
    }


def is_whole(option: Option) -> bool:
    return option.trainer is not None and option.trainer.devices == option.accelerator_count


def price_of(option: Option) -> tuple[object, ...]:
    return (
        round(option.run_usd.mid, 2), round(option.run_usd.high_80, 2), option.run_hours, option.optimizer_steps,
        option.global_batch_size, option.micro_batch_size, option.accumulate_grad_batches,
    )  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_answer_is_that_of_the_number_written_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = SCRIPTS[name]
    follows = trace(script.text.replace(script.write, script.asked) if script.write else script.text)
    assert follows.batch.scales == "per_device"
    if script.steps is not None:  # what is counted of the training itself
        plan = follows.plan.epoch
        assert plan is not None
        follows = follows.model_copy(
            update={
                "plan": follows.plan.model_copy(
                    update={
                        "epoch": plan.model_copy(update={"validation_batches": 0}),
                        "validation_batches": 0,
                    }
                )
            }
        )
    for devices, nodes in DEVICES:
        if (
            nodes > 1
            and script.write
            and not script.text.startswith("\nimport torch\nfrom torch import nn\n")
        ):
            continue  # Lightning's "auto" means the devices of one machine
        with monkeypatch.context() as environment:
            written = write_in(script, devices, nodes, environment)
        launched = launch_on(follows, devices, nodes)
        own = list_prices(written, devices, nodes)
        assert own
        assert list_prices(launched, devices, nodes) == own, (devices, nodes)
        assert list_prices(follows, devices, nodes) == own, (devices, nodes)
