"""`trainfare predict` as a user runs it: files in, text or JSON out, errors in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from builders.profiles import gpt_profile, write_profile
from trainfare.cli.predict import predict
from trainfare.fake_step.profile_input import MAX_PROFILE_BYTES, read_profile
from trainfare.report.prediction import seconds_text
from trainfare_core.errors import CannotTellError, InputError, ProfileError, UnknownNameError

app = typer.Typer()
app.command()(predict)


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    """Return the path of a GPT's profile."""
    return write_profile(tmp_path, gpt_profile(batch_size=64))


def test_the_table_has_every_part(job_file: str) -> None:
    """Step, throughput, memory, where both go, how it was calibrated and what was assumed."""
    result = CliRunner().invoke(app, [job_file, "--on", "H100-SXM-80GB", "--devices", "8"])
    assert result.exit_code == 0, result.output
    for words in ("gpt on 8 x H100-SXM-80GB", "step", "samples", "tokens", "memory", "fits", "80 %", "MFU",
                  "communication, exposed", "matmul", "activations", "calibrated: device seen, dtype seen", "note: the input"):  # fmt: skip
        assert words in result.stdout, words


def test_json_is_alone_on_standard_output(job_file: str) -> None:
    """`--format json` prints one document of the published schema, with intervals."""
    arguments = [
        job_file,
        "--on",
        "H100-SXM-80GB",
        "--devices",
        "8",
        "--nodes",
        "2",
        "--network-gbit",
        "3200",
    ]
    result = CliRunner().invoke(app, [*arguments, "--strategy", "fsdp", "--format", "json"])
    answer = json.loads(result.stdout)
    assert (answer["schema_version"], answer["strategy"], answer["nodes"]) == (1, "fsdp", 2)
    assert answer["step_s"]["low_80"] < answer["step_s"]["mid"] < answer["step_s"]["high_80"]


def test_implementations_are_compared(job_file: str) -> None:
    """Which one is meant and what the others would take, whether one was asked for or not."""
    answers = {}
    for asked in ((), ("--implementation", "fused")):
        result = CliRunner().invoke(app, [job_file, "--on", "H100-SXM-80GB", *asked, "--format", "json"])
        answers[asked] = json.loads(result.stdout)
    eager, fused = answers.values()
    assert fused["step_s"]["mid"] < eager["step_s"]["mid"]
    said = eager["notes"][-1]
    assert said.startswith("implementation eager: a step would take ")
    assert said.endswith(f"{seconds_text(fused['step_s']['mid'])} under fused")
    assert fused["notes"][-1].startswith(
        f"implementation fused: a step would take {seconds_text(eager['step_s']['mid'])} under eager"
    )


def test_the_plan_can_be_given(job_file: str) -> None:
    """Strategy, micro-batch and accumulation; a way that does not make the batch is bad input."""
    asked = [job_file, "--on", "H100-SXM-80GB", "--devices", "8", "--micro-batch", "4"]
    result = CliRunner().invoke(app, [*asked, "--accumulate", "2"])
    assert "strategy ddp, micro-batch 4, accumulate 2" in result.stdout
    assert isinstance(CliRunner().invoke(app, [*asked, "--accumulate", "4"]).exception, InputError)


def test_a_profile_on_standard_input(job_file: str) -> None:
    """`-` reads the profile from a pipe."""
    text = Path(job_file).read_text(encoding="utf-8")
    result = CliRunner().invoke(app, ["-", "--on", "A100-SXM-80GB"], input=text)
    assert result.exit_code == 0, result.output


def test_a_model_that_does_not_fit(job_file: str) -> None:
    """A model too large for the device gets a time, the verdict and the GiB that miss."""
    Path(job_file).write_text(gpt_profile(layers=32, width=4096, heads=32).to_json(), encoding="utf-8")
    result = CliRunner().invoke(app, [job_file, "--on", "T4-16GB"])
    assert "does not fit" in result.stdout
    assert "GiB missing" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--on", "H100-SXM-80G"], UnknownNameError),
        (["--on", "Inferentia2"], CannotTellError),
        (["--on", "H100-SXM-80GB", "--devices", "8", "--nodes", "2"], CannotTellError),
    ],
)
def test_no_answer_is_an_error_of_ours(job_file: str, arguments: list[str], error: type[Exception]) -> None:
    """The command raises what main() turns into a message and the exit code."""
    result = CliRunner().invoke(app, [job_file, *arguments])
    assert isinstance(result.exception, error)
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["--devices", "0"], ["--nodes", "-1"], ["--network-gbit", "0"], ["--vcpus", "nan"]]
)
def test_numbers_out_of_range_are_bad_usage(job_file: str, arguments: list[str]) -> None:
    """Impossible machines are bad usage: exit code 2."""
    assert CliRunner().invoke(app, [job_file, "--on", "H100-SXM-80GB", *arguments]).exit_code == 2


def test_control_sequences_in_a_name_are_not_printed(job_file: str) -> None:
    """Escape sequences in a job's name are not printed."""
    Path(job_file).write_text(gpt_profile(name="evil\x1b[2J\x07").to_json(), encoding="utf-8")
    result = CliRunner().invoke(app, [job_file, "--on", "A100-SXM-80GB"])
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout


def test_files_that_are_no_profile(tmp_path: Path) -> None:
    """Absent, a folder, not JSON or far too large: an error that names the file and says what to give."""
    folder, text, large = tmp_path, tmp_path / "text.json", tmp_path / "large.json"
    text.write_text("hello", encoding="utf-8")
    with large.open("wb") as stream:
        stream.truncate(MAX_PROFILE_BYTES + 1)
    for path, words in ((tmp_path / "absent.json", "cannot be read"), (folder, "cannot be read"),
                        (text, "not a trainfare job profile"), (large, "larger than 64 MiB")):  # fmt: skip
        with pytest.raises(ProfileError, match=words) as caught:
            read_profile(str(path))
        assert path.name in str(caught.value)
