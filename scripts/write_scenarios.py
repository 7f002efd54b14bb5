"""
Write docs/scenarios.md: worked scenarios, each with its command, its first screen and a check by hand.

    python scripts/write_scenarios.py            # with today's date for the ages
    python scripts/write_scenarios.py --check    # exit 1 if the page differs from what the commands print

The check counts ages to the date in the page, so that its result does not depend on the day. Each check by hand is
computed here from the profile, the price of an hour and the time of a step, and is an error where it is not what the
answer says.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from trainfare_core.number_format import percent

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Option, Recommendation

TOP = Path(__file__).resolve().parents[1]
PAGE = TOP / "docs" / "scenarios.md"
COUNTED_TO = re.compile(r"Ages are counted to (\d{4}-\d{2}-\d{2})")

WIDTH = 140
"""Characters of a line of prose."""
AGREEMENT = 0.005
"""Relative difference at which a check by hand is an error: its figures are rounded to three digits. A "
"chosen value."""


SCENARIOS: list[dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("scenarios.toml").read_text(encoding="utf-8")
)["scenario"]
"""Each with a question, the arguments of `trainfare recommend`, and what to notice in the answer."""


def page(as_of: str) -> str:
    """Return the page, ages counted to `as_of` (YYYY-MM-DD)."""
    parts = [
        "# Worked scenarios\n",
        _wrap(
            "Written by `python scripts/write_scenarios.py`, which runs each command on the shipped prices and "
            "checks the answer by hand: "
            "steps x time of a step, start-up and the rest, times the price of an hour, and how much of the "
            "accelerators' peak the "
            "predicted step would use. The profiles are traced from `examples/llama_7b.py`, "
            "`examples/scenario_jobs.py` and the scripts `examples/scale_*.py`."
        ),
        "",
        f"Ages are counted to {as_of}.\n",
    ]
    for number, scenario in enumerate(SCENARIOS, start=1):
        command, printed, by_hand = answer_scenario(scenario["arguments"], as_of)
        parts.append(
            f"## {number}. {scenario['title']}\n\n{_wrap(scenario['notice'])}\n\n```console\n$ "
            f"{command}\n{printed}```\n\n{_wrap(f'By hand: {by_hand}')}\n"
        )
    return "\n".join(parts)


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def answer_scenario(text: str, as_of: str) -> tuple[str, str, str]:
    """Return the command with these arguments, what it prints, and the check by hand."""
    from trainfare.cli import main
    from trainfare_core.recommendation import Recommendation

    arguments = ["recommend", *shlex.split(text)]
    texts: list[str] = []
    for output in ("table", "json"):
        printed = io.StringIO()
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(SystemExit),
        ):
            main([*arguments, "--as-of", as_of, "--format", output])
        texts.append(printed.getvalue())
    by_hand = check_by_hand(Recommendation.from_json(texts[1]), TOP / arguments[1])
    return f"trainfare {' '.join(arguments)}", texts[0], by_hand


def check_by_hand(answer: Recommendation, path: Path) -> str:
    """Return the check by hand of the first option, or of the first alternative where there is none."""
    from trainfare.fake_step import read_profile
    from trainfare.report.wording import usd
    from trainfare_core.hardware.accelerators import resolve_device
    from trainfare_core.variants import find_compute_type

    profile = read_profile(str(path))
    option = answer.best(answer.objective) or next(iter(answer.options), None)
    if option is None and answer.alternatives:
        option = answer.alternatives[0].option
    steps = None if option is None or option.optimizer_steps is None else round(option.optimizer_steps)
    if option is None or steps is None:
        return f"nothing is ranked: {answer.no_spot_because or answer.unknown_because}."
    step_s, rate = option.step_s.mid, option.usd_per_hour
    training_hours = steps * step_s / 3600
    parts = option.cost_parts
    beside = ("startup", "staging", "validation", "checkpoint", "interruption", "rounding")
    beside_hours = sum(getattr(parts, f"{name}_usd") for name in beside) / rate
    once_usd = parts.transfer_usd + parts.object_storage_usd + parts.model_usd
    paid_usd = (training_hours + beside_hours) * rate + parts.storage_usd + once_usd
    if abs(paid_usd / option.run_usd.mid - 1) > AGREEMENT:
        sys.exit(f"{path.name}: {paid_usd:.2f} USD by hand, {option.run_usd.mid:.2f} in the answer")
    trainer = option.trainer
    devices = (
        int(option.nodes * option.accelerator_count)
        if trainer is None
        else trainer.devices * trainer.num_nodes
    )
    batch, of_device = option.global_batch_size, profile.batch.samples_per_step
    flops = profile.step_flops * (batch / of_device if batch and of_device else profile.parallel.world_size)
    device = resolve_device(option.accelerator)
    per_device = flops / step_s / devices
    dtype = find_compute_type(profile.precision if trainer is None else trainer.precision) or "fp32"
    peak = None if device is None else device.peak_flops_per_s(dtype)
    used = f", {percent(per_device / peak)} of its dense {dtype} peak" if peak else ""
    which = "" if answer.options else "of the first run below the reason, "
    return (
        f"{which}{steps:,} steps of {step_s:.4g} s are {training_hours:,.4g} h; start-up, copies, validation, "
        f"checkpoints, interruptions and billing steps add {beside_hours:.3g} h; at {usd(rate)} an hour with "
        f"{usd(parts.storage_usd)} of disks, {usd(parts.transfer_usd)} of transfer, {usd(parts.object_storage_usd)} of "
        f"object storage and {usd(parts.model_usd)} for the way of the model that is "
        f"{usd(paid_usd)}. A step has {flops:.3g} FLOP: "
        f"{per_device / 1e12:,.3g} TFLOP/s on each of {devices} {option.accelerator}{used}.{split(option, profile)}"
    )


def split(option: Option, profile: JobProfile) -> str:
    """Return the samples per step of a plan that splits the model and its states per device, calculated by hand."""
    parts = option.model_split
    if parts is None or option.micro_batch_size is None:
        return ""
    samples = option.micro_batch_size * option.accumulate_grad_batches * parts.replicas
    if samples != profile.global_samples_per_step:
        sys.exit(f"{samples} samples a step by hand, {profile.global_samples_per_step} in the profile")
    within = parts.tensor * parts.pipeline
    held_bytes = (profile.parameter_bytes + profile.memory.gradient_bytes) / within
    state_bytes = profile.optimizer.state_bytes / (within * parts.replicas)
    held_gib = (held_bytes + state_bytes) / 2**30
    if not held_gib < option.memory_gib.mid < option.device_memory_gib:
        sys.exit(f"{held_gib:.3g} GiB by hand, {option.memory_gib.mid:.3g} in the answer")
    return (
        f" {parts.replicas} replicas of {option.accumulate_grad_batches} micro-batches of {option.micro_batch_size} "
        f"are {samples} samples a step; a device holds 1/{within} of weights and gradients and "
        f"1/{within * parts.replicas} of the optimizer's state, {held_gib:.3g} GiB of the {option.memory_gib.mid:.3g} "
        "that are expected with activations and the rest."
    )


def main() -> None:
    """Rewrite the page, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    os.chdir(TOP)
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    dated = COUNTED_TO.search(text)
    today = datetime.now(tz=timezone.utc).date().isoformat()
    fresh = page(dated[1] if arguments.check and dated else today)
    if not arguments.check:
        PAGE.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        sys.exit(
            "docs/scenarios.md does not show what the commands print: run python scripts/write_scenarios.py"
        )


if __name__ == "__main__":
    main()
