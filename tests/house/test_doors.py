"""The import contracts of pyproject.toml: a planted violation of each one is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from grimp import ImportGraph

TOP = Path(__file__).resolve().parents[2]
ROOTS = ("core", "providers", "plugin", ".")
"""Folders with an import package each; `benchmarks` is at the top."""
PACKAGES = {
    "core": "trainfare_core",
    "providers": "trainfare_providers",
    "plugin": "trainfare",
    ".": "benchmarks",
}

pytestmark = pytest.mark.sources

VIOLATIONS = [
    ("rooms", "core/trainfare_core/errors.py", "import trainfare_providers"),
    ("rooms", "providers/trainfare_providers/__init__.py", "import trainfare.cli"),
    ("rooms", "plugin/trainfare/recommendation.py", "import benchmarks.cases"),
    ("product", "plugin/trainfare/recommendation.py", "import trainfare_research.scoring"),
    ("stages", "core/trainfare_core/job_profile/profile.py", "import trainfare_core.ranking"),
    ("stages", "core/trainfare_core/prediction/table.py", "import trainfare_core.run_cost"),
    ("stages", "core/trainfare_core/decline/rates.py", "import trainfare_core.errors"),
    ("ranking", "core/trainfare_core/ranking/pricing/spot.py", "import trainfare_core.ranking.entries"),
    ("clouds", "providers/trainfare_providers/aws/quotas.py", "import trainfare_providers.gcp"),
    (
        "prediction",
        "core/trainfare_core/prediction/network/collectives.py",
        "import trainfare_core.prediction.roofline",
    ),
    ("plugin", "plugin/trainfare/trace/step_facts.py", "import trainfare.meter"),
    ("plugin", "plugin/trainfare/report/escape.py", "import trainfare.cli"),
    ("plugin", "plugin/trainfare/prices/lock.py", "import trainfare.fake_step"),
    ("port", "plugin/trainfare/meter/metered_run.py", "import pytorch_lightning"),
    ("port", "plugin/trainfare/job/loop.py", "import transformers"),
    ("port", "plugin/trainfare/fake_step/fake_step.py", "import trainfare.lightning.trainer_stub"),
    ("port", "plugin/trainfare/trace/step_facts.py", "def load():\n    import keras"),
    ("port", "plugin/trainfare/report/escape.py", "import trainfare.lightning"),
    ("port", "plugin/trainfare/script/run.py", "def load():\n    import trainfare.keras.script"),
    ("port", "plugin/trainfare/script/notebook.py", "import lightning"),
    ("loops", "plugin/trainfare/keras/probe.py", "import trainfare.huggingface.versions"),
    ("loops", "plugin/trainfare/plain_loop/script.py", "import trainfare.lightning.script"),
    ("loops", "plugin/trainfare/lightning/script/interception.py", "import trainfare.plain_loop.script"),
    ("port", "plugin/trainfare/recommendation.py", "import accelerate"),
    ("benchmarks", "benchmarks/cases.py", "import benchmarks.speed"),
    ("core-pure", "core/trainfare_core/hardware/accelerators.py", "import torch"),
    ("core-pure", "core/trainfare_core/prices/book.py", "import time"),
    ("core-pure", "core/trainfare_core/run_cost/timing.py", "import socket"),
    ("providers-light", "providers/trainfare_providers/__init__.py", "import pytorch_lightning"),
    ("cli-light", "plugin/trainfare/cli/offers.py", "import torch"),
    ("cli-light", "plugin/trainfare/report/escape.py", "import lightning"),
]
"""Id of the contract, file, and the line that is added to it. The contract `acyclic` has a test of its own."""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Copy the source files and the contracts, so that a violation can be planted."""
    for root, package in PACKAGES.items():
        shutil.copytree(
            TOP / root / package, tmp_path / root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(sources: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    script = "import sys; from importlinter.cli import lint_imports_command as c; sys.path[:0] = sys.argv[1].split(':'); c(['--no-cache', *sys.argv[2:]])"
    paths = ":".join(str(sources / root) for root in ROOTS)
    options = [f"--contract={name}" for name in contracts]
    return subprocess.run(
        [sys.executable, "-c", script, paths, *options],
        cwd=sources,
        capture_output=True,
        text=True,
        check=False,
    )


def package_graph() -> ImportGraph:
    import grimp  # not installed where the wheel is tested, and this module is collected there

    return grimp.build_graph(*PACKAGES.values(), cache_dir=None)


def test_sources_break_no_contract(sources: Path) -> None:
    result = lint_imports(sources)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_planted_violation_is_found(contract: str, file: str, line: str, sources: Path) -> None:
    """The contract that forbids an import is the one that reports it."""
    target = sources / file
    assert target.is_file(), "a violation must be planted in a real file"
    with target.open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    result = lint_imports(sources, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


def test_each_contract_has_a_planted_violation() -> None:
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    names = {contract["id"] for contract in contracts["contracts"]}
    assert names == {name for name, _, _ in VIOLATIONS} | {"acyclic"}


def test_planted_circle_is_found_in_every_package(sources: Path) -> None:
    """In each package with an import between two of its modules, the import back is reported."""
    graph = package_graph()
    planted: set[str] = set()
    for module in sorted(graph.modules):
        package = module.rpartition(".")[0]
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            files = [
                path
                for root in ROOTS
                if (path := sources / root / f"{imported.replace('.', '/')}.py").is_file()
            ]
            if package and package not in planted and imported.rpartition(".")[0] == package and files:
                with files[0].open("a", encoding="utf-8") as stream:
                    stream.write(f"\nimport {module}\n")
                planted.add(package)
    result = lint_imports(sources, "acyclic")
    assert result.returncode == 1, result.stdout + result.stderr
    reported = " ".join(result.stdout.split())
    assert {name for name in planted if f"allowed in {name}." not in reported} == set()
    assert {
        "trainfare.meter",
        "trainfare.cli",
        "trainfare_core.prices",
        "benchmarks.speed",
    } <= planted


def test_no_module_imports_the_package_it_is_in() -> None:
    """A package's `__init__` imports its modules, so that the import back would be a circle."""
    graph = package_graph()
    back = {
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if module.startswith(f"{imported}.")
    }
    assert back == set()
