"""
Runs the templates of GitLab CI and Azure Pipelines as their runners do: scripts in bash, variables as environment.

Each job has a checkout of its own, which is a clone, and gets the artifacts of the jobs before it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from builders.git_repository import GitRepository
from builders.processes import HANG_S
from builders.runner_python import put_python

_SET_VARIABLE = re.compile(r"^##vso\[task\.setvariable variable=(\w+)(;isOutput=true)?\](.*)$", re.MULTILINE)


@dataclass
class JobRun:
    """What a job did."""

    exit_code: int = 0
    log: str = ""


@dataclass
class Pipeline:
    """
    Where the jobs of a pipeline run.

    Attributes:
        folder: has a folder for each job.
        repository: what they check out: the merge for Azure Pipelines, the branch for GitLab.
        environment: the variables of every job.
        token: of the comment.
        tamper: what code of a job does to its artifact, a folder, by job.
        hung: jobs that run past their time limit.
    """

    folder: Path
    repository: GitRepository
    environment: Mapping[str, str]
    token: str
    tamper: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    hung: frozenset[str] = frozenset()

    def run_gitlab(self, template: Path) -> dict[str, JobRun]:
        """Run `before_script` and `script` of each job in one shell, as GitLab's runner does."""
        document = yaml.safe_load(template.read_text(encoding="utf-8"))
        artifacts: list[Path] = []
        runs: dict[str, JobRun] = {}
        for name in (name for name in document if name.startswith("training-cost")):
            job = _extend(document, name)
            assert [rule["when"] for rule in job["rules"]] == ["always"]
            assert job["timeout"]
            checkout = self.folder / name / "checkout"
            assert job["variables"]["GIT_STRATEGY"] == "clone", "files of earlier jobs stay"
            self._clone(
                checkout, *(["--no-checkout"] if job["variables"].get("GIT_CHECKOUT") == "false" else [])
            )
            for artifact in artifacts if "environment" in job else ():
                shutil.copytree(artifact, checkout, symlinks=True, dirs_exist_ok=True)
            base = self.repository.git("rev-parse", "main").strip()
            variables = {
                **document["variables"],
                **self._job_environment(name),
                "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
                "CI_PROJECT_DIR": str(checkout),
                "CI_REPOSITORY_URL": self.repository.root.as_uri(),
            }
            variables |= {"GITLAB_TOKEN": self.token} if job.get("environment") else {}
            script = "\n".join([*job.get("before_script", []), *job["script"]])
            if name in self.hung:
                runs[name] = JobRun(1)
                continue
            runs[name] = JobRun(*_bash(f"set -eo pipefail\n{script}\n", variables, checkout))
            artifacts.append(self.folder / name / "artifact")
            artifacts[-1].mkdir()
            for pattern in job["artifacts"]["paths"]:
                for path in checkout.glob(pattern):
                    shutil.copytree(path, artifacts[-1] / path.name)
            self.tamper.get(name, lambda _folder: None)(artifacts[-1])
        return runs

    def run_azure(self, template: Path) -> dict[str, JobRun]:
        """Run the `bash` steps of each job; a step has secrets only by its `env`."""
        document = yaml.safe_load(template.read_text(encoding="utf-8"))
        artifacts: dict[str, Path] = {}
        outputs: dict[str, str] = {}
        runs: dict[str, JobRun] = {}
        for job in document["jobs"]:
            name = job["job"]
            assert job["timeoutInMinutes"]
            assert "dependsOn" not in job or job["condition"] == "always()"
            runs[name] = JobRun(1)
            if name in self.hung:
                continue
            checkout, temp = self.folder / name / "checkout", self.folder / name / "temp"
            temp.mkdir(parents=True)
            self._clone(checkout)
            macros = {"Agent.TempDirectory": str(temp), "System.AccessToken": self.token}
            variables = {**document["variables"], **self._job_environment(name)}
            variables |= {"AGENT_TEMPDIRECTORY": str(temp), "BUILD_SOURCESDIRECTORY": str(checkout)}
            for key, value in job.get("variables", {}).items():
                variables[key] = re.sub(
                    r"\$\[ dependencies\.(.+) \]", lambda found: outputs.get(found[1], ""), value
                )
            runs[name] = _run_azure_steps(job, checkout, variables, macros, artifacts)
            for key, is_output, value in _SET_VARIABLE.findall(runs[name].log):
                if is_output:
                    outputs[f"{name}.outputs['trace.{key}']"] = value
            if name in artifacts:
                self.tamper.get(name, lambda _folder: None)(artifacts[name])
        return runs

    def _clone(self, checkout: Path, *options: str) -> None:
        self.repository.git("clone", "--quiet", *options, self.repository.root.as_uri(), str(checkout))

    def _job_environment(self, name: str) -> dict[str, str]:
        path = f"{put_python(self.folder / name / 'python')}:{self.environment['PATH']}"
        temp = self.folder / name / "tmp"
        temp.mkdir(parents=True)
        return {**self.environment, "PATH": path, "TMPDIR": str(temp)}


def _run_azure_steps(
    job: dict[str, Any],
    checkout: Path,
    variables: dict[str, str],
    macros: Mapping[str, str],
    artifacts: dict[str, Path],
) -> JobRun:
    done = JobRun()
    for step in job["steps"]:
        inputs = {key: _fill(str(value), macros) for key, value in step.get("inputs", {}).items()}
        if "publish" in step:
            artifacts[step["artifact"]] = Path(_fill(step["publish"], macros))
        elif step.get("task") == "DownloadPipelineArtifact@2":
            assert step["continueOnError"]
            source = artifacts.get(inputs["artifactName"])
            if source is not None and source.is_dir():
                shutil.copytree(source, inputs["targetPath"], symlinks=True)
        elif "bash" in step:
            own = {name: _fill(value, macros) for name, value in step.get("env", {}).items()}
            code, log = _bash(step["bash"], {**variables, **own}, checkout)
            done.log += log
            variables |= {name: value for name, _, value in _SET_VARIABLE.findall(log)}
            if code:
                done.exit_code = code
                break
        else:
            assert "checkout" in step or step["task"] in ("UsePythonVersion@0", "PublishTestResults@2")
    return done


def _extend(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a job with what it extends; `variables` are joined."""
    job = dict(document[name])
    base = _extend(document, job.pop("extends")) if "extends" in job else {}
    variables = {**base.get("variables", {}), **job.get("variables", {})}
    return {**base, **job, "variables": variables}


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


def _fill(text: str, macros: Mapping[str, str]) -> str:
    return re.sub(r"\$\(([\w.]+)\)", lambda match: macros[match[1]], text)
