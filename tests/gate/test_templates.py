"""The templates of GitLab CI and Azure Pipelines, by running their scripts against loopback code hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.ci_jobs import ci_environment
from builders.code_hosts import TOKEN, AzureServer, CodeHostServer, GitLabServer, running
from builders.composite_action import clean_environment
from builders.git_repository import GitRepository
from builders.pipeline_templates import JobRun, Pipeline
from builders.sample_repository import pull_request, sample_repository
from builders.toy_market import small_job

TEMPLATES = Path(__file__).parents[2] / "plugin" / "trainfare" / "pull_request" / "ci"
SYSTEMS: dict[str, type[CodeHostServer]] = {"gitlab": GitLabServer, "azure": AzureServer}
HEAD = {"gitlab": "training-cost-head", "azure": "head"}
BASE = {"gitlab": "training-cost-base", "azure": "base"}
DEAR = {"small.json": small_job(steps=360_000).to_json()}
PRINTS_SECRETS = """\
import os, sys
print("##vso[task.setvariable variable=CHECK_CODE]0")
print("seen", [value for name, value in os.environ.items() if "TOKEN" in name], file=sys.stderr)
"""

pytestmark = pytest.mark.sources


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(system: str) -> Iterator[CodeHostServer]:
    with running(SYSTEMS[system]()) as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """The sample with a job that is a profile, which no test has to trace; a lock keeps the prices."""
    repository = sample_repository(tmp_path / "repository")
    policy = (repository.root / "trainfare.toml").read_text()
    repository.put("trainfare.toml", policy.replace("train.py:job", "small.json"))
    repository.put("small.json", small_job(steps=36_000).to_json())
    repository.commit("a profile")
    return repository


@pytest.fixture
def pipeline(host: CodeHostServer, repository: GitRepository, tmp_path: Path) -> Pipeline:
    environment = {**clean_environment(), **ci_environment(host, tmp_path)}
    for name in ("GITLAB_TOKEN", "SYSTEM_ACCESSTOKEN"):
        environment.pop(name, None)
    environment["TRAINFARE_PRICE_CACHE"] = str(tmp_path / "prices")
    return Pipeline(tmp_path / "machines", repository, environment, TOKEN)


def run(system: str, pipeline: Pipeline) -> tuple[JobRun, dict[str, JobRun]]:
    """Run a pipeline; return the job that judges, and all."""
    template = TEMPLATES / {"gitlab": "gitlab-ci.yml", "azure": "azure-pipelines.yml"}[system]
    runs = pipeline.run_gitlab(template) if system == "gitlab" else pipeline.run_azure(template)
    judge = runs["training-cost" if system == "gitlab" else "judge"]
    assert TOKEN not in "".join(job.log for job in runs.values())
    return judge, runs


def test_an_increase_over_the_limit_fails_and_is_said(
    system: str, host: CodeHostServer, repository: GitRepository, pipeline: Pipeline, tmp_path: Path
) -> None:
    """Exit code 1, the comment, JSON and JUnit; a second run replaces the comment, and the same cost passes."""
    pull_request(repository, DEAR)
    judge, _ = run(system, pipeline)
    assert judge.exit_code == 1, judge.log
    (text,) = host.texts()
    assert "## trainfare check: failed" in text
    assert "TF005 max\\_increase\\_percent: broken: " in text
    assert "36,000 -&gt; 360,000 optimizer steps" in text
    (results,) = (report for report in pipeline.folder.rglob("check.xml") if "artifact" not in report.parts)
    assert "<testsuite" in results.read_text()
    assert results.with_name("check.json").is_file()
    installed = [file.read_text() for file in pipeline.folder.rglob("installed.txt")]
    assert sorted(text.partition(" @")[0] for text in installed) == [
        "trainfare[ci]",
        *["trainfare[lightning]"] * 2,
    ]

    repository.git("switch", "--quiet", "--detach", "main")
    repository.git("commit", "--quiet", "--allow-empty", "--message", "the same cost")
    pipeline.folder = tmp_path / "again"
    host.read_only = True
    judge, _ = run(system, pipeline)
    assert judge.exit_code == 0, judge.log
    assert "no comment on the pull request: " in judge.log
    assert "403" in judge.log
    assert host.texts() == [text]


def test_code_of_the_branch_sees_no_token_and_decides_nothing(
    system: str, host: CodeHostServer, repository: GitRepository, pipeline: Pipeline
) -> None:
    """The job that runs it has none; what it prints is no command to an agent; its files are none of the judge's."""
    mark = f"import os, pathlib\npathlib.Path({str(pipeline.folder / 'ran')!r}).touch()\nos._exit(0)\n"
    policy = (repository.root / "trainfare.toml").read_text()
    modules = dict.fromkeys(("sitecustomize.py", "typer/__init__.py", "trainfare.py", "venv.py"), mark)
    files = {"trainfare.toml": policy.replace("small.json", "train.py"), "train.py": PRINTS_SECRETS}
    pull_request(repository, files | modules)
    judge, runs = run(system, pipeline)
    assert judge.exit_code == 2, judge.log
    assert "TF008 not\\_checked" in host.texts()[0]
    assert "seen []" in runs[HEAD[system]].log
    assert not (pipeline.folder / "ran").exists()


