"""The actions `trace` and `judge` by themselves, as a workflow of one's own uses them: requirements, SARIF, refused comments."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from builders.ci_jobs import github_environment
from builders.code_hosts import TOKEN, Answer, GitHubServer, running
from builders.composite_action import ActionRun, StandIn, clean_environment, run_action
from builders.git_repository import GitRepository
from builders.runner_python import put_python
from builders.sample_repository import AS_OF, LONGER, pull_request, sample_repository
from builders.toy_market import small_job

ACTIONS = Path(__file__).parents[2] / ".github" / "actions"
BROKEN = {
    "train.py": (Path(__file__).parent / "sample" / "train.py")
    .read_text(encoding="utf-8")
    .replace("self.head(self.body(batch)).mean()", "self.head(self.body(batch[batch > 0])).mean()")
}
POLICY = 'lock = "trainfare.lock"\n\n[jobs.small]\ntarget = "small.json"\nmax_usd = {max_usd}\n'

pytestmark = pytest.mark.sources


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with running(GitHubServer()) as server:
        assert isinstance(server, GitHubServer)
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return sample_repository(tmp_path / "checkout")


def profile_only(repository: GitRepository, *, max_usd: str) -> None:
    """Make the one job of the policy a profile, which no test has to trace."""
    repository.put("trainfare.toml", POLICY.format(max_usd=max_usd))
    repository.put("small.json", small_job().to_json())
    repository.commit("a profile")


class Actions:
    """The two actions in one checkout; what `trace` uploads, `judge` downloads."""

    def __init__(self, github: GitHubServer, repository: GitRepository) -> None:
        self.folder = repository.root.parent / "runner"
        self.repository = repository
        self._environment = {**clean_environment(), **github_environment(github, self.folder)}
        self._environment["PATH"] = f"{put_python(self.folder / 'python')}:{self._environment['PATH']}"
        home = {"TRAINFARE_PRICE_CACHE": str(self.folder / "prices"), "HOME": str(self.folder / "home")}
        self._environment |= home
        self._stand_ins: dict[str, StandIn] = {
            "actions/setup-python": "the tests' own Python is there",
            "github/codeql-action/upload-sarif": "it talks to GitHub's code scanning",
            "actions/upload-artifact": self._upload,
            "actions/download-artifact": self._download,
        }

    def trace(self, inputs: Mapping[str, str] | None = None) -> ActionRun:
        return self._run("trace", inputs or {})

    def judge(self, inputs: Mapping[str, str] | None = None) -> ActionRun:
        """Judge what was traced, as change and as base."""
        artifacts = {"artifact-id": "1", "base-artifact-id": "1"}
        return self._run("judge", {"arguments": AS_OF, **artifacts, **(inputs or {})})

    def _run(self, name: str, inputs: Mapping[str, str]) -> ActionRun:
        return run_action(
            ACTIONS / name / "action.yml",
            inputs=inputs,
            environment=self._environment,
            workspace=self.repository.root,
            temp=self.folder / "temp",
            not_run=self._stand_ins,
        )

    def _upload(self, arguments: dict[str, str]) -> dict[str, str]:
        shutil.copytree(arguments["path"], self.folder / "artifact")
        return {"artifact-id": "1"}

    def _download(self, arguments: dict[str, str]) -> dict[str, str]:
        shutil.copytree(self.folder / "artifact", arguments["path"])
        return {}


def test_a_change_over_its_limit_is_annotated_and_uploaded(
    github: GitHubServer, repository: GitRepository
) -> None:
    """Exit code 1, annotations, a summary and SARIF; what the code printed while it was traced was no command."""
    policy = (repository.root / "trainfare.toml").read_text().replace("max_usd = 100", "max_usd = 0.01")
    pull_request(repository, {**LONGER, "trainfare.toml": policy})
    actions = Actions(github, repository)
    traced = actions.trace()
    assert traced.exit_code == 0, traced.log
    before, _, after = traced.log.partition("::error title=injected::")
    stop = before.rpartition("::stop-commands::")[2].splitlines()[0]
    assert len(stop) == 32
    assert f"::{stop}::" in after

    run = actions.judge({"sarif": "true"})
    assert run.exit_code == 1, run.log
    assert run.outputs["exit-code"] == "1"
    assert run.outputs["comment-url"] == "https://github.example/octo/models/pull/7#issuecomment-1"
    assert run.not_run["Upload SARIF"]
    (text,) = github.texts()
    assert text.startswith("<!-- trainfare comment: check -->\n\n## trainfare check: failed\n")
    assert "checked at 1f9a2b3c4d" in text
    assert run.summary.rstrip() in text
    files = {file.name for file in Path(run.outputs["report"]).iterdir()}
    assert files == {"comment.md", "check.json", "check.log", "check.sarif", "annotations.txt"}
    assert "::error file=train.py,line=" in run.log
    assert TOKEN not in run.log
    assert repository.git("status", "--porcelain") == ""


def test_a_step_that_cannot_be_traced_is_no_pass(github: GitHubServer, repository: GitRepository) -> None:
    """It fails with exit code 2, and the comment has what is wrong, and the line where it is."""
    pull_request(repository, BROKEN)
    actions = Actions(github, repository)
    assert actions.trace().exit_code == 0
    run = actions.judge()
    assert run.exit_code == 2, run.log
    (text,) = github.texts()
    assert "TF008 not\\_checked" in text
    assert "train.py:21 in training\\_step" in text
    assert "exit code 2" in text


@pytest.mark.parametrize(("trouble", "max_usd", "code"), [("too long", "0.01", 1), ("rate limit", "5", 0)])
def test_a_comment_that_is_refused_changes_no_exit_code(
    github: GitHubServer, repository: GitRepository, trouble: str, max_usd: str, code: int
) -> None:
    """422 of a text that GitHub does not take, 429: a warning, the summary, and the code of the check."""
    if trouble == "too long":
        github.longest = 10
    else:
        github.faults = {"GET": [Answer(429, {"message": "later"}, (("Retry-After", "900"),))]}
    profile_only(repository, max_usd=max_usd)
    actions = Actions(github, repository)
    actions.trace()
    run = actions.judge()
    assert run.exit_code == code, run.log
    assert github.comments == []
    said = {"too long": "422", "rate limit": "for another 900 s"}[trouble]
    assert "::warning title=trainfare comment::no comment on the pull request: " in run.log
    assert said in run.log
    assert run.summary.startswith("## trainfare check: ")
    assert said in run.summary


def test_requirements_are_installed_with_trainfare(github: GitHubServer, repository: GitRepository) -> None:
    """The files go to one pip together with trainfare, so that their pins hold; a missing one ends the job."""
    profile_only(repository, max_usd="5")
    repository.put("requirements.txt", "# nothing more\n")
    actions = Actions(github, repository)
    run = actions.trace({"requirements": "requirements.txt\n"})
    assert run.exit_code == 0, run.log
    (installed,) = actions.folder.rglob("installed.txt")
    package, *others = installed.read_text().splitlines()
    assert package.endswith("/.github/actions/trace/../../..[lightning]")
    assert others == ["--requirement", "requirements.txt"]
    run = actions.trace({"requirements": "requirements.txt\nnone.txt"})
    assert run.exit_code == 1
    assert "no file none.txt" in run.log
    assert "Upload the profiles" not in run.ran
