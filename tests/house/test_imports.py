"""What importing trainfare loads, and its public names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import trainfare

HEAVY = (
    "numpy",
    "torch",
    "lightning",
    "pytorch_lightning",
    "boto3",
    "botocore",
    "azure",
    "polars",
    "matplotlib",
    "httpx",
)


def modules_after(code: str) -> set[str]:
    """Top-level names in `sys.modules` of a fresh process that ran `code`."""
    script = f"{code}\nimport json, sys; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_trainfare_loads_nothing_heavy() -> None:
    """`import trainfare` loads neither torch, Lightning, a cloud SDK nor polars."""
    assert not modules_after("import trainfare") & set(HEAVY)


def test_training_job_needs_no_torch() -> None:
    """A TrainingJob can be described where torch is not installed."""
    assert "torch" not in modules_after(
        "from trainfare import TrainingJob; TrainingJob(module=int, batch=int, batch_size=1)"
    )


def test_recommend_needs_no_torch() -> None:
    """Ranking a profile works without torch and without any cloud SDK."""
    loaded = modules_after("from trainfare import recommend")
    assert not loaded & {"torch", "lightning", "pytorch_lightning", "boto3", "azure"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["offers", "--limit", "3"], ["recommend", "--help"], ["check", "--help"]]
)
def test_command_line_needs_no_torch(arguments: list[str]) -> None:
    """Commands that need no trace never load torch or Lightning."""
    code = f"from trainfare.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code"
    assert not modules_after(code) & {"torch", "lightning", "pytorch_lightning", "boto3", "azure"}


def test_an_offline_answer_loads_no_live_cloud(tmp_path: Path) -> None:
    """A cloud without a price file on disk is left out unimported: its modules are a third of ours."""
    code = f"""import os, sys
os.environ["TRAINFARE_PRICE_CACHE"] = {str(tmp_path)!r}
from trainfare.cli import main
try:
    main(["offers", "--limit", "3"])
except SystemExit as end:
    assert not end.code, end.code
live = [m for m in sys.modules if m.startswith(("trainfare_providers.aws", "trainfare_providers.azure",
        "trainfare_providers.gcp", "trainfare_providers.http"))]
assert not live, live"""
    modules_after(code)


@pytest.mark.parametrize("arguments", [["--help"], ["prices", "--help"], ["recommend", "--help"]])
def test_help_loads_no_table_library(arguments: list[str]) -> None:
    """What only names commands and options needs neither numpy nor polars: they take half a second of start-up."""
    code = f"from trainfare.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass"
    assert not modules_after(code) & {"numpy", "polars"}


def test_public_names_are_pinned() -> None:
    """The public surface is these four names and the version."""
    assert trainfare.__all__ == [
        "FareMeter", "RealLimits", "TrainingJob", "recommend", "recommend_many", "trace_job",
    ]  # fmt: skip
    assert set(trainfare.__all__) < set(dir(trainfare))


def test_every_public_name_can_be_imported() -> None:
    """Each lazily imported name resolves to the object of that name."""
    for name in trainfare.__all__:
        assert getattr(trainfare, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name raises AttributeError with that name."""
    with pytest.raises(AttributeError, match="no attribute 'FairMeter'"):
        trainfare.FairMeter  # noqa: B018