def test_artifacts_are_judged_as_what_a_branch_says_of_itself(
    system: str, host: CodeHostServer, repository: GitRepository, pipeline: Pipeline
) -> None:
    """Files of a hostile archive outside of its folder are not those of the base, and no hook of it runs."""
    ran = pipeline.folder / "ran"

    def attack(folder: Path) -> None:
        hooks = folder / ".git" / "hooks"
        hooks.mkdir(parents=True)
        for name in ("post-checkout", "reference-transaction"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
            (hooks / name).chmod(0o755)
        (folder / "trainfare.toml").write_text("")
        (folder / "venv.py").write_text(f"open({str(ran)!r}, 'w')\n")
        forged = folder / "training-cost-base.forged"
        forged.mkdir()
        (forged / "small.json").write_text(DEAR["small.json"])

    pipeline.tamper = {HEAD[system]: attack}
    pull_request(repository, DEAR)
    judge, _ = run(system, pipeline)
    assert judge.exit_code == 2, judge.log
    assert not ran.exists()
    if system == "gitlab":
        assert "artifact is not the only one of its name" in host.texts()[0]


@pytest.mark.parametrize("system", ["azure"], indirect=True)  # GitLab's has a name that no other job can know
def test_an_artifact_of_the_base_that_another_job_wrote_is_not_used(
    host: CodeHostServer, repository: GitRepository, pipeline: Pipeline, system: str
) -> None:
    """Azure Pipelines finds artifacts by name, which code of the change may take: the sum of the job is another one."""

    def forge(folder: Path) -> None:
        (folder / "small.json").write_text(DEAR["small.json"])

    pipeline.tamper = {"base": forge}
    pull_request(repository, DEAR)
    judge, _ = run(system, pipeline)
    assert judge.exit_code == 3, judge.log
    assert "it has no small.json" in host.texts()[0]


@pytest.mark.parametrize(("side", "code"), [(HEAD, 2), (BASE, 3)], ids=["head", "base"])
def test_a_trace_that_hangs_is_never_a_pass(
    system: str,
    host: CodeHostServer,
    repository: GitRepository,
    pipeline: Pipeline,
    side: dict[str, str],
    code: int,
) -> None:
    """Without the change's profiles the check fails; without the base's it cannot tell what the change adds."""
    pipeline.hung = frozenset({side[system]})
    pull_request(repository, {"README.md": "words\n"})
    judge, _ = run(system, pipeline)
    assert judge.exit_code == (2 if system == "gitlab" else code), judge.log
    assert host.texts()


def test_profiles_that_are_committed_are_not_those_of_a_trace(
    system: str, host: CodeHostServer, repository: GitRepository, pipeline: Pipeline
) -> None:
    """A branch that commits folders of the names that the jobs use is not judged by them."""
    cheap = small_job(steps=10).to_json()
    folders = ("training-cost-head", "training-cost-base.committed", "head", "base")
    policy = (repository.root / "trainfare.toml").read_text()
    files = {f"{folder}/small.json": cheap for folder in folders}
    pull_request(repository, files | {f"{folder}/trainfare.toml": policy for folder in folders})
    pipeline.hung = frozenset({HEAD[system], BASE[system]})
    judge, _ = run(system, pipeline)
    assert judge.exit_code == 2, judge.log
    assert "no job was traced" in host.texts()[0] or "no folder" in host.texts()[0]


def test_a_base_without_a_policy_has_no_jobs(
    system: str, host: CodeHostServer, repository: GitRepository, pipeline: Pipeline
) -> None:
    """The merge request that brings the policy is judged by it."""
    policy = (repository.root / "trainfare.toml").read_text()
    repository.git("rm", "--quiet", "trainfare.toml")
    repository.commit("no policy yet")
    pull_request(repository, {"trainfare.toml": policy})
    judge, _ = run(system, pipeline)
    assert judge.exit_code == 0, judge.log
    assert "the base has no policy" in host.texts()[0]
