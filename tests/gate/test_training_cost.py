"""The reusable workflow, by running its three jobs in bash in real checkouts against a loopback GitHub."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders.ci_jobs import github_environment
from builders.code_hosts import TOKEN, GitHubServer, running
from builders.composite_action import ActionRun, StandIn, clean_environment, run_action
from builders.git_repository import GitRepository
from builders.hostile_job import ATTACKS, attack
from builders.reusable_workflow import Machines
from builders.sample_repository import AS_OF, LONGER, pull_request, sample_repository
from builders.source_install import PIP
from builders.toy_market import small_job

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "training-cost.yml"
SMALL = '\n[jobs.small]\ntarget = "small.json"\nmax_usd = 5\nmax_increase_percent = 50\n'
DEAR = {"small.json": small_job(steps=10_000_000).to_json()}
"""A change that breaks both limits."""

pytestmark = pytest.mark.sources


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with running(GitHubServer()) as server:
        assert isinstance(server, GitHubServer)
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """The sample, whose job is a profile, which no test has to trace."""
    repository = sample_repository(tmp_path / "repository")
    repository.put("trainfare.toml", 'lock = "trainfare.lock"\n' + SMALL)
    repository.put("small.json", small_job().to_json())
    repository.commit("a profile")
    return repository


@pytest.fixture
def machines(github: GitHubServer, repository: GitRepository, tmp_path: Path) -> Machines:
    environment = {**clean_environment(), **github_environment(github, tmp_path / "event")}
    environment["TRAINFARE_PRICE_CACHE"] = str(tmp_path / "prices")
    return Machines(tmp_path / "machines", repository, environment)


def run(machines: Machines) -> dict[str, ActionRun]:
    """Run the workflow; the token is in no file of the machines that ran code of a branch."""
    runs = machines.run_workflow(WORKFLOW, {"arguments": AS_OF, "requirements": ""})
    assert set(runs) == {"head", "base", "judge"}
    for job in ("head", "base"):
        for file in (machines.folder / job).rglob("*"):
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert not any(TOKEN in run.log for run in runs.values())
    return runs


def comment_of(github: GitHubServer) -> str:
    (text,) = github.texts()
    return text


def test_the_same_cost_passes_and_a_higher_one_does_not(
    github: GitHubServer, repository: GitRepository, machines: Machines, tmp_path: Path
) -> None:
    """Exit code 0 and a comment; then 1, with the change and the limits in the comment, the summary and the log."""
    pull_request(repository, {"README.md": "words\n"})
    runs = run(machines)
    assert [job.exit_code for job in runs.values()] == [0, 0, 0], runs["judge"].log
    assert "no change in cost" in comment_of(github)
    (installed,) = (machines.folder / "judge").rglob("installed.txt")
    assert installed.read_text().endswith("/.github/actions/judge/../../..[ci]\n"), "no package of the change"

    repository.put("small.json", DEAR["small.json"])
    repository.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    machines.folder = tmp_path / "again"
    runs = run(machines)
    assert runs["judge"].exit_code == 1, runs["judge"].log
    assert "TF001 max\\_usd: broken" in comment_of(github)
    assert "TF005 max\\_increase\\_percent: broken" in comment_of(github)
    assert runs["judge"].summary.rstrip() in comment_of(github)


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"trainfare.toml": 'lock = "trainfare.lock"\n' + SMALL.replace("= 5", "= 1e9")}, "raises max"),
        (
            {
                "trainfare.toml": 'lock = "trainfare.lock"\n'
                + SMALL.replace("jobs.small", "jobs.tiny").replace("= 5", "= 1e9")
            },
            "takes job small out of the policy",
        ),
    ],
    ids=["raised limit", "renamed job"],
)
def test_the_policy_of_the_base_decides(
    github: GitHubServer, repository: GitRepository, machines: Machines, files: dict[str, str], rule: str
) -> None:
    """A limit that the change raises holds as it was, and a job that it renames is missing."""
    pull_request(repository, {**files, **DEAR})
    runs = run(machines)
    assert runs["judge"].exit_code == 1, runs["judge"].log
    assert rule in comment_of(github), comment_of(github)


def test_the_first_policy_of_a_repository_is_judged_by_itself(
    github: GitHubServer, repository: GitRepository, machines: Machines
) -> None:
    """The base has no policy, so nothing of it was traced: a new job has no increase, and its other limits hold."""
    policy = (repository.root / "trainfare.toml").read_text()
    repository.git("rm", "--quiet", "trainfare.toml")
    repository.commit("no policy yet")
    pull_request(repository, {"trainfare.toml": policy})
    runs = run(machines)
    assert [job.exit_code for job in runs.values()] == [0, 0, 0], runs["judge"].log
    assert "the base has no policy" in comment_of(github)


def test_a_policy_that_is_not_valid_is_said(
    github: GitHubServer, repository: GitRepository, machines: Machines
) -> None:
    """The reason travels with the profiles that there are not, and names no command to the runner."""
    pull_request(repository, {"trainfare.toml": '"::error::x" = 1\n'})
    runs = run(machines)
    assert runs["judge"].exit_code == 2, runs["judge"].log
    assert "unknown key" in comment_of(github)


def remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


def fill(folder: Path) -> None:
    with (folder / "more").open("wb") as file:
        file.truncate(2**30)


def link(folder: Path) -> None:
    (folder / "small.json").unlink()
    (folder / "small.json").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("tamper", "said"), [(remove_all, "no job was traced"), (fill, "MiB"), (link, "is a link")]
)
def test_an_artifact_that_cannot_be_judged_fails(
    github: GitHubServer,
    repository: GitRepository,
    machines: Machines,
    tamper: Callable[[Path], None],
    said: str,
) -> None:
    """Missing, too large, with a link: exit code 2, and the comment has the reason."""
    machines.tamper = {"head": tamper}
    pull_request(repository, {"README.md": "words\n"})
    runs = run(machines)
    assert runs["judge"].exit_code == 2, runs["judge"].log
    assert said in comment_of(github)
    assert "root:" not in comment_of(github)


@pytest.mark.parametrize(("job", "code"), [("head", 2), ("base", 3)])
def test_a_trace_that_hangs_is_never_a_pass(
    github: GitHubServer, repository: GitRepository, machines: Machines, job: str, code: int
) -> None:
    """Without the change's profiles the check fails; without the base's it cannot tell what the change adds."""
    machines.hung = frozenset({job})
    pull_request(repository, {"README.md": "words\n"})
    runs = run(machines)
    assert runs["judge"].exit_code == code, runs["judge"].log
    assert (
        "not traced" in comment_of(github)
        or "no job was traced" in comment_of(github)
        or "the base" in comment_of(github)
    )


def test_a_branch_that_lies_lies_about_its_own_cost_alone(
    github: GitHubServer, repository: GitRepository, machines: Machines
) -> None:
    """
    What it uploads stands for its own cost: documented. It is compared with the base's that another machine traced.

    Its policy in the artifact is only what it says that it changes.
    """

    def lie(folder: Path) -> None:
        (folder / "small.json").write_text(small_job(steps=10).to_json())
        (folder / "sitecustomize.py").write_text("import os\nos._exit(0)\n")

    machines.tamper = {"head": lie}
    pull_request(repository, DEAR)
    runs = run(machines)
    assert runs["judge"].exit_code == 0
    assert "-&gt; 10 optimizer steps" in comment_of(github)


def test_code_of_a_branch_reaches_neither_the_verdict_nor_the_token(
    github: GitHubServer, repository: GitRepository, machines: Machines
) -> None:
    """Each attack through the runner's files at once, in the job that traces: the judge runs on another machine."""
    hostile = attack(machines.folder / "loot", *ATTACKS)
    policy = 'lock = "trainfare.lock"\n' + SMALL.replace("small.json", "train.py:job").replace(
        "= 5", "= 0.01"
    )
    repository.put("trainfare.toml", policy)
    repository.commit("the job is code")
    pull_request(repository, {**LONGER, "train.py": hostile})
    runs = run(machines)
    assert "attacked" in runs["head"].log
    assert runs["judge"].exit_code == 1, runs["judge"].log
    assert "TF001 max\\_usd: broken" in comment_of(github)
    assert not (machines.folder / "loot").exists(), (
        "the files that the attack wrote ran in no step with a token"
    )


