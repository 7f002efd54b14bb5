"""Each answer speaks the words of the script's own framework, and none of another's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from builders import huggingface, lightning_modules
from builders import keras as keras_models
from builders.cli import capture_main
from builders.launched_scripts import ACCELERATE, FABRIC, HUGGING_FACE, LOOP
from builders.loop_words import WORDS, find_foreign_words, write_everything
from builders.scripts import load_script
from trainfare import recommend
from trainfare.export import TARGETS, export_plan
from trainfare.fake_step import trace_job
from trainfare.report import report_ranking
from trainfare_core.errors import TargetError, TraceError, TrainfareError
from trainfare_core.job_profile import JobProfile, RunPlan
from trainfare_core.recommendation import Launch, Recommendation

pytestmark = [*lightning_modules.quiet, *huggingface.quiet, *keras_models.quiet]

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
KERAS = """
import keras, torch
from torch.utils.data import DataLoader, TensorDataset
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
model.compile(optimizer="adam", loss="mse")
data = TensorDataset(torch.zeros(1_000, 8), torch.zeros(1_000, 4))
model.fit(DataLoader(data, 16), epochs=6, shuffle=False)
"""
SCRIPTS = {
    "Hugging Face": HUGGING_FACE % "num_train_epochs=3, save_strategy='no'",
    "Keras": KERAS,
    "Accelerate": LOOP.format(set_up=ACCELERATE[0], backward=ACCELERATE[1]),
    "Fabric": LOOP.format(set_up=FABRIC[0].format(devices="'auto'"), backward=FABRIC[1]),
    "": LOOP.format(set_up="", backward="loss.backward()"),
}
READS_A_VALUE = {
    "Hugging Face": (
        SCRIPTS["Hugging Face"].replace(
            "data = [",
            "from functools import wraps\n"
            "inner = model.forward\n"
            "@wraps(inner)\n"
            "def forward(**batch):\n    out = inner(**batch)\n    float(out.loss)\n    return out\n"
            "model.forward = forward\ndata = [",
        ),
        "FareMeter().attach(trainer)",
    ),
    "Keras": (
        KERAS.replace('loss="mse"', "loss=lambda told, given: (given - told).mean() * float(given.sum())"),
        "model.fit(..., callbacks=[FareMeter()])",
    ),
}
EVERYTHING = ("plan", "precision", "checkpointing", "batch", "model-parallel")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def list_strings(value: Any) -> Iterator[str]:
    """Yield the texts of a document; its keys are the schema's."""
    if isinstance(value, dict):
        for inside in value.values():
            yield from list_strings(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from list_strings(inside)
    elif isinstance(value, str):
        yield value


def list_texts(profile: JobProfile, **limits: Any) -> Iterator[tuple[str, str]]:
    """Yield every form of an answer, with what it is."""
    answer = recommend(profile, now=NOW, limit=12, **limits)
    for details in (False, True):
        report = report_ranking(answer, profile, date(2026, 11, 30), details=details)
        for width in (80, 100):
            yield f"{width} columns, details {details}", report.as_terminal(width)
    yield "Markdown", report.as_markdown()
    if not limits.keys() & {"purchase", "deadline_hours"}:  # its charts take a second
        yield "page", re.sub(r"<(script|style|svg).*?</\1>", "", report.as_page(), flags=re.DOTALL)
    yield "JSON", "\n".join(list_strings(json.loads(answer.to_json())))
    yield from list_exports(answer)


def list_exports(answer: Recommendation) -> Iterator[tuple[str, str]]:
    """Yield the files of each target for the plan that it starts: the first, and the first of a TPU."""
    answer = answer.model_copy(update={"launch": Launch(command="train.py")})
    for target, (_, services) in TARGETS.items():
        ranks = {
            option.service == "tpu": option.rank
            for option in reversed(answer.options)
            if not services or services & {option.service, *option.also_services}
        }
        for rank in ranks.values():
            try:
                files = export_plan(answer, target, str(rank), porting=True)
            except TrainfareError as error:
                yield f"{target}, refused", str(error)
            else:
                yield target, "\n".join([files.text, *files.beside.values()])


def lengthen(profile: JobProfile, **plan: Any) -> JobProfile:
    """Return a run so long that its checkpoints matter."""
    return profile.model_copy(update={"plan": RunPlan(optimizer_steps=9_000_000, **plan)})


@pytest.mark.parametrize("framework", SCRIPTS)
def test_an_answer_has_no_other_frameworks_words(framework: str, capsys: pytest.CaptureFixture[str]) -> None:
    traced = trace_job(load_script(SCRIPTS[framework]))
    own = [framework] if framework else []
    said = write_everything(traced.source.loop) if traced.source.loop == "huggingface" else ""
    unsaved = lengthen(traced)
    saving = lengthen(traced, checkpoint_bytes=10**10, checkpoint_every_n_steps=900)
    kinds = set[str]()
    for profile, limits in (
        (unsaved, {}),
        (unsaved, {"purchase": "spot"}),
        (saving, {"purchase": "spot"}),
        (saving, {"deadline_hours": 0.1}),
        (saving, {"allow": EVERYTHING, "objective": "fastest"}),
        (saving, {"services": "tpu"}),
        (saving, {"services": "sagemaker"}),
        (saving, {"services": "azure_ml"}),
    ):
        for kind, text in list_texts(profile, **limits):
            kinds.add(kind)
            assert not find_foreign_words(text, own, said), (kind, limits)
    assert kinds > {*TARGETS, "page", "JSON"}
    Path("job.json").write_text(saving.to_json(), encoding="utf-8")
    Path("base.json").write_text(lengthen(traced, checkpoint_bytes=10**10).to_json(), encoding="utf-8")
    for arguments in (
        ("why", "p5", "job.json"),
        ("why", "TPU-v5p", "job.json"),
        ("check", "job.json", "--base", "base.json", "--max-usd", "0.01", "--format", "markdown"),
        ("check", "job.json", "--max-usd", "9000", "--format", "table"),
    ):
        result = capture_main(capsys, *arguments)
        assert result.stdout, result.stderr
        assert not find_foreign_words(result.stdout + result.stderr, own, said), arguments


@pytest.mark.parametrize("framework", READS_A_VALUE)
def test_a_step_that_cannot_be_traced_is_measured_in_the_scripts_own_words(framework: str) -> None:
    text, meter = READS_A_VALUE[framework]
    job = load_script(text)
    with pytest.raises(TraceError, match="needs the values of a tensor") as caught:
        trace_job(job, real=None)
    assert str(caught.value).endswith(f"Measure one step with FareMeter instead: {meter}")
    assert not find_foreign_words(str(caught.value), [framework])


def test_the_words_are_found() -> None:
    """Of each framework that the product writes for, in what it writes for it."""
    lightning = find_foreign_words(write_everything(""), ["Hugging Face"])
    assert {
        "Lightning: Trainer(",
        "Lightning: every_n_train_steps=",
        "Lightning: accumulate_grad_batches=",
    } <= set(lightning)
    assert {"precision=", "strategy="} <= {word.partition(": ")[2] for word in lightning}
    trainers = find_foreign_words(write_everything("huggingface"), ["Lightning"])
    assert {"Hugging Face: TrainingArguments(", "Hugging Face: per_device_train_batch_size="} <= set(trainers)
    assert all(len(words) > 5 for words in WORDS.values())


def test_calls_are_named_as_the_script_names_them() -> None:
    """Of a script that trains twice, and of a call that it does not have."""
    twice = KERAS + "model.fit(DataLoader(data, 16), epochs=2, shuffle=False)\n"
    notes = "\n".join(load_script(twice, fit=2).live.notes)
    assert "earlier calls of Model.fit, which trained nothing here" in notes
    with pytest.raises(TargetError, match=r"train\.py calls Model\.fit 2 times") as caught:
        load_script(twice, fit=3)
    for text in (notes, str(caught.value)):
        assert not find_foreign_words(text, ["Keras"])
