"""
Runs the steps of a composite action as GitHub's runner does: each `run` in bash, with its `env` and the runner's files.

What a step writes to `GITHUB_OUTPUT`, `GITHUB_ENV` and `GITHUB_PATH` counts for the steps after it, multi-line values
included. Expressions are those that ours use; anything else is an error, so that a test never skips what it does not
understand. A step with `uses` needs a stand-in, or a reason not to run.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from builders.processes import HANG_S

StandIn: TypeAlias = "str | Callable[[dict[str, str]], dict[str, str]]"
"""Why a step is not run, or what takes its `with` and returns its outputs; an `OSError` is a step that fails."""

TOP = Path(__file__).parents[2]
_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_OURS = re.compile(r"[\w.-]+/trainfare/(\.github/actions/\w+)@\S+")
_FILES = {
    "GITHUB_OUTPUT": "set_output",
    "GITHUB_ENV": "set_env",
    "GITHUB_PATH": "add_path",
    "GITHUB_STATE": "save_state",
    "GITHUB_STEP_SUMMARY": "step_summary",
}


@dataclass
class ActionRun:
    """What a run of an action, or of a job, did."""

    exit_code: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""
    ran: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)


def run_action(
    action: Path,
    *,
    inputs: Mapping[str, str],
    environment: Mapping[str, str],
    workspace: Path,
    temp: Path,
    not_run: Mapping[str, StandIn],
) -> ActionRun:
    """
    Run an action.

    Args:
        action: its action.yml.
        inputs: as `with` of a workflow has them; others have their defaults.
        environment: of the job.
        workspace: the checkout.
        temp: the runner's temporary folder; made if missing.
        not_run: the stand-in of each action that is used, by its name without version, and of steps by name.
    """
    runner = Runner(environment, workspace, temp, not_run)
    code, runner.done.outputs = runner.run_action(action, inputs)
    runner.done.exit_code = code
    return runner.done


class Runner:
    """One job on a machine of its own."""

    def __init__(
        self, environment: Mapping[str, str], workspace: Path, temp: Path, not_run: Mapping[str, StandIn]
    ) -> None:
        (temp / "_runner_file_commands").mkdir(parents=True, exist_ok=True)
        self.done = ActionRun()
        self._token = environment.get("GITHUB_TOKEN", "")
        self._environment = {**environment, "RUNNER_TEMP": str(temp)}
        self._environment.pop("GITHUB_TOKEN", None)  # the runner gives it to no step by itself
        self._workspace, self._temp, self._not_run = workspace, temp, not_run
        self._number = 0

    def run_action(self, action: Path, inputs: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """Run a composite action; return its exit code and its outputs."""
        document = yaml.safe_load(action.read_text(encoding="utf-8"))
        known = {name: str(each.get("default", "")) for name, each in document["inputs"].items()}
        unknown = set(inputs) - set(known)
        assert not unknown, f"the action has no input {unknown}"
        context = self.context({f"inputs.{name}": value for name, value in {**known, **inputs}.items()})
        context.values["github.action_path"] = str(action.parent)
        code = self.run_steps(document["runs"]["steps"], context)
        return code, {name: context.text(each["value"]) for name, each in document["outputs"].items()}

    def context(self, values: Mapping[str, str]) -> Context:
        """Return the values of expressions, with those of the job."""
        job = {"github.token": self._token, "runner.temp": str(self._temp), "github.run_attempt": "1"}
        return Context({**job, "github.event_name": self._environment.get("GITHUB_EVENT_NAME", ""), **values})

    def run_steps(self, steps: list[dict[str, Any]], context: Context) -> int:
        """Run steps; return the exit code of the first that fails, else 0."""
        code = 0
        for step in steps:
            condition = step.get("if", "")
            if (code and "always()" not in condition) or not context.holds(condition):
                continue
            name = step.get("name") or step.get("run") or step["uses"]
            used = step.get("uses", "")
            stand_in = self._not_run.get(used.partition("@")[0] if used else name)
            ours = _OURS.fullmatch(used)
            if isinstance(stand_in, str):
                self.done.not_run[name] = stand_in
                continue
            arguments = {key: context.text(str(value)) for key, value in step.get("with", {}).items()}
            outputs: dict[str, str] = {}
            if ours:
                step_code, outputs = self.run_action(TOP / ours[1] / "action.yml", arguments)
            elif stand_in is not None:
                step_code, outputs = _stand_in(stand_in, arguments)
            else:
                assert not used, f"the test has no stand-in for {used}"
                step_code, outputs = self._run_script(step, context)
            self.done.ran.append(name)
            context.values |= {
                f"steps.{step.get('id', '')}.outputs.{key}": value for key, value in outputs.items()
            }
            if step_code and not step.get("continue-on-error"):
                code = code or step_code
        return code

    def _run_script(self, step: dict[str, Any], context: Context) -> tuple[int, dict[str, str]]:
        assert step.get("shell", "bash") == "bash"
        assert "${{" not in step["run"], "the value of an expression in a script is run as code"
        self._number += 1
        folder = self._temp / "_runner_file_commands"
        files = {name: folder / f"{kind}_{self._number}" for name, kind in _FILES.items()}
        for path in files.values():
            path.write_text("")
        script = self._temp / f"step-{self._number}.sh"
        script.write_text(step["run"])
        own = {key: context.text(value) for key, value in step.get("env", {}).items()}
        own |= {name: str(path) for name, path in files.items()}
        result = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self._workspace / context.text(step.get("working-directory", ".")),
            env={
                **self._environment,
                "GITHUB_ACTION_PATH": context.values.get("github.action_path", ""),
                **own,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        self.done.log += result.stdout
        self.done.summary += files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        self._environment |= read_values(files["GITHUB_ENV"])
        for line in files["GITHUB_PATH"].read_text(encoding="utf-8").splitlines():
            self._environment["PATH"] = f"{line}:{self._environment['PATH']}"
        return result.returncode, read_values(files["GITHUB_OUTPUT"])


def _stand_in(
    stand_in: Callable[[dict[str, str]], dict[str, str]], arguments: dict[str, str]
) -> tuple[int, dict[str, str]]:
    try:
        return 0, stand_in(arguments)
    except OSError:
        return 1, {}


def read_values(file: Path) -> dict[str, str]:
    """Return what a file of the runner sets: `NAME=VALUE`, or `NAME<<END` and lines up to END."""
    values: dict[str, str] = {}
    lines = iter(file.read_text(encoding="utf-8").splitlines())
    for line in lines:
        name, end = re.split("=|<<", line, maxsplit=1)
        if line[len(name)] == "=":
            values[name] = end
            continue
        values[name] = ""
        for text in lines:  # the runner fails a step whose END is missing; here the rest is the value
            if text == end:
                break
            values[name] += f"{text}\n"
    return values


class Context:
    """Values of expressions; an output that no step wrote is empty."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)

    def text(self, template: str) -> str:
        """Return a text with its expressions replaced."""
        return self._fill(self._fill(template))  # a default of an input may be an expression

    def _fill(self, template: str) -> str:
        return _EXPRESSION.sub(lambda match: self._value(match[1]), template)

    def holds(self, condition: str) -> bool:
        """Return whether an `if` is true."""
        parts = [part.strip() for part in condition.split("&&")] if condition else []
        return all(part == "always()" or self._compare(part) for part in parts)

    def _compare(self, part: str) -> bool:
        match = re.fullmatch(r"(\S+) (==|!=) '([^']*)'", part)
        assert match, f"the test does not know the condition {part}"
        return (self.text(self._value(match[1])) == match[3]) == (match[2] == "==")

    def _value(self, name: str) -> str:
        if re.fullmatch(r"(steps|needs)\.[\w-]+\.outputs\.[\w-]+", name):
            return self.values.get(name, "")
        assert name in self.values, f"the test does not know the expression {name}"
        return self.values[name]


def clean_environment() -> dict[str, str]:
    """Return what a job's process needs of ours, without the CI that the tests run in."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in kept if name in os.environ}
