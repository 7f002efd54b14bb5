"""Ctrl-C while a command is still being imported."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from builders.cli import run_python
from builders.environments import lean_python

PRESS = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Press(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == os.environ.get("PRESS_AT"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
"""
"""A `sitecustomize` that presses Ctrl-C where a module is looked for."""


def press(folder: Path, module: str, *command: str, python: str = sys.executable) -> tuple[int, str]:
    (folder / "sitecustomize.py").write_text(PRESS, encoding="utf-8")
    environment = {"PYTHONPATH": str(folder), "PRESS_AT": module}
    done = run_python(*command, cwd=folder, environment=environment, python=python)
    assert done.stdout == ""
    return done.exit_code, done.stderr


@pytest.mark.parametrize("command", ["recommend", "probe", "check", "--help"])
@pytest.mark.parametrize(
    "module", ["trainfare.cli", "typer", "trainfare.cli.exit_codes", "trainfare.cli.supervise"]
)
def test_ctrl_c_in_the_imports_is_one_word_and_130(module: str, command: str, tmp_path: Path) -> None:
    assert press(tmp_path, module, "-m", "trainfare", command) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "module", ["trainfare.cli.recommend", "trainfare.cli.ranking", "trainfare_core.limits.cost_assumptions"]
)
def test_ctrl_c_in_the_imports_of_a_command_is_one_word_and_130(module: str, tmp_path: Path) -> None:
    assert press(tmp_path, module, "-m", "trainfare", "recommend") == (130, "interrupted\n")


def test_the_installed_command_begins_there_too(tmp_path: Path) -> None:
    script = str(Path(lean_python()).with_name("trainfare"))
    assert press(tmp_path, "typer", script, "offers", python=lean_python()) == (130, "interrupted\n")


@pytest.mark.sources
def test_the_package_names_that_begin() -> None:
    settings = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '\ntrainfare = "trainfare.__main__:main"\n' in settings


def test_a_command_that_ignores_ctrl_c_does_so_from_the_begin(tmp_path: Path) -> None:
    """As one that a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert press(tmp_path, "typer", "-m", "trainfare", "no-such")[0] == 2
    finally:
        signal.signal(signal.SIGINT, before)
