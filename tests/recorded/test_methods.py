"""What the training methods are said to do, for drawn questions, comparisons and pilots; see `builders.recorded`."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np

from builders.profiles import gpt_profile, profile
from builders.recommendations import costs, interval, option
from builders.recorded import answer_or_error, compare_with_recorded
from trainfare_core.job_profile import ParameterGroup
from trainfare_core.methods.amounts import amount_of
from trainfare_core.methods.answer import MethodsAnswer
from trainfare_core.methods.choice import advantage
from trainfare_core.methods.curves import CurvePoint, LearningCurve, Metric
from trainfare_core.methods.draws import Found, Priced, ReachedBy
from trainfare_core.methods.knobs import Variant, best_variant, eight_bit_adam, fp8_line, knob_lines
from trainfare_core.methods.laws import bit_steps, chinchilla_draws, distinct_tokens, tokens_for_repeats
from trainfare_core.methods.lines import answer_of
from trainfare_core.methods.methods import METHOD_NAMES, METHODS
from trainfare_core.methods.pilots import predict_reached, read_pilots, sentences, steps_to
from trainfare_core.methods.prior import find_needed_step_ratio, is_starved, lora_over_capacity, prior
from trainfare_core.methods.question import Question
from trainfare_core.methods.situation import DOMAINS, Situation, metric_kind, tokens_seen

METRICS = (
    "quality", "accuracy", "top1", "val_loss", "perplexity", "forgetting", "humaneval_pass1", "mask_AP", "wer",
)  # fmt: skip


def draw_situation(draws: random.Random) -> Situation:
    """Draw a situation; sizes and schedules lie on and beside the limits of the rules."""
    return Situation(
        domain=draws.choice([*DOMAINS, "audio-tagging"]),
        offered=METHOD_NAMES,
        samples=draws.choice([None, 800.0, 5000.0, 5001.0, 10_000.0, 10_001.0, 4e5, 1e8]),
        metric=draws.choice(["task", "task", "loss", "conserve"]),
        tokens=draws.choice([None, None, 8.4e7, 8.5e7, 2e9]),
        scratch_epochs=draws.choice([None, 12.0, 49.0, 50.0, 59.0, 60.0, 300.0]),
        scratch_step_ratio=draws.choice([None, 1.9, 2.0, 3.7, 17.0]),
        lora_parameters=draws.choice([None, 4.2e7, 1e9]),
        parameters=draws.choice([None, 1e7, 1e9, 8e9]),
    )


def test_the_rules_and_comparisons_of_drawn_situations() -> None:
    draws, answers = random.Random(1), {}
    for index in range(140):
        situation = draw_situation(draws)
        first, second = draws.sample(METHOD_NAMES, 2)
        expected, edge = prior(situation, first, second), advantage(situation, first, second)
        answers[f"{index} {first} over {second} {situation}"] = {
            "rule": expected,
            "better": edge.p_better,
            "quantiles": [edge.quantile_pct(share) for share in (0.1, 0.5, 0.9)],
            "analogs": edge.analogs,
            "sources": len(edge.sources),
            "tokens": tokens_seen(situation),
            "flags": [lora_over_capacity(situation), is_starved(situation)],
            "ratio": find_needed_step_ratio(situation),
        }
    for metric in METRICS:
        answers[metric] = metric_kind(metric)
    compare_with_recorded("methods_comparisons", answers)


def test_the_laws() -> None:
    answers: dict[str, Any] = {
        "bit steps": [bit_steps(size) for size in (100, 19_999, 20_000, 499_999, 500_000, 1e7)],
        "distinct": [
            distinct_tokens(unique, seen)
            for unique, seen in itertools.product((1e6, 3e9), (5e5, 1e6, 4e6, 1e9, 1e12))
        ],
        "repeats": tokens_for_repeats(1e9, np.array([5e8, 1e9, 1.001e9, 8e9, 1.6e10, 1.639e10, 1.7e10])),
    }
    for normals in (np.zeros((1, 3)), np.random.default_rng(3).standard_normal((40, 3))):
        law = chinchilla_draws(normals)
        answers[f"law {len(normals)}"] = law
        for parameters, tokens, loss in (
            (7e7, 5e9, 3.2),
            (1e9, 2e10, 2.5),
            (1.6e10, 5e11, 2.0),
            (1e8, 1e9, 1.5),
        ):
            answers[f"law {len(normals)} {parameters:g}"] = [
                law.loss_nats(parameters, tokens),
                law.tokens_to(loss, parameters),
                law.binding_term(loss, parameters),
            ]
    compare_with_recorded("methods_laws", answers)


def draw_question(draws: random.Random) -> Question:
    """Draw a question that any method may answer."""
    metric = draws.choice(METRICS)
    known, target = {
        "accuracy": (0.9, draws.choice([0.7, 0.895, 0.95])),
        "top1": (90.0, draws.choice([80.0, 89.0, 99.0])),
    }.get(metric, (2.6, draws.choice([2.0, 2.5, 3.0])))
    fields: dict[str, Any] = {
        "domain": draws.choice(["vision-cls", "vision-det", "nlp-glue", "nlp-nlg", "llm-ift", "llm-cpt", "llm-pt", "audio"]),
        "samples": draws.choice([900.0, 5000.0, 60_000.0, 1.5e6]),
        "tokens_per_sample": draws.choice([None, 50.0, 1024.0]),
        "checkpoint": draws.choice(["none", "same", "related", "unknown"]),
        "metric": metric,
        "known_value": draws.choice([None, known, known]),
        "target_value": draws.choice([None, target]),
        "known_strategy": draws.choice(["full_finetune", "full_finetune", "lora", "linear_probe"]),
        "epochs": draws.choice([None, 3.0, 30.0]),
        "cache_features": draws.random() < 0.3,
        "learning_rate_trials": draws.choice([1, 1, 3]),
        "max_usd": draws.choice([None, 8.0, 30.0]),
        "deadline_hours": draws.choice([None, 4.0, 20.0]),
        "within_pct": draws.choice([0.5, 1.0, 4.0]),
        "confidence": draws.choice([0.5, 0.9]),
    }  # fmt: skip
    return Question(**fields)


def answer(question: Question, draws: random.Random) -> MethodsAnswer:
    """Answer a question about the methods that it allows, at drawn prices."""
    excluded = question.impossible()
    entries: list[Found] = []
    for method in METHOD_NAMES:
        usd, layers = draws.choice([3.0, 9.0, 10.0, 170.0]), draws.choice([1, 12])
        amount = amount_of(question, method, draws.choice([None, 1e5]))
        if method in excluded or amount is None or draws.random() < 0.15:
            entries.append(Found(method, impossible_because=excluded.get(method)))
            continue
        parts = costs(usd).model_copy(update={"startup_usd": draws.choice([0.0, 0.02, 0.3])})
        machine = option(usd=usd, hours=usd / draws.choice([1, 2]), cost_parts=parts)
        entries.append(Priced(method, profile=gpt_profile(layers=layers), amount=amount, option=machine))
    pilots = {
        entry.strategy: ReachedBy(draws.gauss(-0.1, 0.05), draws.choice([0.01, 0.05]))
        for entry in entries
        if isinstance(entry, Priced) and draws.random() < 0.2
    }
    return answer_of(question, entries, name="job", tool_version="0", pilots=pilots)


def test_the_answers_to_drawn_questions() -> None:
    draws = random.Random(2)
    answers: dict[str, Any] = {}
    for index in range(50):
        question = draw_question(draws)
        document = answer(question, draws).model_dump(exclude_none=True)
        for line in document["lines"]:
            line.pop("machine", None)  # what a machine costs is given
        answers[str(index)] = {
            name: document[name] for name in document if name not in ("question", "tool_version")
        }
        answers[f"{index} amounts"] = [amount_of(question, method) for method in METHOD_NAMES]
    for index, (target, samples, each) in enumerate(
        itertools.product((1.8, 2.0, 2.7, 3.3, 4.5), (2e5, 1e7), (64.0, 1024.0))
    ):
        question = Question(
            domain=("llm-pt", "llm-cpt")[index % 2], metric="val_loss", checkpoint="none", samples=samples, tokens_per_sample=each, target_value=target,
        )  # fmt: skip
        entries: list[Found] = [
            Found(method, impossible_because="no checkpoint") for method in METHOD_NAMES[:-1]
        ]
        amount = amount_of(question, "scratch", 1e5)
        model = gpt_profile(layers=(1, 12, 40)[index % 3], width=(64, 768, 2048)[index % 3])
        entries.append(
            Priced(
                "scratch",
                profile=model,
                amount=amount,
                option=option(usd=(0.0, 100.0)[index % 2], hours=50.0),
            )
        )
        said = answer_of(question, entries, name="job", tool_version="0").model_dump(exclude_none=True)
        answers[f"law {index}"] = [
            said["kind"],
            said["sentence"],
            said["doubts"],
            *(line.get("samples") for line in said["lines"]),
            said["assumptions"],
        ]
    packed = gpt_profile().model_copy(
        update={
            "parameters": (
                ParameterGroup(dtype="int8", trainable=False, count=10**8, parameter_bytes=10**8),
                ParameterGroup(dtype="fp32", trainable=True, count=10**6, parameter_bytes=4 * 10**6),
            )
        }
    )
    amount = amount_of(Question(domain="llm-ift", samples=1e4), "qlora")
    for method in ("qlora", "lora"):
        priced = Priced(method, profile=packed, amount=amount, option=option())
        answers[f"packed {method}"] = (
            answer_of(Question(domain="llm-ift"), [priced], name="job", tool_version="0").lines[0].traced
        )
    compare_with_recorded("methods_answers", answers)


def draw_curve(draws: random.Random, metric: str) -> LearningCurve:
    """Draw a curve of a run that ended somewhere in its schedule, smooth or with a peak."""
    planned, ends = 1000, draws.choice([100, 190, 200, 400, 490, 500, 700, 970, 980, 1000])
    count, level, noise = draws.choice([1, 4, 5, 12]), draws.uniform(0.6, 1.5), draws.choice([0.0, 0.02, 0.3])
    points = []
    for index in range(1, count + 1):
        step = max(1, ends * index // count)
        loss = level * (1 + step / 40) ** -0.3 * (1 + noise * draws.uniform(-1, 1))
        value = 1 - 0.4 * loss if metric == "val_accuracy" else loss
        points.append(
            CurvePoint(
                step=step,
                metrics=(Metric(name=metric, value=value),),
                train_loss=draws.choice([None, loss]),
                learning_rate=draws.choice([1e-3, 1e-3, 3e-3]),
            )
        )
    return LearningCurve(
        tool_version="0", name="run", trainable_parameters=1, parameters=1, samples_per_step=8,
        planned_steps=draws.choice([planned, planned, planned, None]),
        train_samples=draws.choice([None, 80, 790, 800, 7600, 7700, 8000, 8000]), points=tuple(points),
    )  # fmt: skip


def test_the_ends_of_drawn_pilots() -> None:
    draws, answers = random.Random(3), {}
    for index in range(90):
        metric = draws.choice(["val_loss", "val_accuracy"])
        curves = {
            method: [draw_curve(draws, metric) for _ in range(draws.choice([1, 2, 4]))]
            for method in draws.sample(METHOD_NAMES, draws.choice([1, 2, 3]))
        }
        question = Question(
            metric=metric,
            direction="max" if metric == "val_accuracy" else "min",
            samples=draws.choice([None, 8000.0, 8000.0, 80_000.0, 8e5, 8.1e5]),
            target_value=draws.choice([None, 0.5, 0.8]),
        )
        report = read_pilots(curves, question, tool_version="0")
        answers[str(index)] = [
            report.common_step, report.lines, report.notes, predict_reached(report), sentences(report),
        ]  # fmt: skip
    series = [(10, 2.0), (100, 1.0), (400, 1.0), (1000, 1.5), (1500, 0.25)]
    for target in (2.5, 2.0, 1.9, 1.0, 0.9, 0.25, 0.2):
        answers[f"steps to {target}"] = [
            steps_to(series, target, higher_is_better=False),
            steps_to([(step, 3 - value) for step, value in series], 3 - target, higher_is_better=True),
        ]
    compare_with_recorded("methods_pilots", answers)


def test_the_settings_of_drawn_runs() -> None:
    answers: dict[str, Any] = {}
    jobs = {
        "resnet": profile(),
        "gpt": gpt_profile(),
        "3b": gpt_profile(layers=26, width=3072, heads=24),
        "8b": gpt_profile(layers=32, width=4096, heads=32),
        "8b fp32": gpt_profile(layers=32, width=4096, heads=32, dtype="fp32"),
    }
    for (name, job), chip in itertools.product(jobs.items(), ("H100-SXM-80GB", "L40S-48GB", "A100-SXM-80GB")):
        for micro, accumulate, sharding, step_s in (
            (8, 1, "none", 0.5),
            (1, 8, "ddp", 20.0),
            (None, 1, "fsdp", 5.0),
        ):
            machine = option(
                accelerator=chip, micro_batch_size=micro, accumulate_grad_batches=accumulate, sharding=sharding,
                step_s=interval(step_s),
            )  # fmt: skip
            plain = Variant(job, ("recompute the blocks in backward",))
            answers[f"{name} {chip} {micro}"] = [fp8_line(job, machine), knob_lines(plain, machine)]
    for name, job in jobs.items():
        small = eight_bit_adam(Variant(job, ()))
        answers[f"{name} in 8 bits"] = small and [
            small.profile.optimizer, small.profile.plan.checkpoint_bytes, small.knobs, small.needs_nvidia,
        ]  # fmt: skip
    for usd in (9.69, 9.7, 9.71):
        pair = [(Variant(jobs["gpt"], ("x",)), option(usd=usd)), (Variant(jobs["gpt"], ()), option(usd=10.0))]
        best = answer_or_error(lambda pair=pair: best_variant(pair))
        answers[f"at {usd}"] = best[0].knobs
    answers["methods"] = dict(METHODS)
    compare_with_recorded("methods_settings", answers)
