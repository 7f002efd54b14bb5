"""`trainfare strategy`: one TOML or flags, formats, exit codes, and strategies that cannot be traced."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builders.cli import run_main
from trainfare.job import TrainingJob
from trainfare.methods.request import fill_question, read_strategy_file, request_of
from trainfare_core.errors import InputError
from trainfare_core.methods.answer import MethodsAnswer
from trainfare_core.methods.curves import CurvePoint, LearningCurve, Metric
from trainfare_core.methods.methods import METHOD_NAMES
from trainfare_core.methods.pilots import PilotReport

SCRIPT = '''
import torch
from torch import nn
from trainfare import TrainingJob

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(32, 32), nn.Linear(32, 10)
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.head(self.body(batch[0]).relu()), batch[1])
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

def job(**fields):
    batch = lambda: (torch.zeros(16, 32), torch.zeros(16, dtype=torch.long))
    return TrainingJob(module=Net, batch=batch, batch_size=16, precision="bf16-mixed", **fields)

def sized():
    return job(train_samples=40_000, max_epochs=30)
'''  # fmt: skip


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


run = partial(run_main, "strategy")


FAST = ("--strategies", "full_finetune", "--strategies", "scratch", "--strategies", "linear_probe")


def test_one_toml_holds_everything(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Target beside the file, the question and the market; flags win over it; JSON is the published model."""
    toml = script.with_name("strategy.toml")
    toml.write_text(
        'target = "train.py:sized"\ndomain = "vision-cls"\nmetric = "accuracy"\nknown-value = 0.9\n'
        'target-value = 0.95\nstrategies = ["full_finetune", "scratch", "linear_probe"]\nproviders = ["aws"]\n',
        encoding="utf-8",
    )
    assert run(toml, "--format", "json", "--target-value", 0.5) == 0
    answer = MethodsAnswer.model_validate_json(capsys.readouterr().out)
    assert (answer.kind, answer.question.target_value, answer.question.known_value) == ("train", 0.5, 0.9)
    assert answer.question.samples == 40_000
    priced = {line.strategy: line for line in answer.lines if line.usd is not None}
    assert set(priced) == {"full_finetune", "scratch", "linear_probe"}
    assert {line.machine.provider for line in priced.values()} == {"aws"}
    steps = {name: line.optimizer_steps for name, line in priced.items()}
    assert steps["full_finetune"] == pytest.approx(30 * 2500, rel=0.1)
    assert steps["scratch"] == pytest.approx(17 * steps["full_finetune"], rel=0.1)
    left_out = {line.strategy: line.impossible_because for line in answer.lines if line.usd is None}
    assert left_out == dict.fromkeys(set(METHOD_NAMES) - set(priced), "not asked for")


