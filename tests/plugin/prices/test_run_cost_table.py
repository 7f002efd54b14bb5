"""The user's own figures of a run's cost, in one table of trainfare.toml or of pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainfare.policy import read_policy
from trainfare.prices.run_cost_table import read_run_cost
from trainfare_core.errors import InputError

JOB = '[jobs.a]\ntarget = "train.py:job"\nmax_usd = 5\n'


@pytest.mark.parametrize(
    ("name", "table"), [("trainfare.toml", "run_cost"), ("pyproject.toml", "tool.trainfare.run_cost")]
)
def test_it_is_read_from_either_file(tmp_path: Path, name: str, table: str) -> None:
    """What is stated is taken, the rest keeps its default; a policy in the same file does not matter."""
    (tmp_path / name).write_text(f"[{table}]\nstartup_s = 90\n")
    assumptions = read_run_cost(tmp_path)
    assert (assumptions.startup_s, assumptions.stage_gb_per_s, assumptions.model_fields_set) == (
        90.0,
        1.0,
        {"startup_s"},
    )


def test_nothing_is_stated_without_a_file(tmp_path: Path) -> None:
    """An empty folder, and a project file that is about something else."""
    assert not read_run_cost(tmp_path).model_fields_set
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\n')
    assert not read_run_cost(tmp_path).model_fields_set


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run_cost]\nstartup = 90\n", "did you mean startup_s"),
        ("[run_cost]\nstartup_s = -1\n", "startup_s: Input should be greater than or equal to 0"),
        ("[run_cost]\nstage_gb_per_s = 0\n", "stage_gb_per_s: Input should be greater than 0"),
        ("run_cost = 3\n", "table run_cost"),
        ("[run_cost\n", "not valid TOML"),
    ],
)
def test_a_wrong_table_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    """A typo never means the default."""
    (tmp_path / "trainfare.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_run_cost(tmp_path)


def test_two_tables_are_an_error(tmp_path: Path) -> None:
    """There is no telling which of them holds."""
    (tmp_path / "trainfare.toml").write_text("[run_cost]\nstartup_s = 90\n")
    (tmp_path / "pyproject.toml").write_text("[tool.trainfare.run_cost]\nstartup_s = 80\n")
    with pytest.raises(InputError, match="keep one"):
        read_run_cost(tmp_path)


def test_the_policy_has_the_same_table(tmp_path: Path) -> None:
    """`trainfare check` takes the figures for each of its jobs."""
    (tmp_path / "trainfare.toml").write_text(f"[run_cost]\nstartup_s = 90\n{JOB}")
    policy = read_policy(None, tmp_path).policy
    assert policy.constraints_of(policy.jobs["a"]).run_cost == read_run_cost(tmp_path)
    (tmp_path / "trainfare.toml").write_text(f"[run_cost]\nstart_s = 90\n{JOB}")
    with pytest.raises(InputError, match=r"\[run_cost\]: unknown key 'start_s'; did you mean startup_s"):
        read_policy(None, tmp_path)
