"""Messages about a loop of the script's own have its words: no Trainer, and no way on that it does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare_core.errors import TargetError

pytestmark = quiet

LOOP = """
import torch
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters())
for epoch in range(3):
    {before}
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
"""
NO_WEIGHTS = "raise ConnectionError('Max retries exceeded with url: /resnet50.a1_in1k')"
NO_DATA = "open('images/labels.csv')"
BUG = "raise KeyError('a')"
MADE_UP, INSTEAD = "--made-up-data", "or describe the run as a TrainingJob, with a batch that is made up"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refuse(text: str) -> str:
    with pytest.raises(TargetError) as caught:
        load_script(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("first", "way_on"),
    [
        (NO_WEIGHTS, "pretrained weights may be left out for the trace"),
        (NO_DATA, INSTEAD),
        (BUG, "a trace runs what stands before the training loop, so it must work here"),
        ("import sys; sys.exit(2)", "ended with exit code 2 before its training began: give its arguments"),
        ("import sys; sys.exit(0)", "no optimizer of torch has made a step that moves a parameter"),
    ],
)
@pytest.mark.parametrize("library", ["torch", "accelerate"])
def test_before_the_loop(first: str, way_on: str, library: str) -> None:
    """A loop of PyTorch, and one of Accelerate that has not come to its first step."""
    pytest.importorskip(library)
    message = refuse(f"import {library}\n{first}{LOOP.format(before='pass')}")
    assert way_on in message
    assert "Trainer.fit" not in message
    assert MADE_UP not in message


@pytest.mark.parametrize(("raised", "way_on"), [(NO_DATA, INSTEAD), (BUG, "trainfare probe")])
def test_in_the_loop(raised: str, way_on: str) -> None:
    message = refuse(LOOP.format(before=f"if epoch == 1: {raised}"))
    assert way_on in message
    assert "Trainer.fit" not in message
    assert MADE_UP not in message


@pytest.mark.parametrize(
    ("first", "way_on"),
    [
        ("import sys; sys.exit(2)", "exit code 2 before its training began: what it printed says why"),
        ("import sys; sys.exit('no data')", "ended by sys.exit('no data')"),
    ],
)
def test_an_exit_with_arguments_does_not_ask_for_them(first: str, way_on: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_script(first, arguments=("--epochs", "3"))
    assert way_on in str(caught.value)
    assert "give its arguments" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "raise PermissionError(13, 'Permission denied', '../data')",
        "import torch; torch.save({}, '/sys/kernel/weights.pt')",  # where not even root may make a file
        "import torch; from safetensors.torch import save_file; save_file({'a': torch.ones(1)}, '/sys/kernel/a.st')",
    ],
)
def test_a_place_that_a_sandbox_does_not_let_write_gets_a_way_on(line: str) -> None:
    if "safetensors" in line:
        pytest.importorskip("safetensors")
    message = refuse(line)
    assert "start it from the folder above, or give --no-sandbox" in message


def test_jax_is_named() -> None:
    """Before it runs: it would train to its end."""
    assert "train.py trains by JAX: of its loops only Keras' Model.fit" in refuse("from jax import numpy")
    assert "trains by JAX" not in refuse("if 0: import jax\nimport torch")
    Path("learner.py").write_text("import torch")
    assert "trains by JAX" not in refuse("if 0: import jax\nimport learner")


@pytest.mark.parametrize(
    "call", ["torch.nn.Linear(2, 2).to(0)", "torch.nn.Linear(2, 2).cuda(0)", "torch.ones(1).to('cuda:1')"]
)
def test_a_gpu_that_is_not_here_is_named(call: str) -> None:
    message = refuse(f"import torch\n{call}")
    assert "train.py needs a GPU, which this machine does not have at train.py:2" in message
    assert "Put the line behind torch.cuda.is_available()" in message
    assert "so it must work here" not in message


def test_a_script_that_names_a_trainer_is_told_of_it() -> None:
    head = "from lightning.pytorch import Trainer\n"
    assert MADE_UP in refuse(head + NO_DATA)
    assert "before the training loop" in refuse(head + BUG)
    assert "no call of Trainer.fit" in refuse(head)
