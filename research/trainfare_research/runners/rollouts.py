"""
Score the phases of a step of reinforcement learning on published steps, whole sources left out.

    python -m trainfare_research.runners.rollouts [--no-training] [--json FILE]

Generation is predicted by the product's own model, from the published model, batch, mean length and cap. Updates and
forward passes are predicted where the product knows the machine, as one optimizer step with FSDP on packed sequences.
Two intervals are scored. The product's own has no factor. The fitted one has a factor (the median of the
other sources' medians) and a width (of their medians around it and of their rows around those, for one more source).
Nothing of a source is in what it is scored with. The first fitted width took the normal quantile, and 67 % of the rows
of generation were inside; Student's, which few sources ask for, was the second and last try, made with that in sight.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.stats import t as student

from trainfare.estimate import EstimateRequest
from trainfare.estimate.profile import estimate_profile
from trainfare_core.errors import CannotTellError
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict_machine
from trainfare_core.prediction.rollout.generation import (
    VLLM_STEP_S,
    VLLM_WORKSPACE_BYTES,
    Policy,
    Replicas,
    time_generation,
)
from trainfare_core.prediction.rollout.lengths import CompletionLengths
from trainfare_core.prediction.rollout.phases import CHOSEN_SIGMA
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.workloads.rollouts import (
    PublishedDevice,
    PublishedModel,
    PublishedStep,
    read_devices,
    read_models,
    read_steps,
)

_SHORTEST_TOKENS: Final = 1.0
_DEVICES_A_MACHINE: Final = 8
_NETWORK_GBIT_PER_S: Final = 3200.0
"""Between machines of 8 GPUs, where a row has several. Chosen: no row says."""
_LEAST_HALF: Final = 0.06
"""Of ln(time): two sources that agree by chance do not make an interval of no width."""


@dataclass(frozen=True, slots=True)
class PhaseError:
    """One published phase beside its prediction."""

    row: str
    source: str
    phase: str
    published_s: float
    predicted_s: float
    own_half_80: float
    """Half of the central 80 % of ln(time) that the product gives."""

    @property
    def log_ratio(self) -> float:
        """ln(published / predicted)."""
        return math.log(self.published_s / self.predicted_s)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How one interval did on the rows of sources that it has not seen."""

    interval: str
    rows: int
    sources: int
    inside_share: float
    median_factor: float
    """Of the error of a row, after the interval's factor: 1.2 is 20 % off."""


def lengths_of(mean_tokens: float, cap_tokens: int) -> CompletionLengths:
    """
    Return the product's distribution with a published mean and cap; a mean near the cap gives a narrow one.

    >>> lengths = lengths_of(1350, 8192)
    >>> round(lengths.mean_tokens), lengths.high_tokens
    (1350, 8192)
    """
    low, high = _SHORTEST_TOKENS, float(cap_tokens)
    for _ in range(100):  # halves the range of ln(shortest): the mean rises with it
        middle = math.sqrt(low * high)
        if CompletionLengths(middle, cap_tokens).mean_tokens < mean_tokens:
            low = middle
        else:
            high = middle
    return CompletionLengths(low, cap_tokens)