def test_no_recommendation_exits_with_3_and_its_sentence(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target out of reach is shown and is not a success."""
    code = run(f"{script}:sized", *FAST, "--metric", "accuracy", "--known-value", 0.5, "--target-value", 0.99)
    shown = capsys.readouterr()
    assert code == 3
    assert "No strategy reaches the target (accuracy 0.99)" in shown.out
    assert "No strategy reaches the target" in shown.err


def test_the_table_names_defaults_machines_and_what_is_left_out(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What somebody who pays reads."""
    run(f"{script}:sized", *FAST)
    text = capsys.readouterr().out
    for words in (
        "cost to target",
        "Assumed",
        "pre-training is sunk cost",
        "the data is vision-cls",
        "Prices",
        "LoRA: not possible",
    ):
        assert words in text


def test_an_unknown_length_is_unknown(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a plan nor a number of samples: no dollars are made up."""
    assert run(f"{script}:job", *FAST, "--format", "json") == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "none"
    assert all(line["usd"] is None for line in answer["lines"])
    assert "give the number of samples" in answer["lines"][0]["unknown_because"]


def test_a_strategy_that_cannot_be_traced_says_why(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are priced all the same."""
    assert run(f"{script}:sized", *FAST, "--head", "nowhere", "--format", "json") in (0, 3)
    lines = {line["strategy"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    assert "there is no such layer" in lines["linear_probe"]["unknown_because"]
    assert lines["full_finetune"]["usd"]["mid"] > 0


def test_lora_and_qlora_are_traced_and_priced(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through peft; QLoRA only on NVIDIA."""
    pytest.importorskip("peft")
    chosen = ("--strategies", "lora", "--strategies", "qlora", "--strategies", "full_finetune")
    run(f"{script}:sized", *chosen, "--format", "json", "--domain", "nlp-glue")
    lines = {line["strategy"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    assert lines["lora"]["traced"]["trainable_parameters"] == 16 * 64 + 32 * 10 + 10
    assert lines["qlora"]["traced"]["weights_bytes"] < lines["lora"]["traced"]["weights_bytes"]
    assert any("NVIDIA" in note for note in lines["qlora"]["notes"])
    assert lines["lora"]["analogs"] >= 5


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("target = 3", "target"),
        ("x = = 1", "not valid TOML"),
        ("max_nodes = 99", "max_nodes"),
        ("providers = [1]", "providers"),
    ],
)
def test_an_invalid_file_is_refused(tmp_path: Path, text: str, word: str) -> None:
    """With the key that is wrong."""
    path = tmp_path / "strategy.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=word):
        request_of(read_strategy_file(path), str(path))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"lora_ranks": 8}, "there is no lora_ranks"),
        ({"samples": -1}, "samples"),
        ({"known_strategy": "magic"}, "known_strategy"),
        ({"strategies": []}, "strategies"),
        ({"confidence": 1.0}, "confidence"),
    ],
)
def test_an_invalid_question_is_refused(values: dict[str, Any], word: str) -> None:
    """With the field that is wrong, and those that there are."""
    with pytest.raises(InputError, match=word):
        request_of(values, "the flags")


def test_the_job_fills_missing_fields() -> None:
    """Samples, tokens and, by the tokens, the kind of data; what was said stays."""
    job = TrainingJob(module=object(), batch=object(), batch_size=1, train_samples=7, tokens_per_sample=9)
    question, assumed = fill_question(request_of({}, "").question, job)
    assert (question.samples, question.tokens_per_sample, question.domain) == (7, 9, "llm-ift")
    assert "llm-ift" in assumed[0]
    said, nothing = fill_question(request_of({"domain": "nlp-glue", "samples": 5}, "").question, job)
    assert (said.samples, said.domain, nothing) == (5, "nlp-glue", ())


def test_the_options_are_those_of_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field of a question has an option, with its default, and so has every part of the market and of the prices."""
    assert run("--help") == 0
    text = capsys.readouterr().out
    names = {
        "--domain", "--samples", "--tokens-per-sample", "--checkpoint", "--metric", "--direction", "--target-value",
        "--within-pct", "--known-value", "--known-strategy", "--strategies", "--epochs", "--lora-rank", "--head",
        "--cache-features", "--learning-rate-trials", "--max-usd", "--deadline", "--confidence", "--pilot", "--config",
        "--provider", "--region", "--purchase", "--max-nodes", "--lock", "--own-prices", "--allow-stale",
        "--max-price-age-days", "--on-stale", "--as-of", "--format", "--output", "--help",
        "--keep-data",
    }  # fmt: skip
    assert set(re.findall(r"--[a-z][a-z-]+", text)) >= names
    negations = {"--no-porting", "--no-cache", "--no-real", "--no-sandbox"}
    assert set(re.findall(r"--no-[a-z-]+", text)) <= negations
    assert "default: related" in " ".join(text.split())


def test_usage_errors_end_with_2(script: Path, tmp_path: Path) -> None:
    """No such file, two files, a file without a job."""
    assert run(tmp_path / "absent.toml") == 2
    empty = tmp_path / "empty.toml"
    empty.write_text("", encoding="utf-8")
    assert run(empty) == 2
    assert run(f"{tmp_path}/./empty.toml") == 2
    assert run(empty, "--config", empty) == 2
    assert run(f"{script}:sized", "--checkpoint", "nearby") == 2


def curve_file(folder: Path, name: str, values: dict[int, float], strategy: str | None) -> Path:
    points = tuple(
        CurvePoint(step=step, metrics=(Metric(name="val_accuracy", value=value),))
        for step, value in values.items()
    )
    curve = LearningCurve(
        tool_version="0", name="run", strategy=strategy, trainable_parameters=1, parameters=1, planned_steps=1000,
        train_samples=40_000, points=points,
    )  # fmt: skip
    path = folder / f"{name}.json"
    path.write_text(curve.to_json(), encoding="utf-8")
    return path


def test_pilots_alone_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--pilot runs/*.json`, as a shell writes it out; scores are better when higher, told by their name."""
    probe = curve_file(tmp_path, "a", {100: 0.5, 600: 0.6}, "linear_probe")
    lora = curve_file(tmp_path, "b", {100: 0.6, 600: 0.7}, "lora")
    assert run("--pilot", probe, lora, "--format", "json", "--target-value", 0.65) == 0
    report = PilotReport.model_validate_json(capsys.readouterr().out)
    assert [line.strategy for line in report.lines] == ["lora", "linear_probe"]
    assert report.lines[0].steps_to_target is not None
    assert run("--pilot", probe, lora) == 0
    assert "1.  LoRA" in capsys.readouterr().out


def test_pilots_answer_a_target(script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was seen takes the place of what was published, and the answer says what pilots could not tell."""
    probe = curve_file(tmp_path, "a", {100: 0.5, 1000: 0.90}, "linear_probe")
    full = curve_file(tmp_path, "b", {100: 0.6, 1000: 0.85}, None)
    code = run(
        f"{script}:sized", *FAST, "--pilot", probe, "--pilot", f"full_finetune={full}", "--target-value", 0.88,
        "--format", "json",
    )  # fmt: skip
    answer = MethodsAnswer.model_validate_json(capsys.readouterr().out)
    lines = {line.strategy: line for line in answer.lines}
    assert code in (0, 3)
    assert answer.strategy == "linear_probe"
    assert answer.question.metric == "val_accuracy"
    assert lines["linear_probe"].p_reach > 0.9
    assert lines["full_finetune"].p_reach < 0.1
    assert any("one learning rate" in text for text in answer.assumptions)


def test_a_curve_without_a_strategy_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Full fine-tuning or scratch: the person says which; an absent file and another file are errors."""
    path = curve_file(tmp_path, "a", {100: 0.5}, None)
    assert run("--pilot", path) == 2
    assert "name one" in capsys.readouterr().err
    assert run("--pilot", f"magic={path}") == 2
    assert run("--pilot", tmp_path / "absent.json") == 2
    assert run() == 2
    assert run("a.py:job", "b.py:job") == 2


def test_a_profile_is_not_taken_for_a_curve(capsys: pytest.CaptureFixture[str]) -> None:
    """Both are JSON; what it holds tells."""
    profile = Path(__file__).parents[3] / "docs" / "examples" / "lora-7b.json"
    assert run_main("strategy", profile) == 2
    assert "is the profile of a job, not a learning curve" in capsys.readouterr().err
