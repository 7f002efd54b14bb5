"""
Write the address of trainfare's actions into every file that names it: REPOSITORY@REF, kept in pyproject.toml.

    python scripts/write_address.py                       # as pyproject.toml has it
    python scripts/write_address.py octo/trainfare@v0.2.0 # a release: changes pyproject.toml, too

The workflow training-cost names actions of its own commit, whose hash it cannot hold, so REF is the tag of the release.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
FILES = (
    ".github/workflows/training-cost.yml",
    "README.md",
    "SECURITY.md",
    "docs/ci.md",
    "docs/start/install.md",
    "plugin/trainfare/pull_request/ci/azure-pipelines.yml",
    "plugin/trainfare/pull_request/ci/github.yml",
    "plugin/trainfare/pull_request/ci/gitlab-ci.yml",
)
SETTING = re.compile(r'(?<=\naddress = ")([\w.-]+/trainfare)@([\w./-]+)(?=")')
ADDRESSES = (
    re.compile(r"(?P<repository>[\w.-]+/trainfare)/\.github/(?:actions|workflows)/[\w.-]+@(?P<ref>[\w.-]+)"),
    re.compile(r"git\+https://github\.com/(?P<repository>[\w.-]+/trainfare)@(?P<ref>[\w.-]+)"),
    re.compile(r"repo: https://github\.com/(?P<repository>[\w.-]+/trainfare)\s+rev: (?P<ref>[\w.-]+)"),
    re.compile(r"--repo (?P<repository>[\w.-]+/trainfare)\b"),
)
"""How the files name it: an action or a workflow, a package, a pre-commit hook, a repository."""


def read_address(settings: str) -> tuple[str, str]:
    """
    Return the repository and the ref that pyproject.toml has.

    Raises:
        ValueError: it has none.
    """
    match = SETTING.search(settings)
    if match is None:
        raise ValueError('pyproject.toml: no `address = "REPOSITORY@REF"`')
    return match[1], match[2]


def fill(text: str, repository: str, ref: str) -> str:
    """Return a text with every address replaced."""
    values = {"repository": repository, "ref": ref}

    def replace(match: re.Match[str]) -> str:
        whole = match[0]
        for name in sorted(match.groupdict(), key=match.start, reverse=True):
            start, end = (position - match.start() for position in match.span(name))
            whole = whole[:start] + values[name] + whole[end:]
        return whole

    for pattern in ADDRESSES:
        text = pattern.sub(replace, text)
    return text


def main() -> None:
    """Write the address of the command line, or of pyproject.toml, into all files."""
    path = TOP / "pyproject.toml"
    settings = path.read_text(encoding="utf-8")
    if len(sys.argv) > 1:
        settings = SETTING.sub(sys.argv[1], settings)
        path.write_text(settings, encoding="utf-8")
    repository, ref = read_address(settings)
    for name in FILES:
        file = TOP / name
        file.write_text(fill(file.read_text(encoding="utf-8"), repository, ref), encoding="utf-8")


if __name__ == "__main__":
    main()
