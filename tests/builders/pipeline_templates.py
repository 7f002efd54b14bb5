"""
Runs the templates of GitLab CI and Azure Pipelines as their runners do: scripts in bash, variables as environment.

What a template uses besides (images, tasks, caches, artifacts) needs a reason not to run.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from builders.processes import HANG_S

_SET_VARIABLE = re.compile(r"^##vso\[task\.setvariable variable=(\w+)\](.*)$", re.MULTILINE)


@dataclass
class PipelineRun:
    """What a run did."""

    exit_code: int = 0
    log: str = ""
    not_run: dict[str, str] = field(default_factory=dict)


def run_gitlab_job(template: Path, job: str, environment: Mapping[str, str], checkout: Path) -> PipelineRun:
    """Run `before_script` and `script` of a job in one shell, as GitLab's runner does."""
    document = yaml.safe_load(template.read_text(encoding="utf-8"))
    found = document[job]
    variables = {**document["variables"], **found["variables"], **environment}
    script = "\n".join([*found["before_script"], *found["script"]])
    code, log = _bash(f"set -eo pipefail\n{script}\n", _expand_variables(variables), checkout)
    return PipelineRun(code, log)


def run_azure_pipeline(
    template: Path, environment: Mapping[str, str], secrets: Mapping[str, str], checkout: Path
) -> PipelineRun:
    """
    Run the `bash` steps of a pipeline.

    Args:
        template: the file.
        environment: the variables of the build; those of the template are added.
        secrets: by macro name, such as System.AccessToken: a step has them only by its `env`.
        checkout: the working directory.
    """
    document = yaml.safe_load(template.read_text(encoding="utf-8"))
    macros = {"Pipeline.Workspace": str(checkout.parent / "workspace"), **secrets}
    variables = {name: _fill(value, macros) for name, value in document["variables"].items()} | dict(
        environment
    )
    done = PipelineRun()
    for step in document["steps"]:
        if "bash" not in step:
            kind = step.get("task") or f"checkout {step['checkout']}"
            done.not_run[kind] = "the agent's own; the test has made the checkout"
            continue
        own = {name: _fill(value, macros) for name, value in step.get("env", {}).items()}
        code, log = _bash(f"set -e\n{step['bash']}\n", {**variables, **own}, checkout)
        done.log += log
        variables |= dict(_SET_VARIABLE.findall(log))
        if code:
            done.exit_code = code
            break
    return done


def _bash(script: str, environment: Mapping[str, str], checkout: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        cwd=checkout,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    return done.returncode, done.stdout


def _expand_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables in which those of GitLab are replaced by their values."""
    return {
        name: re.sub(r"\$(CI_\w+)", lambda match: variables[match[1]], value)
        for name, value in variables.items()
    }


def _fill(text: str, macros: Mapping[str, str]) -> str:
    return re.sub(r"\$\(([\w.]+)\)", lambda match: macros[match[1]], text)
