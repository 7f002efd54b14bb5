"""The examples of `--help`, and the completion of shells."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import time_machine
from typer.main import get_command

from builders.cli import capture_main, run_cli
from builders.days import snapshot_day
from builders.profiles import profile
from trainfare.cli import COMMANDS, app_of
from trainfare.cli.examples import EXAMPLES

LINES = [(command, example) for command, examples in EXAMPLES.items() for example in examples]
RUN = (
    "trainfare predict job.json --on H100-SXM-80GB --devices 8",
    "trainfare recommend job.json --max-usd 500 --deadline 24h --purchase spot",
    "trainfare why p4d.24xlarge job.json",
    "trainfare offers --accelerator H100 --purchase spot",
    "trainfare offers --why aws:p5.48xlarge@us-east-1",
    "trainfare prices status",
    "trainfare prices status --lock trainfare.lock",
    "trainfare prices verify",
    "trainfare prices verify --lock trainfare.lock",
    "trainfare prices lock --provider aws --max-price-age-days 90",
    "trainfare decline wait --cost 1e6 --value-per-month 5e4",
    "trainfare decline decompose --from 2022,1e23,2,312,.4 --to 2025,5e22,2,990,.4",
    "trainfare decline decompose --from 2023,1e23,2,312,.4 --to 2025,1e23,2,990,.3",
    "trainfare decline claims",
    "trainfare doctor",
)
"""Those that need neither a script nor the network; of the others the options are read."""


def list_commands() -> dict[str, Any]:
    """Return the commands that typer makes, by the words that name them."""
    top: Any = get_command(app_of())
    commands: dict[str, Any] = {}
    for name, command in top.commands.items():
        inner = getattr(command, "commands", None)
        commands |= {name: command} if inner is None else {f"{name} {key}": inner[key] for key in inner}
    return commands


def test_every_command_has_two_examples() -> None:
    """Of its own, and a line that a terminal of 80 columns does not wrap."""
    assert set(list_commands()) == set(EXAMPLES)
    for command, examples in EXAMPLES.items():
        assert len(set(examples)) == 2, command
        assert all(example.startswith(f"trainfare {command}") for example in examples)
        assert max(map(len, examples)) <= 78, command


@pytest.mark.parametrize(("command", "example"), LINES, ids=[example for _, example in LINES])
def test_every_example_is_understood(
    command: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command itself, whose work is left out."""
    monkeypatch.chdir(tmp_path)
    Path("trainfare-profile.json").touch()  # `ledger import` asks whether its files are there
    top: Any = get_command(app_of())
    leaf = top
    for word in command.split():
        leaf = leaf.commands[word]
    given: list[dict[str, Any]] = []
    leaf.callback = lambda **values: given.append(values)
    top(args=shlex.split(example)[1:], prog_name="trainfare", standalone_mode=False)
    assert len(given) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "job.json").write_text(profile().to_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize("example", RUN)
def test_examples_run(
    example: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example in {line for _, line in LINES}
    monkeypatch.chdir(folder)
    if "--lock trainfare.lock" in example and not Path("trainfare.lock").exists():
        assert capture_main(capsys, "prices", "lock").exit_code == 0
    elif "prices lock" in example:
        Path("trainfare.lock").unlink(missing_ok=True)
    with time_machine.travel(snapshot_day()):  # spot prices of a year ago are not ranked
        done = capture_main(capsys, *shlex.split(example)[1:])
    assert done.exit_code == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", ["recommend", "prices lock"])
def test_help_ends_with_the_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = capture_main(capsys, *command.split(), "--help").stdout
    assert [line.strip() for line in text.split("Examples:")[1].splitlines() if line.strip()] == [
        *EXAMPLES[command]
    ]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("trainfare rec", ["recommend", "reconcile"]),
        ("trainfare prices ver", ["verify"]),
        ("trainfare recommend --dead", ["--deadline"]),
        ("trainfare predict job.json --strategy hyb", ["hybrid"]),
    ],
)
def test_bash_completes_commands_options_and_values(words: str, completed: list[str]) -> None:
    """As the function does that `--show-completion` prints."""
    asked = {
        "_TRAINFARE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = run_cli(environment=asked)
    assert (done.exit_code, done.stdout.split(), done.stderr) == (0, completed, "")


def test_the_function_of_a_shell_is_printed() -> None:
    """For the shell that is named; one that is unknown is bad usage, not "over budget"."""
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = run_cli("--show-completion", "zsh", environment=named)
    assert done.exit_code == 0
    assert done.stdout.startswith("#compdef trainfare")
    assert run_cli(environment={"_TRAINFARE_COMPLETE": "nonsense"}).exit_code == 2


def test_help_names_each_command_in_one_line_of_its_group() -> None:
    """`--help` fits a screen: at most 56 lines of 80 columns, a group for each moment of a run, a line a command."""
    page = run_cli("--help", environment={"COLUMNS": "80"}).stdout.splitlines()
    assert len(page) <= 56
    assert max(map(len, page)) <= 80
    words = [line.strip("│ ").split(" ")[0] for line in page if line.startswith("│")]
    assert [words.count(name) for name in COMMANDS] == [1] * len(COMMANDS)
    assert [line.strip("╭─╮ ") for line in page if line.startswith("╭")] == [
        "Options", "First steps", "Before a run", "Decide", "Launch", "While it runs, and afterwards",
        "In CI, and for assistants", "Prices",
    ]  # fmt: skip
