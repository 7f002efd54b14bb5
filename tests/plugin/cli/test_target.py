"""The TARGET of a command: its argument or `--module`, with what stands after `--`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders.cli import capture_main
from trainfare.cli.target import TargetOptions
from trainfare.job import ALL_CALLS
from trainfare_core.errors import InputError


@pytest.mark.parametrize(
    ("place", "options", "target"),
    [
        ("train.py", {}, "train.py"),
        ("train.py", {"arguments": ["--name", "a b"]}, "train.py -- --name 'a b'"),
        ("book.ipynb", {"fit": 2}, "book.ipynb"),
        (None, {"module": "package.train", "arguments": ["fit"]}, "-m package.train -- fit"),
        (None, {"arguments": ["train.py", "fit"]}, "train.py -- fit"),
        (None, {"arguments": ["t.py:job"]}, "t.py:job"),
        ("t.py:job", {}, "t.py:job"),
        (None, {}, None),
    ],
)
def test_the_text_of_a_target(place: str | None, options: dict[str, Any], target: str | None) -> None:
    """A policy and a strategy file name it in the same way."""
    assert TargetOptions(**options).find_target(place) == target


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        ("train.py", {"module": "package.train"}, "train.py and --module package.train: give one of them"),
        ("job.json", {"arguments": ["--lr"]}, "job.json is no script: arguments after --, --fit and"),
        ("t.py:job", {"optimizer_step": 2}, "--optimizer-step are for train.py or --module package.train$"),
        ("t.py:job", {"fit": 2}, "t.py:job is no script"),
        ("t.py:job", {"fit": ALL_CALLS}, "t.py:job is no script"),
        (None, {}, "no TARGET: give a script such as train.py"),
        ("job.json", {"made_up_data": True}, "job.json is no script: .*, as is --made-up-data$"),
        ("train.py", {"batch": "float32[4]"}, "--batch and --train-samples: add --made-up-data"),
        ("train.py", {"train_samples": 9}, "--batch and --train-samples: add --made-up-data"),
        ("train.py", {"made_up_data": True, "batch": "fp32[4]"}, "'fp32' is no dtype"),
        (
            "train.py",
            {"made_up_data": True, "batch": "absent.pt"},
            r"--batch absent.pt: no such file; .* torch.save\(",
        ),
    ],
)
def test_what_contradicts_itself(place: str | None, options: dict[str, Any], message: str) -> None:
    """Nothing that the user gave is dropped without a word."""
    with pytest.raises(InputError, match=message):
        TargetOptions(**options).require_target(place)


def test_made_up_data_are_for_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy names its targets in a file; a sample is found from any folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample.pt").touch()
    options = TargetOptions(made_up_data=True, batch="sample.pt", train_samples=9)
    assert options.find_target("train.py") == "train.py"
    with pytest.raises(
        InputError, match=r"--made-up-data is for a script: train\.py:job gives its batch itself"
    ):
        options.open_traced("train.py:job")


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ("all", "t.py:job is no script"),
        ("2", "t.py:job is no script"),
        ("0", "'0' is neither the number of a call, from 1, nor"),
        ("last", "'last' is neither the number of a call"),
    ],
)
def test_the_number_of_a_call_or_all(fit: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--fit` takes both words through the command line."""
    result = capture_main(capsys, "profile", "t.py:job", "--fit", fit)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert result.exit_code == 2
