"""A training loop that is not Lightning's is measured and traced through the same two doors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
TOP = TESTS.parent

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from builders.plain_loop import PlainLoop, PlainModule, SAMPLES, make_batch
from trainfare import TrainingJob, trace_job
from trainfare.loops import register_loop
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings

def fail(error):
    raise error

profiles, lines = [], []
services = replace(
    MeterServices(),
    say=lines.append,
    recommend=lambda profile, settings: profiles.append(profile) or SimpleNamespace(options=()),
    write_reports=lambda *_: (),
    show=lambda *_: None,
    markdown=lambda *_: "",
)
folder = Path(sys.argv[1])
settings = MeterSettings(warmup_steps=2, measure_steps=10)
PlainLoop(PlainModule(), folder).train(FitMeter(settings, services, fail))
register_loop("builders.plain_loop")
job = TrainingJob(
    module=PlainModule, batch=make_batch, batch_size=SAMPLES, max_steps=24, precision="32-true"
)
profiles.append(trace_job(job))
print(json.dumps({
    "profiles": [json.loads(profile.to_json()) for profile in profiles],
    "lines": lines,
    "written": sorted(path.name for path in folder.iterdir()),
    "loaded": sorted(name for name in sys.modules if "lightning" in name),
}))
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the loop gave in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path_factory.mktemp("plain"))],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_no_module_of_lightning_is_imported(answer: dict[str, object]) -> None:
    """Neither the framework nor trainfare's own package for it."""
    assert answer["loaded"] == []


def test_a_plain_loop_is_measured(answer: dict[str, object]) -> None:
    measured = answer["profiles"][0]  # type: ignore[index]
    assert (measured["name"], measured["source"]["how"]) == ("PlainModule", "real")
    assert measured["plan"]["optimizer_steps"] == 24
    assert (measured["batch"]["micro_batch_size"], measured["batch"]["samples_per_step"]) == (8, 8)
    times = measured["measured"]
    assert times["steps"] == 10
    assert times["device_kind"] == "cpu"
    assert all(
        times[phase]["median_s"] > 0 for phase in ("step", "data_wait", "forward", "backward", "optimizer")
    )
    assert answer["written"] == ["trainfare-profile.json", "trainfare-status.json"]
    assert any("a step (80 % between" in line for line in answer["lines"])  # type: ignore[union-attr,attr-defined]


def test_the_fake_step_of_a_plain_loop_is_that_of_its_training(answer: dict[str, object]) -> None:
    """Floating-point operations by phase, counted by hand, parameters and optimizer."""
    measured, traced = answer["profiles"]  # type: ignore[misc]
    flops = [
        {
            phase: sum(
                group["flops"]
                for group in one["operations"]
                if group["phase"] == phase and group["kind"] == "matmul"
            )
            for phase in ("forward", "backward")
        }
        for one in (measured, traced)
    ]
    products = 2 * 8 * (16 * 32 + 32 * 4)
    assert flops[0] == flops[1] == {"forward": products, "backward": 2 * products - 2 * 8 * 16 * 32}
    assert traced["source"]["how"] == "fake"
    for part in ("parameters", "optimizer"):
        assert measured[part] == traced[part]
    assert traced["optimizer"]["names"] == ["AdamW"]
