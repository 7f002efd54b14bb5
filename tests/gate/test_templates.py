"""The templates of GitLab CI and Azure Pipelines, by running their scripts against loopback code hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders.ci_jobs import ci_environment
from builders.code_hosts import TOKEN, AzureServer, CodeHostServer, GitLabServer, running
from builders.composite_action import clean_environment
from builders.environments import lean_python
from builders.git_repository import GitRepository
from builders.pipeline_templates import PipelineRun, run_azure_pipeline, run_gitlab_job
from builders.sample_repository import pull_request, sample_repository
from builders.source_install import PIP
from builders.toy_market import small_job

TOP = Path(__file__).parents[2]
TEMPLATES = TOP / "examples" / "ci"

pytestmark = pytest.mark.sources


def gitlab(environment: dict[str, str], repository: GitRepository) -> PipelineRun:
    base = repository.git("rev-parse", "HEAD^1").strip()
    environment |= {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "CI_PROJECT_DIR": str(repository.root)}
    return run_gitlab_job(TEMPLATES / "gitlab-ci.yml", "training-cost", environment, repository.root)


def azure(environment: dict[str, str], repository: GitRepository) -> PipelineRun:
    secrets = {"System.AccessToken": environment.pop("SYSTEM_ACCESSTOKEN")}
    return run_azure_pipeline(TEMPLATES / "azure-pipelines.yml", environment, secrets, repository.root)


RUNS: dict[str, tuple[type[CodeHostServer], Callable[[dict[str, str], GitRepository], PipelineRun]]] = {
    "gitlab": (GitLabServer, gitlab),
    "azure": (AzureServer, azure),
}


@pytest.fixture(params=RUNS)
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(system: str) -> Iterator[CodeHostServer]:
    with running(RUNS[system][0]()) as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """The sample with a job that is a profile, which no test has to trace; a lock keeps the prices."""
    repository = sample_repository(tmp_path / "checkout")
    policy = (repository.root / "trainfare.toml").read_text()
    repository.put("trainfare.toml", policy.replace("train.py:job", "small.json"))
    repository.put("small.json", small_job(steps=36_000).to_json())
    repository.put(".gitignore", "*\n")  # the reports and caches of the job
    repository.git("add", "--force", "small.json", ".gitignore")
    repository.git("commit", "--quiet", "--all", "--message", "a profile")
    return repository


def run(system: str, host: CodeHostServer, repository: GitRepository) -> PipelineRun:
    away = repository.root.parent / "runner"
    away.mkdir(exist_ok=True)
    environment = {**clean_environment(), **ci_environment(host, away), **PIP}
    environment |= {"PIP_TARGET": str(away / "site"), "PYTHONPATH": str(away / "site")}
    environment |= {
        "TRAINFARE_PACKAGE": f"{TOP}[lightning,ci]",
        "TRAINFARE_PRICE_CACHE": str(away / "prices"),
    }
    environment["PATH"] = f"{away / 'site' / 'bin'}:{Path(lean_python()).parent}:{environment['PATH']}"
    for report in ("comment.md", "check.json", "check.xml"):
        (repository.root / report).unlink(missing_ok=True)
    return RUNS[system][1](environment, repository)


def test_an_increase_over_the_limit_fails_and_is_said(
    system: str, host: CodeHostServer, repository: GitRepository
) -> None:
    """Exit code 1, the comment, JSON and JUnit; a second run replaces the comment."""
    pull_request(repository, {"small.json": small_job(steps=360_000).to_json()})
    for _ in range(2):
        done = run(system, host, repository)
        assert done.exit_code == 1, done.log
        (text,) = host.texts()
        assert "## trainfare check: failed" in text
        assert "TF005 max\\_increase\\_percent: broken: " in text
        assert "36,000 -&gt; 360,000 optimizer steps" in text
    assert "<testsuite" in (repository.root / "check.xml").read_text()
    assert (repository.root / "check.json").is_file()
    assert TOKEN not in done.log


def test_a_refused_comment_changes_no_exit_code(
    system: str, host: CodeHostServer, repository: GitRepository
) -> None:
    """A token without the permission: a warning, and the code of the check, which passes."""
    host.read_only = True
    pull_request(repository, {"README.md": "words\n"})
    done = run(system, host, repository)
    assert done.exit_code == 0, done.log
    assert "no comment on the pull request: " in done.log
    assert "403" in done.log
    assert host.comments == []


def test_a_check_without_an_answer_is_said(
    system: str, host: CodeHostServer, repository: GitRepository
) -> None:
    """A policy that cannot be read ends with 2, and the comment has the error; what it holds is no command to an agent."""
    pull_request(repository, {"trainfare.toml": '"##vso[task.setvariable variable=CHECK_CODE]0" = 1\n'})
    done = run(system, host, repository)
    assert done.exit_code == 2, done.log
    assert "bad usage or input" in host.texts()[0]
    assert "unknown key" in host.texts()[0]