def predict_generation_s(step: PublishedStep, model: PublishedModel, device: PublishedDevice) -> float:
    """Return what the product predicts for the generation of a row, without any factor."""
    copies = step.generating_devices / step.tensor_parallel
    group = step.tensor_parallel
    policy = Policy(2.0 * model.parameters, 2.0 * model.parameters, model.kv_bytes_per_token)
    memory_bytes = group * (step.memory_share * device.memory_bytes - VLLM_WORKSPACE_BYTES)
    lengths = lengths_of(step.mean_completion_tokens, step.cap_tokens)
    if step.most_sequences:
        cached_bytes = policy.kv_bytes_per_token * (step.prompt_tokens + lengths.mean_tokens)
        memory_bytes = min(memory_bytes, policy.weights_bytes + (step.most_sequences + 0.5) * cached_bytes)

    def column(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([value], dtype=np.float64)

    generation = time_generation(
        policy,
        step.prompt_tokens,
        lengths,
        Replicas(
            sequences=column(math.ceil(step.sequences / copies)),
            prompts=column(math.ceil(step.prompts / copies)),
            memory_bytes=column(memory_bytes),
            bytes_per_s=column(group * device.bytes_per_s),
            flops_per_s=column(group * device.flops_per_s),
            host_s=column(VLLM_STEP_S),
        ),
        continuous=True,
    )
    return float(generation.prefill_s[0] + generation.decode_s[0])


def trace_step(step: PublishedStep, model: PublishedModel) -> JobProfile:
    """Return the profile of one update on all completions of a row, packed to their mean length."""
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "vocab_size", "tie_word_embeddings",
    )  # fmt: skip
    config = {"architectures": [model.architecture], "model_type": "qwen3"}
    sizes = {name: getattr(model, name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({**config, **sizes}), encoding="utf-8")
        seq = step.prompt_tokens + round(step.mean_completion_tokens)
        return estimate_profile(
            EstimateRequest(
                model=str(path), samples=step.sequences, seq=seq, batch=step.sequences, micro_batch=1,
                precision="bf16-mixed", recompute=True,
            )
        )  # fmt: skip


def predict_training(step: PublishedStep, profile: JobProfile, device: str) -> tuple[float, float, float]:
    """Return seconds of one update on all completions, of a forward pass over them, and half of their 80 % of ln."""
    machines = max(1, step.training_devices // _DEVICES_A_MACHINE)
    per_machine = step.training_devices // machines
    network = _NETWORK_GBIT_PER_S if machines > 1 else None
    answer = predict_machine(profile, device, per_machine, machines, "fsdp", network_gbit_per_s=network)
    forward = sum(g.flops for g in profile.operations if g.phase == "forward" and not g.recomputed)
    parts = answer.parts
    computed_s = parts.compute_bound_s + parts.memory_bound_s + parts.launch_s
    half = math.log(answer.step_s.high_80 / answer.step_s.mid)
    return answer.step_s.mid, computed_s * forward / profile.step_flops, half


def list_errors(steps: Sequence[PublishedStep], *, training: bool = True) -> list[PhaseError]:
    """
    Return every published phase beside its prediction.

    Args:
        steps: rows of the table.
        training: whether updates and forward passes are predicted too, which traces each model.
    """
    models = {model.model: model for model in read_models()}
    devices = {device.machine: device for device in read_devices()}
    errors: list[PhaseError] = []
    for step in steps:
        model, device = models[step.model], devices[step.machine]
        predicted_s = predict_generation_s(step, model, device)
        errors.append(
            PhaseError(step.id, step.source, "generation", step.generation_s, predicted_s, Z80 * CHOSEN_SIGMA)
        )
        trainer = devices[step.training_machine].catalogue
        if not training or not trainer or not step.training_devices or step.update_s is None:
            continue
        try:
            update_s, forward_s, half = predict_training(step, trace_step(step, model), trainer)
        except CannotTellError as error:  # a batch that the devices cannot share
            print(f"{step.id}: no prediction of its update: {error}", file=sys.stderr)
            continue
        errors.append(PhaseError(step.id, step.source, "update", step.update_s, update_s, half))
        if step.scoring_s is not None:
            scored_s = step.scored_models * forward_s
            errors.append(PhaseError(step.id, step.source, "scoring", step.scoring_s, scored_s, half))
    return errors


def fit_interval(errors: Sequence[PhaseError]) -> tuple[float, float]:
    """
    Return the factor, and half of the central 80 % of ln(time) for one more source, a source a vote.

    The quantile is Student's, with a degree of freedom less than sources: a spread that few sources give is uncertain.
    """
    by_source: dict[str, list[float]] = {}
    for error in errors:
        by_source.setdefault(error.source, []).append(error.log_ratio)
    medians = np.array([np.median(ratios) for ratios in by_source.values()])
    count = len(medians)
    within = np.mean(
        [np.mean((np.array(r) - m) ** 2) for r, m in zip(by_source.values(), medians, strict=True)]
    )
    center = float(np.median(medians))
    between = float(((medians - center) ** 2).sum()) / max(count - 1, 1)
    sigma = math.sqrt(between * (1 + 1 / count) + float(within))
    return math.exp(center), max(float(student.ppf(0.9, max(count - 1, 1))) * sigma, _LEAST_HALF)


def score_left_out(errors: Sequence[PhaseError], phase: str, *, own: bool) -> Coverage:
    """
    Return how an interval does on each source, fitted on the others.

    Args:
        errors: of all phases.
        phase: which is scored.
        own: the interval that the product gives, without a factor; else a fitted one.
    """
    rows = [error for error in errors if error.phase == phase]
    sources = sorted({error.source for error in rows})
    left: list[float] = []
    inside = 0
    for source in sources:
        others = [error for error in rows if error.source != source]
        factor, fitted = (1.0, 0.0) if own else fit_interval(others)
        for error in rows:
            if error.source == source:
                off = error.log_ratio - math.log(factor)
                left.append(abs(off))
                inside += abs(off) <= (error.own_half_80 if own else fitted)
    name = "the product's own" if own else "fitted on other sources"
    share = inside / max(len(left), 1)
    return Coverage(name, len(left), len(sources), share, math.exp(float(np.median(left))))


def main(argv: Sequence[str] | None = None) -> None:
    """Print every row, and the coverage of both intervals by phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-training", action="store_true", help="score generation alone, without a trace")
    parser.add_argument("--json", type=Path, help="write rows and scores to this file")
    options = parser.parse_args(argv)
    errors = list_errors(read_steps(), training=not options.no_training)
    for error in errors:
        ratio = math.exp(error.log_ratio)
        print(
            f"{error.row:20} {error.phase:11} {error.published_s:8.1f} {error.predicted_s:8.1f} {ratio:6.2f}"
        )
    phases = [phase for phase in ("generation", "scoring", "update") if any(e.phase == phase for e in errors)]
    scores = {phase: [score_left_out(errors, phase, own=own) for own in (True, False)] for phase in phases}
    for phase, coverages in scores.items():
        for coverage in coverages:
            print(
                f"{phase}, {coverage.interval}: {coverage.inside_share:.0%} of {coverage.rows} rows of "
                f"{coverage.sources} sources inside, median error a factor of {coverage.median_factor:.2f}"
            )
    if options.json is not None:
        document = {
            "rows": [asdict(error) for error in errors],
            "scores": {phase: [asdict(each) for each in several] for phase, several in scores.items()},
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