def test_a_fork_has_the_verdict_in_the_summary(
    github: GitHubServer, repository: GitRepository, machines: Machines, tmp_path: Path
) -> None:
    """Its token can only read: no comment, with the reason, and the same exit code."""
    github.read_only = True
    event = github_environment(github, tmp_path / "fork", source="mallory/models")
    machines.environment = {**machines.environment, **event}
    pull_request(repository, DEAR)
    runs = run(machines)
    assert runs["judge"].exit_code == 1, runs["judge"].log
    assert github.comments == []
    assert "::warning title=trainfare comment::no comment on the pull request: " in runs["judge"].log
    assert "comes from a fork" in runs["judge"].summary
    assert "TF001 max\\_usd: broken" in runs["judge"].summary


def test_inputs_are_text_to_the_shell(repository: GitRepository, machines: Machines) -> None:
    """An argument, a folder, a file or a key of an attacker runs nothing, whatever it holds."""
    evil = "$(touch pwned)`touch pwned`\"; touch pwned; '"
    pull_request(repository, {"README.md": "words\n"})
    names = ("arguments", "trace-arguments", "requirements", "key", "working-directory")
    runs = machines.run_workflow(WORKFLOW, {**dict.fromkeys(names, evil), "python-version": ""})
    assert runs["judge"].exit_code == 2
    assert list(machines.folder.rglob("pwned")) == list(repository.root.rglob("pwned")) == []


