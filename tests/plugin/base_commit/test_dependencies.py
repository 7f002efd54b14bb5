"""Which changed files mean that a job needs other packages."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from builders.git_repository import GitRepository
from trainfare.base_commit import Repository, list_changed_dependencies

JOBS = (PurePosixPath("jobs/vision"),)
PROJECT = '[project]\nname = "x"\n'


def change_field(root: Path, name: str, before: str | None, after: str | None) -> tuple[str, ...]:
    """Commit a file in two states and return what differs for a job in jobs/vision."""
    git_repository = GitRepository.new(root)
    for text in (before, after):
        if text is None:
            (root / name).unlink(missing_ok=True)
        else:
            git_repository.put(name, text)
        git_repository.commit()
    repository = Repository.around(root)
    return list_changed_dependencies(repository, repository.commit("HEAD~1"), JOBS)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("pyproject.toml", PROJECT + 'dependencies = ["torch"]\n', PROJECT + 'dependencies = ["torch>=2"]\n'),
        ("pyproject.toml", PROJECT, PROJECT + "[tool.poetry.dependencies]\ntorch = '2'\n"),
        ("pyproject.toml", PROJECT, PROJECT + "[dependency-groups]\ntrain = ['torch']\n"),
        ("jobs/pyproject.toml", PROJECT, PROJECT + "requires-python = '>=3.11'\n"),
        ("pyproject.toml", PROJECT, "[project\n"),
        ("pyproject.toml", PROJECT, "project = 1\n"),
        ("pyproject.toml", PROJECT, "[[tool]]\n"),
        ("pyproject.toml", PROJECT, f"a = {'9' * 5000}\n"),
        ("pyproject.toml", PROJECT, f"a = {'[' * 5000}\n"),
        ("requirements-dev.txt", "torch\n", "torch>2\n"),
        ("requirements/train.txt", "torch\n", None),
        ("jobs/vision/requirements/base.in", None, "torch\n"),
        ("uv.lock", None, "version = 1\n"),
        ("environment.yml", "a: 1\n", "a: 2\n"),
        ("jobs/poetry.lock", "a", "b"),
        ("jobs/vision/setup.py", "a", "b"),
    ],
)
def test_files_of_the_job_and_above_it_count(
    tmp_path: Path, name: str, before: str | None, after: str | None
) -> None:
    """Changed, added or removed, beside the job or in a folder above it."""
    assert change_field(tmp_path / "r", name, before, after) == (name,)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("pyproject.toml", PROJECT, PROJECT + "version = '2'\n[tool.ruff]\nline-length = 99\n"),
        ("pyproject.toml", None, "[tool.trainfare]\n"),
        ("jobs/text/requirements.txt", "torch\n", "torch>2\n"),
        ("requirements.txt", "torch\n", "torch\n"),
        ("notes/requirements.md", "a", "b"),
        ("jobs/vision/train.py", "a", "b"),
        ("data/train.txt", "a", "b"),
    ],
)
def test_other_files_do_not_count(tmp_path: Path, name: str, before: str | None, after: str | None) -> None:
    """Settings of tools, what another job needs, and any other file."""
    assert change_field(tmp_path / "r", name, before, after) == ()


def test_what_git_does_not_track_does_not_count(tmp_path: Path) -> None:
    """A lock file that is ignored is in no commit; a staged or edited one differs from the commit."""
    git_repository = GitRepository.new(tmp_path / "r")
    git_repository.put(".gitignore", "uv.lock\n")
    git_repository.put("requirements.txt", "torch\n")
    git_repository.commit()
    git_repository.put("uv.lock", "version = 1\n")
    repository = Repository.around(git_repository.root)
    head = repository.commit("HEAD")
    assert list_changed_dependencies(repository, head, JOBS) == ()
    git_repository.put("requirements.txt", "torch>2\n")
    assert list_changed_dependencies(repository, head, JOBS) == ("requirements.txt",)
