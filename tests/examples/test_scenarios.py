"""The page of worked scenarios is what the script writes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from builders import lightning_modules
from builders.cli import run_python
from builders.scripts import load_script
from trainfare.fake_step import read_profile, trace_job
from trainfare_core.batch_scaling import launch_on

TOP = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.sources, *lightning_modules.quiet]


def test_the_page_is_what_the_commands_print() -> None:
    """Each command prints the screen that the page shows, and each answer agrees with its check by hand."""
    run_python(TOP / "scripts" / "write_scenarios.py", "--check", check=True)


def test_there_are_enough_scenarios() -> None:
    """At least twenty-eight, each with a command, a screen of at most 24 lines and a check by hand."""
    sections = (TOP / "docs" / "scenarios.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(sections) >= 28
    for section in sections:
        screen = section.split("```console\n$ trainfare recommend ")[1].split("```")[0]
        assert 3 < len(screen.splitlines()) - 1 <= 24, section
        assert "\nBy hand: " in section


@pytest.mark.parametrize(
    ("kept", "words"),
    [("imagenet-auto", "epochs"), ("diffusion-steps", "steps"), ("diffusion-stream", "stream")],
)
def test_a_kept_profile_is_that_of_its_script(
    kept: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Lightning scripts whose batch follows the devices: the same work, batch, length and devices are traced."""
    shown = read_profile(str(TOP / "docs" / "examples" / f"{kept}.json"))
    text = (TOP / "examples" / "scale_lightning.py").read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(str(TOP / "examples"))
    monkeypatch.chdir(tmp_path)
    traced = trace_job(load_script(text, arguments=(words,)))
    assert traced.with_loader_time(None).batch == shown.batch
    assert shown.batch.scales == "per_device"
    assert (traced.plan, traced.parallel, traced.precision) == (shown.plan, shown.parallel, shown.precision)
    assert traced.step_flops == shown.step_flops


@pytest.mark.parametrize(
    ("kept", "devices", "nodes", "samples", "epochs", "batch"),
    [("huggingface-250m", 8, 1, 52_000, 3, 64), ("accelerate-vit", 8, 2, 1_281_167, 30, 512)],
)
def test_a_launched_script_trains_as_its_launcher_says(
    kept: str, devices: int, nodes: int, samples: int, epochs: int, batch: int
) -> None:
    """Steps by hand: a device has its share of the samples of an epoch, in the script's batches."""
    profile = read_profile(str(TOP / "docs" / "examples" / f"{kept}.json"))
    assert profile.batch.scales == "per_device"
    launched = launch_on(profile, devices, nodes)
    assert launched.global_samples_per_step == batch
    assert launched.plan.optimizer_steps == epochs * math.ceil(samples / batch)