def test_modules_of_the_checkout_are_no_modules_of_trainfare(
    github: GitHubServer, repository: GitRepository, machines: Machines
) -> None:
    """With PYTHONPATH of the checkout, too, no file of the branch runs in the process that judges or writes profiles."""
    mark = "import pathlib\npathlib.Path({!r}).touch()\nimport os\nos._exit(0)\n".format(
        str(machines.folder / "ran")
    )
    entry = "[trainfare.providers]\nx = x\n[pydantic]\nx = x\n"
    names = (
        "sitecustomize.py",
        "usercustomize.py",
        "typer/__init__.py",
        "trainfare.py",
        "venv.py",
        "pip/__init__.py",
        "x.py",
    )
    repository.put("X-1.dist-info/entry_points.txt", entry)
    repository.put("X-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: X\nVersion: 1\n")
    for name in names:
        repository.put(name, mark)
    repository.commit("modules, in the base too")
    pull_request(repository, DEAR)
    machines.environment = {**machines.environment, "PYTHONPATH": "."}
    runs = run(machines)
    assert runs["judge"].exit_code == 1, runs["judge"].log
    assert not (machines.folder / "ran").exists()


def test_an_event_whose_checkout_is_the_base_is_refused(
    github: GitHubServer, repository: GitRepository, machines: Machines
) -> None:
    """With pull_request_target the change would not be seen: it would be the base that is compared with nothing."""
    pull_request(repository, {"README.md": "words\n"})
    machines.environment = {**machines.environment, "GITHUB_EVENT_NAME": "pull_request_target"}
    runs = machines.run_workflow(WORKFLOW, {})
    assert set(runs) == {"head", "judge"}
    assert runs["judge"].exit_code == 2
    assert "use the event pull_request" in runs["judge"].log


def test_trainfare_is_installed_by_pip_outside_of_the_checkout(
    github: GitHubServer, repository: GitRepository, tmp_path: Path
) -> None:
    """A real environment and a real pip: it has the package, and the checkout is as it was."""
    python = tmp_path / "python"
    python.mkdir()
    (python / "python").symlink_to(Path(sys.executable).resolve())
    environment = {**clean_environment(), **github_environment(github, tmp_path / "event"), **PIP}
    environment |= {"PATH": f"{python}:{environment['PATH']}", "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    stand_ins: dict[str, StandIn] = {
        "actions/setup-python": "the tests' own Python is there",
        "actions/upload-artifact": "without its dependencies trainfare traces nothing",
    }
    run = run_action(
        WORKFLOW.parents[1] / "actions" / "trace" / "action.yml",
        inputs={},
        environment=environment,
        workspace=repository.root,
        temp=tmp_path / "temp",
        not_run=stand_ins,
    )
    assert run.exit_code == 0, run.log
    assert "trainfare profile ended with exit code 1" in run.log
    script = "import importlib.metadata as m; print(m.distribution('trainfare').locate_file(''))"
    venv = tmp_path / "temp" / "trainfare"
    done = subprocess.run(
        [venv / "bin" / "python", "-I", "-c", script], capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(venv)
    assert repository.git("status", "--porcelain") == ""
