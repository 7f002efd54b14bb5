"""Each example runs as its docstring says, on a CPU and without network."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from builders.cli import run_cli, run_python
from trainfare_core.job_profile import JobProfile

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUIET = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}


def profile_in(folder: Path) -> JobProfile:
    return JobProfile.from_json((folder / "trainfare-profile.json").read_text(encoding="utf-8"))


def test_image_classifier(tmp_path: Path) -> None:
    """The classifier trains, is metered, and leaves a profile and a report of the whole run."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import image_classifier as e; e.main(1, '.')"
    run_python("-c", code, EXAMPLES, cwd=tmp_path, environment=QUIET, check=True)
    profile = profile_in(tmp_path)
    assert profile.plan.optimizer_steps == 47
    assert profile.measured is not None
    assert profile.step_flops > 0
    assert (tmp_path / "trainfare-report.html").stat().st_size > 0


def test_the_same_target_gives_the_same_bytes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """
    The same file answers `recommend` and `check` before launch. Traced and ranked in two processes with other hash seeds,
    time zones and locales, the answer is the same text.
    """
    target = f"{EXAMPLES / 'image_classifier.py'}:job"
    worlds = [
        {"PYTHONHASHSEED": "0", "TZ": "Pacific/Auckland", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "1", "TZ": "America/Los_Angeles", "LC_ALL": "C.UTF-8"},
    ]
    run = partial(run_cli, cwd=tmp_path, check=True)
    outputs = [
        run("recommend", target, "--format", "json", environment={**QUIET, **world}).stdout
        for world in worlds
    ]
    first, second = outputs
    assert first == second
    record_property("{} processes compared in pairs", len(outputs))
    record_property(
        "{} bytes of answers equal in another process, time zone, locale and hash seed", len(first.encode())
    )
    answer = json.loads(first)
    assert answer["job"]["optimizer_steps"] == 47 * 20
    assert {option["provider"] for option in answer["options"]} >= {"aws"}
    run("check", target, "--max-usd", "1000", environment={**QUIET, **worlds[-1]})


def test_lightning_cli(tmp_path: Path) -> None:
    """LightningCLI takes FareMeter from YAML and its arguments from flags."""
    folder = EXAMPLES / "lightning_cli"
    arguments = ["fit", "--config", str(folder / "config.yaml"), "--trainer.callbacks.measure_steps=5"]
    run_python(folder / "train.py", *arguments, cwd=tmp_path, environment=QUIET, check=True)
    measured = profile_in(tmp_path).measured
    assert measured is not None
    assert measured.steps == 5


def test_ddp_on_two_processes(tmp_path: Path) -> None:
    """Two gloo processes train, rank 0 alone writes one profile of a run with two devices."""
    run_python(EXAMPLES / "ddp_two_processes.py", ".", cwd=tmp_path, environment=QUIET, check=True)
    profile = profile_in(tmp_path)
    assert profile.parallel.world_size == 2
    assert profile.plan.optimizer_steps == 24  # 1,500 images, 32 on each of two devices
    assert len(list(tmp_path.glob("trainfare-profile*.json"))) == 1
