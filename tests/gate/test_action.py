"""The GitHub Action, by running its steps in bash in a real repository against a loopback GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from builders.ci_jobs import github_environment
from builders.code_hosts import TOKEN, Answer, GitHubServer, running
from builders.composite_action import ActionRun, clean_environment, run_action
from builders.environments import lean_python
from builders.git_repository import GitRepository
from builders.sample_repository import AS_OF, LONGER, policy_with_waiver, pull_request, sample_repository
from builders.source_install import PIP
from builders.toy_market import small_job

ACTION = Path(__file__).parents[2] / ".github" / "actions" / "check" / "action.yml"
NOT_RUN = {
    "actions/setup-python": "the tests' own Python is there",
    "actions/cache": "it talks to GitHub's cache service",
    "actions/cache/restore": "it talks to GitHub's cache service",
    "actions/cache/save": "it talks to GitHub's cache service",
    "github/codeql-action/upload-sarif": "it talks to GitHub's code scanning",
}
INSTALLED = {"Install trainfare": "another test runs it; here it is the source tree that is under test"}
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
    *,
    source: str = "octo/models",
    install: bool = False,
    installed: bool = False,
) -> ActionRun:
    """Run the action in the repository; `source` is where the branch comes from, `installed` what another run did."""
    away = repository.root.parent / "runner"
    job = {**clean_environment(), **github_environment(github, away, source=source)}
    job |= {**PIP, "PIP_TARGET": str(away / "site")}
    job["PATH"] = f"{Path(lean_python()).parent}:{job['PATH']}"
    if install or installed:  # nothing else can be what runs
        job["PATH"] = f"{away / 'site' / 'bin'}:{job['PATH']}"
        job["PYTHONPATH"] = str(away / "site")
    job |= {"TRAINFARE_PRICE_CACHE": str(away / "prices"), "HOME": str(away / "home")}
    return run_action(
        ACTION,
        inputs={"arguments": AS_OF, **inputs},
        environment=job,
        workspace=repository.root,
        temp=away / "temp",
        not_run=NOT_RUN if install else NOT_RUN | INSTALLED,
    )


def reports(run: ActionRun) -> dict[str, bytes]:
    """Return the files of a run's report but its log."""
    folder = Path(run.outputs["report"])
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "check.log"}


def test_over_the_limit_it_fails_and_says_why_on_the_pull_request(
    github: GitHubServer, repository: GitRepository
) -> None:
    """
    Exit code 1, one comment with the change and its cause, annotations, a summary, SARIF.

    The second run has the traces of the first one, and gives the same bytes.
    """
    pull_request(repository, LONGER)
    runs = [
        act(github, repository, {"sarif": "true"}, install=True),
        act(github, repository, {"sarif": "true"}, installed=True),
    ]
    for run in runs:
        assert run.exit_code == 1, run.log
        assert run.outputs["exit-code"] == "1"
        assert run.outputs["comment-url"] == "https://github.example/octo/models/pull/7#issuecomment-1"
        assert run.not_run["Upload SARIF"]
        assert run.ran[-1] == "End with the exit code of the check"
    (text,) = github.texts()
    assert text.startswith("<!-- trainfare comment: check -->\n\n## trainfare check: failed\n")
    assert "TF005 max\\_increase\\_percent: broken: " in text
    assert "1,000,000 -&gt; 3,000,000 optimizer steps" in text
    assert "checked at 1f9a2b3c4d" in text
    assert runs[0].summary.rstrip() in text
    assert reports(runs[0]) == reports(runs[1])
    assert set(reports(runs[0])) == {"comment.md", "check.json", "check.sarif", "annotations.txt"}
    assert "::error file=train.py,line=" in runs[0].log
    assert TOKEN not in runs[0].log
    assert len(repository.worktrees()) == 1
    assert repository.git("status", "--porcelain") == ""
    assert runs[0].not_run["Keep the traces"]
    before, _, after = runs[0].log.partition("::error title=injected::")
    stop = before.rpartition("::stop-commands::")[2].splitlines()[0]
    assert len(stop) == 32
    assert f"::{stop}::" in after


def test_a_waiver_passes_it_and_an_expired_one_does_not(
    github: GitHubServer, repository: GitRepository
) -> None:
    """The waiver comes with the branch; the comment has its owner and date, and says when it has expired."""
    pull_request(repository, policy_with_waiver("2026-11-24"))
    run = act(github, repository, {"compare-to": ""})
    assert run.exit_code == 0, run.log
    assert "printed by the job" in run.log
    (text,) = github.texts()
    assert "## trainfare check: passed" in text
    assert "ml-platform" in text
    repository.put("trainfare.toml", policy_with_waiver("2026-11-23")["trainfare.toml"])
    repository.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    run = act(github, repository, {"compare-to": ""})
    assert run.exit_code == 1, run.log
    assert "printed by the job" not in run.log, "the trace of the first run is there: no code of the job ran"
    (text,) = github.texts()
    assert "## trainfare check: failed" in text
    assert "TF009 waiver" in text


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
    run = act(github, repository, {**inputs, "requirements": "requirements.txt\n"}, install=True)
    assert run.exit_code == 0, run.log
    run = act(github, repository, {**inputs, "requirements": "requirements.txt\nnone.txt"}, install=True)
    assert run.exit_code == 1
    assert "none.txt" in run.log
    assert "Check" not in run.ran
