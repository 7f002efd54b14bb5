"""
Runs the steps of a composite action as GitHub's runner does: each `run` in bash, with its `env`, outputs by file.

Expressions are those that an action of ours uses: `inputs.NAME`, `steps.ID.outputs.NAME`, comparisons with a text, joined by `&&`. Anything
else is an error, so that a test never skips what it does not understand. Steps with `uses` need a reason not to run.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from builders.processes import HANG_S

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


@dataclass
class ActionRun:
    """What a run of an action did."""

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
    not_run: Mapping[str, str],
) -> ActionRun:
    """
    Run an action.

    Args:
        action: its action.yml.
        inputs: as `with` of a workflow has them; others have their defaults.
        environment: of the job.
        workspace: the checkout.
        temp: the runner's temporary folder; made if missing.
        not_run: for each action that is used, its name without version, why it is not run; and for steps by name.
    """
    document = yaml.safe_load(action.read_text(encoding="utf-8"))
    known = {name: str(each.get("default", "")) for name, each in document["inputs"].items()}
    unknown = set(inputs) - set(known)
    assert not unknown, f"the action has no input {unknown}"
    temp.mkdir(parents=True, exist_ok=True)
    context = _Context({**known, **inputs}, environment.get("GITHUB_TOKEN", ""))
    done = ActionRun()
    job = {**environment, "GITHUB_ACTION_PATH": str(action.parent), "RUNNER_TEMP": str(temp)}
    job.pop("GITHUB_TOKEN", None)  # the runner gives it to no step by itself
    for number, step in enumerate(document["runs"]["steps"]):
        name = step["name"]
        if "if" in step and not context.holds(step["if"]):
            continue
        if "uses" in step or name in not_run:
            done.not_run[name] = not_run[step["uses"].partition("@")[0] if "uses" in step else name]
            continue
        code = _run_step(step, number, context, job, workspace, temp, done)
        done.ran.append(name)
        if code:
            done.exit_code = code
            break
    done.outputs = {name: context.text(each["value"]) for name, each in document["outputs"].items()}
    return done


def _run_step(
    step: dict[str, Any],
    number: int,
    context: _Context,
    job: dict[str, str],
    workspace: Path,
    temp: Path,
    done: ActionRun,
) -> int:
    assert step["shell"] == "bash"
    assert "${{" not in step["run"], "an expression in a script is code of whoever wrote its value"
    files = {name: temp / f"{name}-{number}" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for path in files.values():
        path.write_text("")
    script = temp / f"step-{number}.sh"
    script.write_text(step["run"])
    environment = {key: context.text(value) for key, value in step.get("env", {}).items()}
    result = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=workspace / context.text(step.get("working-directory", ".")),
        env={**job, **{key: str(path) for key, path in files.items()}, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    done.log += result.stdout
    done.summary += files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
    lines = files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines()
    context.steps[step.get("id", "")] = dict(line.split("=", 1) for line in lines)
    return result.returncode


class _Context:
    """Values of the expressions of an action."""

    def __init__(self, inputs: dict[str, str], token: str) -> None:
        self.inputs, self.token = inputs, token
        self.steps: dict[str, dict[str, str]] = {}

    def text(self, template: str) -> str:
        """Return a text with its expressions replaced."""
        return self._fill(self._fill(template))  # a default of an input may be an expression

    def _fill(self, template: str) -> str:
        return _EXPRESSION.sub(lambda match: self._value(match[1]), template)

    def holds(self, condition: str) -> bool:
        """Return whether an `if` is true."""
        return all(self._compare(part.strip()) for part in condition.split("&&"))

    def _compare(self, part: str) -> bool:
        match = re.fullmatch(r"(\S+) (==|!=) '([^']*)'", part)
        assert match, f"the test does not know the condition {part}"
        return (self.text(self._value(match[1])) == match[3]) == (match[2] == "==")

    def _value(self, name: str) -> str:
        if name == "github.token":
            return self.token
        if match := re.fullmatch(r"inputs\.([\w-]+)", name):
            return self.inputs[match[1]]
        if match := re.fullmatch(r"steps\.([\w-]+)\.outputs\.([\w-]+)", name):
            return self.steps.get(match[1], {}).get(match[2], "")
        raise AssertionError(f"the test does not know the expression {name}")


def clean_environment() -> dict[str, str]:
    """Return what a job's process needs of ours, without the CI that the tests run in."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in kept if name in os.environ}
