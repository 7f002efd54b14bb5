"""The GitHub action that traces and judges on one machine, by running its steps in bash in a real repository against a loopback GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from builders.ci_jobs import github_environment
from builders.code_hosts import TOKEN, Answer, GitHubServer, running
from builders.composite_action import ActionRun, clean_environment, run_action
from builders.git_repository import GitRepository
from builders.hostile_job import ATTACKS, attack
from builders.runner_python import put_python
from builders.sample_repository import AS_OF, LONGER, pull_request, sample_repository
from builders.toy_market import small_job

ACTION = Path(__file__).parents[2] / ".github" / "actions" / "check" / "action.yml"
NOT_RUN = {
    "actions/setup-python": "the tests' own Python is there",
    "github/codeql-action/upload-sarif": "it talks to GitHub's code scanning",
}
BROKEN = {
    "train.py": (Path(__file__).parent / "sample" / "train.py")
    .read_text(encoding="utf-8")
    .replace("self.head(self.body(batch)).mean()", "self.head(self.body(batch[batch > 0])).mean()")
}

pytestmark = pytest.mark.sources


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with running(GitHubServer()) as server:
        assert isinstance(server, GitHubServer)
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    repository = sample_repository(tmp_path / "checkout")
    repository.put("small.json", small_job().to_json())
    repository.commit("a profile")
    return repository


def act(
    github: GitHubServer,
    repository: GitRepository,
    inputs: Mapping[str, str],
    settings: Mapping[str, str] | None = None,
    *,
    source: str = "octo/models",
) -> ActionRun:
    """Run the action in the repository; `source` is where the branch comes from, `settings` are variables of the job."""
    away = repository.root.parent / "runner"
    job = {**clean_environment(), **github_environment(github, away, source=source), **(settings or {})}
    job["PATH"] = f"{put_python(away / 'python')}:{job['PATH']}"
    job |= {"TRAINFARE_PRICE_CACHE": str(away / "prices"), "HOME": str(away / "home")}
    return run_action(
        ACTION,
        inputs={"arguments": AS_OF, **inputs},
        environment=job,
        workspace=repository.root,
        temp=away / "temp",
        not_run=NOT_RUN,
    )


def test_over_the_limit_it_fails_and_says_why_on_the_pull_request(
    github: GitHubServer, repository: GitRepository
) -> None:
    """Exit code 1, one comment with the change and its cause, annotations, a summary, SARIF; and what to use instead."""
    pull_request(repository, LONGER)
    run = act(github, repository, {"sarif": "true"})
    assert run.exit_code == 1, run.log
    assert run.outputs["exit-code"] == "1"
    assert run.outputs["comment-url"] == "https://github.example/octo/models/pull/7#issuecomment-1"
    assert run.not_run["Upload SARIF"]
    (text,) = github.texts()
    assert text.startswith("<!-- trainfare comment: check -->\n\n## trainfare check: failed\n")
    assert "TF005 max\\_increase\\_percent: broken: " in text
    assert "1,000,000 -&gt; 3,000,000 optimizer steps" in text
    assert "checked at 1f9a2b3c4d" in text
    assert run.summary.rstrip() in text
    files = {file.name for file in Path(run.outputs["report"]).iterdir()}
    assert files == {"comment.md", "check.json", "check.log", "check.sarif", "annotations.txt"}
    assert "::warning title=trainfare check::this action traces and judges on one machine" in run.log
    assert "::error file=train.py,line=" in run.log
    assert TOKEN not in run.log
    assert len(repository.worktrees()) == 1
    assert repository.git("status", "--porcelain") == ""
    before, _, after = run.log.partition("::error title=injected::")
    stop = before.rpartition("::stop-commands::")[2].splitlines()[0]
    assert len(stop) == 32
    assert f"::{stop}::" in after


@pytest.mark.parametrize("sandbox", [True, False])
@pytest.mark.parametrize("name", ATTACKS)
def test_code_of_a_branch_does_not_make_it_pass(
    github: GitHubServer,
    repository: GitRepository,
    tmp_path: Path,
    name: str,
    sandbox: bool,
) -> None:
    """
    What the code writes into the runner's files counts for no later step; the token stays unread.

    Without a sandbox it gets there, and that is said.
    """
    policy = (repository.root / "trainfare.toml").read_text().replace("max_usd = 100", "max_usd = 0.01")
    pull_request(repository, {"train.py": attack(tmp_path / "loot", name), "trainfare.toml": policy})
    run = act(github, repository, {"compare-to": ""}, {} if sandbox else {"TRAINFARE_NO_SANDBOX": "1"})
    assert "attacked" in run.log
    assert run.exit_code == (1 if sandbox else 2), run.log
    assert run.outputs["exit-code"] == str(run.exit_code)
    assert not (tmp_path / "loot").exists()
    assert ("code of the job wrote into the runner" in github.texts()[0]) is not sandbox


def test_a_step_that_cannot_be_traced_cannot_be_told(github: GitHubServer, repository: GitRepository) -> None:
    """Exit code 3, and the comment has what is wrong, and the line where it is."""
    pull_request(repository, BROKEN)
    run = act(github, repository, {"compare-to": ""})
    assert run.exit_code == 3, run.log
    (text,) = github.texts()
    assert "TF008 not\\_checked" in text
    assert "train.py:21 in training\\_step" in text
    assert "exit code 3" in text


def test_a_target_that_cannot_be_checked_is_said_in_the_comment(
    github: GitHubServer, repository: GitRepository
) -> None:
    """Without a report the comment has the error; limits and TARGET come from the inputs."""
    run = act(github, repository, {"target": "none.py:job", "arguments": f"--max-usd=5\n\n{AS_OF}\n"})
    assert run.exit_code == 2, run.log
    (text,) = github.texts()
    assert "## trainfare check: bad usage or input" in text
    assert "none.py" in text
    assert "exit code 2" in text
    assert "give actions/checkout fetch-depth: 2" in run.log
    assert run.summary.startswith("## trainfare check: bad usage")


def test_names_are_text_to_the_shell(github: GitHubServer, repository: GitRepository) -> None:
    """A target, a branch, an argument and a key of an attacker run nothing, whatever they hold."""
    evil = "$(touch pwned)`touch pwned`\"; touch pwned; '"
    for inputs in (
        {"target": f"{evil}.py:job", "arguments": "--max-usd=5"},
        {"target": "--help"},
        {"target": "small.json", "arguments": f"--max-usd={evil}"},
        {"target": "small.json", "arguments": "--max-usd=5", "compare-to": f"--upload-pack={evil}"},
    ):
        assert act(github, repository, inputs).exit_code == 2, inputs
    run = act(github, repository, {"target": "small.json", "arguments": "--max-usd=5", "key": evil})
    assert run.exit_code == 0, run.log
    assert "::warning title=trainfare comment::it ended with exit code 2" in run.log
    assert list(repository.root.rglob("pwned")) == list(repository.root.parent.rglob("pwned")) == []
    assert len(github.comments) == 1


@pytest.mark.parametrize(
    ("trouble", "usd", "code"),
    [("read-only fork", "0.01", 1), ("too long", "0.01", 1), ("rate limit", "5", 0)],
)
def test_a_comment_that_is_refused_changes_no_exit_code(
    github: GitHubServer, repository: GitRepository, trouble: str, usd: str, code: int
) -> None:
    """403 of a fork, 422 of a text that GitHub does not take, 429: a warning, the summary, and the code of the check."""
    if trouble == "read-only fork":
        github.read_only = True
    elif trouble == "too long":
        github.longest = 10
    else:
        github.faults = {"GET": [Answer(429, {"message": "later"}, (("Retry-After", "900"),))]}
    source = "mallory/models" if trouble == "read-only fork" else "octo/models"
    run = act(github, repository, {"target": "small.json", "arguments": f"--max-usd={usd}"}, source=source)
    assert run.exit_code == code, run.log
    assert github.comments == []
    words = {"read-only fork": "comes from a fork", "too long": "422", "rate limit": "for another 900 s"}
    assert "::warning title=trainfare comment::no comment on the pull request: " in run.log
    assert words[trouble] in run.log
    assert run.summary.startswith("## trainfare check: ")
    assert words[trouble] in run.summary


def test_requirements_are_installed_with_trainfare(github: GitHubServer, repository: GitRepository) -> None:
    """The files go to one pip together with trainfare, so that their pins hold; a missing one ends the job."""
    repository.put("more/requirements.txt", "# nothing more\n")
    inputs = {"working-directory": "more", "target": "../small.json", "arguments": "--max-usd=5"}
    run = act(github, repository, {**inputs, "requirements": "requirements.txt\n"})
    assert run.exit_code == 0, run.log
    (installed,) = repository.root.parent.glob("runner/python/installed.txt")
    package, *others = installed.read_text().splitlines()
    assert package.endswith("/.github/actions/check/../../..[lightning,ci]")
    assert others == ["--requirement", "requirements.txt"]
    run = act(github, repository, {**inputs, "requirements": "requirements.txt\nnone.txt"})
    assert run.exit_code == 1
    assert "none.txt" in run.log
    assert github.texts() != []
