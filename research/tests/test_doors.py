"""The import contracts of the research: a planted violation of each one is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RESEARCH = Path(__file__).resolve().parents[1]

VIOLATIONS = [
    ("research", "workloads/cache.py", "import trainfare_research.fitting.links"),
    ("research", "data/notes.py", "import trainfare_research.runners.memory"),
    ("acyclic", "fitting/language_model_sums.py", "import trainfare_research.fitting.language_models"),
]
"""Id of the contract, file, and the line that is added to it."""


def lint_imports(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check the contracts on the package in a folder, beside the installed product."""
    script = "import sys; from importlinter.cli import lint_imports_command as c; sys.path[:0] = [sys.argv[1]]; c(sys.argv[2:])"
    options = ["--no-cache", "--config=pyproject.toml", *(f"--contract={name}" for name in contracts)]
    return subprocess.run(
        [sys.executable, "-c", script, str(folder), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Copy the research and its contracts, so that a violation can be planted."""
    ignored = shutil.ignore_patterns("__pycache__", "*.parquet")
    shutil.copytree(RESEARCH / "trainfare_research", tmp_path / "trainfare_research", ignore=ignored)
    shutil.copy(RESEARCH / "pyproject.toml", tmp_path)
    return tmp_path


def test_sources_break_no_contract(sources: Path) -> None:
    result = lint_imports(sources)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_planted_violation_is_found(contract: str, file: str, line: str, sources: Path) -> None:
    target = sources / "trainfare_research" / file
    assert target.is_file(), "a violation must be planted in a real file"
    with target.open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    result = lint_imports(sources, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


def test_each_contract_has_a_planted_violation() -> None:
    settings = tomllib.loads((RESEARCH / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]
    assert {contract["id"] for contract in settings["contracts"]} == {name for name, _, _ in VIOLATIONS}
