"""Runs the jobs of a reusable workflow, each in a checkout and with a temporary folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from builders.composite_action import ActionRun, Runner, StandIn
from builders.git_repository import GitRepository
from builders.runner_python import put_python

READ_TOKEN = "rEaDoNlY"
"""The token of a job that may not write."""


@dataclass
class Machines:
    """
    Where the jobs of a workflow run.

    Attributes:
        folder: has a folder for each job.
        repository: what they check out.
        environment: of each job; the token is given to those that may write.
        tamper: what code of a job does to its artifact, by job.
        hung: jobs that run past their time limit.
        artifacts: by number, what was uploaded.
    """

    folder: Path
    repository: GitRepository
    environment: Mapping[str, str]
    tamper: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    hung: frozenset[str] = frozenset()
    artifacts: dict[str, Path] = field(default_factory=dict)

    def run_workflow(self, workflow: Path, inputs: Mapping[str, str]) -> dict[str, ActionRun]:
        """Run a workflow; return what each of its jobs did, without those that were skipped."""
        document = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        called = document[True]["workflow_call"]["inputs"]  # YAML's `on` is a truth value
        values = {f"inputs.{name}": str(inputs.get(name, each["default"])) for name, each in called.items()}
        assert set(inputs) <= set(called)
        runs: dict[str, ActionRun] = {}
        failed = False
        for name, job in document["jobs"].items():
            runner = self._runner(name, may_write="write" in job["permissions"].values())
            context = runner.context(values)
            condition = job.get("if", "")
            if not context.holds(condition) or (failed and "needs" in job and "always()" not in condition):
                continue
            run = runs[name] = runner.done
            run.exit_code = 1 if name in self.hung else runner.run_steps(job["steps"], context)
            failed = failed or run.exit_code != 0
            run.outputs = {key: context.text(value) for key, value in job.get("outputs", {}).items()}
            values |= {f"needs.{name}.outputs.{key}": value for key, value in run.outputs.items()}
        return runs

    def _runner(self, name: str, *, may_write: bool) -> Runner:
        workspace, temp = self.folder / name / "checkout", self.folder / name / "temp"
        workspace.mkdir(parents=True)

        def check_out(arguments: dict[str, str]) -> dict[str, str]:
            assert arguments["persist-credentials"] == "False"
            depth = arguments.get("fetch-depth", "1")
            url = self.repository.root.as_uri()
            self.repository.git("clone", "--quiet", "--depth", depth, url, str(workspace))
            return {}

        def upload(arguments: dict[str, str]) -> dict[str, str]:
            source = Path(arguments["path"])
            if not source.is_dir():
                assert arguments["if-no-files-found"] == "ignore"
                return {}
            number = str(100 + len(self.artifacts))
            self.artifacts[number] = self.folder / f"artifact-{number}"
            shutil.copytree(source, self.artifacts[number])
            self.tamper.get(name, lambda _folder: None)(self.artifacts[number])
            return {"artifact-id": number}

        def download(arguments: dict[str, str]) -> dict[str, str]:
            assert arguments["merge-multiple"] == "True"
            artifact = self.artifacts.get(arguments["artifact-ids"])
            if artifact is None:
                raise FileNotFoundError
            shutil.copytree(artifact, arguments["path"], symlinks=True)
            return {}

        stand_ins: dict[str, StandIn] = {
            "actions/setup-python": "the tests' own Python is there",
            "actions/checkout": check_out,
            "actions/upload-artifact": upload,
            "actions/download-artifact": download,
        }
        environment = {**self.environment, "HOME": str(self.folder / name)}
        environment["PATH"] = f"{put_python(self.folder / name / 'python')}:{environment['PATH']}"
        if not may_write:
            environment["GITHUB_TOKEN"] = READ_TOKEN
        return Runner(environment, workspace, temp, stand_ins)
