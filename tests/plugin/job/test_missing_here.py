"""What the user's code needs and this machine lacks has a sentence of its own, with the user's line."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.lightning_modules import lightning_module, update_by
from builders.processes import HANG_S
from trainfare.fake_step import trace_job
from trainfare.job import TrainingJob, load_job, missing_here
from trainfare.job.missing_here import describe_raised
from trainfare_core.errors import TargetError, TraceError


def ask_closed_port() -> Any:
    """Ask a loopback port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/model.safetensors", timeout=HANG_S)


def hub() -> Any:
    """Raise as transformers does for a hub that cannot be reached: its own message over the cause."""
    try:
        ask_closed_port()
    except OSError as error:
        raise ValueError("cannot load bert") from error


def absent() -> Any:
    try:
        return Path("images/1.png").read_bytes()
    except OSError as error:
        raise RuntimeError("applying transform LoadImage") from error


def without_deepspeed() -> Any:
    """Raise as Python does where the package is not installed."""
    raise ModuleNotFoundError("No module named 'deepspeed'", name="deepspeed")


def gpu() -> Any:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    return torch.zeros(1).cuda()


def require_gpu() -> Any:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert torch.cuda.is_available(), "no GPU"


def error_of(function: Callable[[], Any]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "sentence", "advice"),
    [
        (gpu, "loading needs a GPU, which this machine does not have at ", "torch.cuda.is_available()"),
        (
            ask_closed_port,
            "loading needs the network, and its server cannot be reached from here at ",
            "local copy",
        ),
        (hub, "loading needs the network, and its server cannot be reached from here at ", "local copy"),
        (
            without_deepspeed,
            "loading needs the package deepspeed, which is not installed here at ",
            "Install deepspeed here, or use torch.optim.AdamW where it is not installed",
        ),
        (absent, "loading needs a file that is not here at ", "where the data are"),
        (require_gpu, "loading asks for a GPU, which this machine does not have at ", "Leave the check out"),
    ],
)
def test_each_lack_is_named_with_its_line(function: Callable[[], Any], sentence: str, advice: str) -> None:
    """The sentence, the place, the exception, and what to do."""
    error = error_of(function)
    text = describe_raised("loading", error, "it must load without training")
    assert text.startswith(sentence)
    assert advice in text
    assert f"test_missing_here.py:{error.__traceback__.tb_next.tb_lineno}" in text  # type: ignore[union-attr]
    assert type(error).__name__ in text


def test_any_other_exception_is_told_as_it_is() -> None:
    """With what the code must do."""
    error = error_of(lambda: {}["a"])
    assert missing_here(error) is None
    assert describe_raised("loading", error, "it must load").endswith(": it must load")


Reads = lightning_module(
    lambda self, batch: self.layer(batch).mean() * self.trainer.datamodule.classes,
    update_by(torch.optim.SGD, lr=0.1),
    lambda: {"layer": torch.nn.Linear(4, 4), "trainer": None},
    base=torch.nn.Module,
)
"""Reads what only a real Trainer has."""


def test_a_step_that_reads_the_datamodule() -> None:
    """There is none before launch, unless the job names one."""
    job = TrainingJob(module=Reads, batch=lambda: torch.zeros(2, 4), batch_size=2, max_steps=3)
    with pytest.raises(
        TraceError, match=r"training_step reads the Trainer's datamodule.*test_missing_here.py:\d+"
    ):
        trace_job(job)


ReadsLoader = lightning_module(
    lambda self, batch: self.layer(batch).mean() / len(self.trainer.train_dataloader),
    update_by(torch.optim.SGD, lr=0.1),
    lambda: {"layer": torch.nn.Linear(4, 4), "trainer": None},
    base=torch.nn.Module,
)
"""Reads the length of a loader that only a real Trainer has."""


def test_a_step_that_reads_a_loader() -> None:
    """The sentence says what to give instead."""
    job = TrainingJob(module=ReadsLoader, batch=lambda: torch.zeros(2, 4), batch_size=2, max_steps=3)
    with pytest.raises(TraceError, match=r"reads the Trainer's loaders.*Give the script itself as TARGET"):
        trace_job(job)


def test_the_users_line_stands_before_the_librarys(tmp_path: Path) -> None:
    """A library opens the file; the line that the user can change is the one that called it."""
    library = tmp_path / "site-packages" / "reader.py"
    library.parent.mkdir()
    library.write_text("def read(path):\n    return open(path)\n")
    space: dict[str, Any] = {}
    exec(compile(library.read_text(), str(library), "exec"), space)
    error = error_of(lambda: space["read"]("absent/x.npy"))
    text = describe_raised("train.py", error)
    assert text.startswith("train.py needs a file that is not here at ")
    assert text.index("test_missing_here.py:") < text.index(f", through {library.name}:2 in read")


def test_a_target_and_a_config_say_the_same(tmp_path: Path) -> None:
    """Whatever loads the code."""
    (tmp_path / "train.py").write_text("def job():\n    return open('no/such/data.csv')\n")
    with pytest.raises(
        TargetError, match=r"needs a file that is not here at .*train.py:2 in job \(FileNotFoundError"
    ):
        load_job(f"{tmp_path / 'train.py'}:job")
    (tmp_path / "own_code.py").write_text("open('no/such/data.csv')\n")
    (tmp_path / "c.yaml").write_text(
        "model:\n  class_path: own_code.Net\ndata:\n  class_path: own_code.Data\n"
    )
    with pytest.raises(TargetError, match="the section 'data' needs a file that is not here at "):
        load_job(str(tmp_path / "c.yaml"))
