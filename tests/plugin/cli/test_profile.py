"""`trainfare profile`: JSON where it was asked for, a summary on stderr, and no file overwritten by accident."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builders.jobs import Cnn, job
from builders.profiles import profile as made
from trainfare.cli import app_of
from trainfare.cli.profile import summary_of
from trainfare.fake_step import trace_job
from trainfare.job import load_job
from trainfare_core.errors import InputError, TargetError, TraceError
from trainfare_core.job_profile import BatchVariation, JobProfile, RunPlan

_SCRIPT = """
import torch
from trainfare import TrainingJob
class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
print("noise")
def job(module=Tiny):
    sizes = dict(batch=torch.zeros(4, 8), batch_size=4, tokens_per_sample=7, max_steps=10)
    return TrainingJob(module=module, precision="32-true", **sizes)
"""
"""Without Lightning, which takes seconds to import."""


def profile(target: str, *options: object) -> None:
    """Run the command in this process; its errors are raised."""
    app_of(["profile"])(["profile", target, *map(str, options)], standalone_mode=False)


@pytest.fixture
def target(tmp_path: Path) -> str:
    """A script with a job."""
    (tmp_path / "train.py").write_text(_SCRIPT)
    return f"{tmp_path / 'train.py'}:job"


def test_json_alone_goes_to_stdout(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without -o the profile is on stdout, and everything a person reads is on stderr."""
    profile(target, "--no-cache")
    captured = capsys.readouterr()
    assert JobProfile.from_json(captured.out).name == "Tiny"
    for word in ("parameters", "72", "one step", "28 tokens", "memory", "steps", "coverage", "noise"):
        assert word in captured.err


def test_a_file_is_written_whole_and_is_a_profile(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """-o writes the profile there, leaves nothing else behind, and keeps stdout empty."""
    output = tmp_path / "job.json"
    profile(target, "-o", output)
    assert JobProfile.from_json(output.read_bytes()).plan.optimizer_steps == 10
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["job.json", "train.py"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"wrote {output}" in captured.err


def test_a_file_that_is_there_is_kept_unless_forced(target: str, tmp_path: Path) -> None:
    """Refused before anything is traced; --force replaces it."""
    output = tmp_path / "job.json"
    output.write_text("precious")
    with pytest.raises(InputError, match="--force"):
        profile("nowhere.py:job", "-o", output)
    assert output.read_text() == "precious"
    profile(target, "-o", output, "--force")
    assert json.loads(output.read_text())["name"] == "Tiny"


@pytest.mark.parametrize(
    ("name", "message"), [("", "is a folder"), ("no/such/job.json", "there is no folder")]
)
def test_a_place_that_cannot_be_written(target: str, tmp_path: Path, name: str, message: str) -> None:
    """The folder must be there, and the name must be a file's."""
    with pytest.raises(InputError, match=message):
        profile(target, "-o", tmp_path / name)


def test_a_failure_writes_nothing(tmp_path: Path) -> None:
    """A target that does not load leaves no file."""
    with pytest.raises(TargetError):
        profile("nowhere.py:job", "-o", tmp_path / "job.json")
    assert list(tmp_path.iterdir()) == []


def test_the_summary_says_unknown_with_its_reason() -> None:
    """A run without an end is not given one."""
    traced = trace_job(job(Cnn, Cnn.batch, max_steps=None))
    assert "unknown: neither max_steps nor max_epochs" in summary_of(traced)
    known = traced.model_copy(update={"plan": RunPlan(optimizer_steps=1234)})
    assert "1,234" in summary_of(known)


def test_the_command_loads_no_torch(target: str, tmp_path: Path) -> None:
    """Torch and Lightning take seconds to import: only the process of the user's code does so, and none for `--help`."""
    code = (
        "import sys, trainfare.job.target; from trainfare.cli import app_of\n"
        "app_of(['profile'])(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted({'torch', 'lightning', 'pytorch_lightning', 'numpy', 'polars'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["profile", target, "--no-cache", "-o", str(tmp_path / "job.json")]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


_READS = """
class Reads(Tiny):
    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).mean()
        return loss if float(loss.detach()) < 1e9 else -loss
def reads():
    return job(Reads)
"""


def test_a_step_that_reads_a_value_is_traced_on_real_tensors_unless_forbidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary says so and names the line; `--no-real` and limits that are too low are refusals, also with a trace kept."""
    script = tmp_path / "train.py"
    script.write_text(_SCRIPT + _READS)
    target = f"{script}:reads"
    profile(target)
    out, err = capsys.readouterr()
    assert JobProfile.from_json(out).source.how == "real"
    assert "traced on real tensors, because" in err
    assert "train.py:20 in training_step reads a value" in err
    with pytest.raises(TraceError, match=r"needs the values of a tensor.*train\.py:20"):
        profile(target, "--no-real")
    with pytest.raises(TraceError, match=r"above the limit of 0\.001 GiB|more than 0\.001 s of CPU time"):
        profile(target, "--real-gib", 0.001, "--real-cpu-seconds", 0.001, "--no-cache")


def test_what_varies_stands_below_the_step() -> None:
    """What a step is the mean of, and how far batches differ: not among the notes at the end."""
    said = "mean of 16 steps with 51 trained parameters, 48 steps with 2,179"
    variation = BatchVariation(batches=8, smallest_flops=10**6, largest_flops=10**9, work_log_sigma=0.1)
    mean = made(work_note=said)
    batch = mean.batch.model_copy(
        update={"variation": variation, "samples_per_step": None, "tokens_per_step": None}
    )
    lines = summary_of(mean.model_copy(update={"batch": batch})).splitlines()
    (index,) = (index for index, line in enumerate(lines) if line.startswith("one step"))
    assert lines[index].endswith(" per device, samples not known")
    varies = "            batches vary from 1.00 MFLOP to 1.00 GFLOP"
    assert lines[index + 1 : index + 3] == [varies, f"            {said}"]


def test_the_step_is_traced_in_more_precisions_on_demand(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each named one is in the file and in the summary; a word that is no precision is refused before the trace."""
    output = tmp_path / "job.json"
    profile(target, "-o", output, "--precision", "bf16-true", "--precision", "bf16-mixed")
    job_profile = JobProfile.from_json(output.read_bytes())
    assert [(step.precision, step.parameters[0].dtype) for step in job_profile.precisions] == [
        ("bf16-true", "bf16"),
        ("bf16-mixed", "fp32"),
    ]
    assert "also bf16-true, bf16-mixed" in capsys.readouterr().err
    assert job_profile.model_copy(update={"precisions": ()}) == trace_job(load_job(target))
    with pytest.raises(InputError, match="give bf16-mixed, 16-mixed, bf16-true, 32-true"):
        profile("nowhere.py:job", "--precision", "fp8")
