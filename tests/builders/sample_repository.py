"""The sample repository of the gate: real git, a base commit and the merge of a branch, as a CI system checks it out."""

from __future__ import annotations

from pathlib import Path

from builders.git_repository import GitRepository
from builders.toy_market import book, offer_row
from trainfare.prices.lock import LockHeader, lock_text

SAMPLE = Path(__file__).parents[1] / "gate" / "sample"
AS_OF = "--as-of=2026-11-24"
"""The day to which ages are counted."""

LONGER = {"sizes.py": "MAX_STEPS = 3_000_000\n"}
"""The branch trains three times as long: +200 %, and the policy allows +50 %."""


def sample_repository(root: Path) -> GitRepository:
    """Return the sample with its files and a lock of prices in the first commit."""
    repository = GitRepository.new(root)
    for file in sorted(SAMPLE.iterdir()):
        if file.is_file():
            repository.put(file.name, file.read_text(encoding="utf-8"))
    header = LockHeader.model_validate({"tool_version": "0", "locked_on": "2026-11-20", "rows": 1})
    repository.put("trainfare.lock", lock_text(header, book(offer_row(observed_on="2026-11-20"))))
    repository.put(".gitignore", "__pycache__/\n")
    repository.commit("the job")
    return repository


def pull_request(repository: GitRepository, files: dict[str, str]) -> None:
    """Check out the merge of a branch that changes some files: its first parent is the base."""
    repository.git("switch", "--quiet", "--create", "topic")
    for name, text in files.items():
        repository.put(name, text)
    repository.commit("the change")
    repository.git("switch", "--quiet", "--detach", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message", "merge", "topic")
