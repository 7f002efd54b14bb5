"""One command writes every file of coefficients, in the order in which the fits depend on each other."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from trainfare_research.data import TABLES
from trainfare_research.runners.write_coefficients import FITS, command_of, main
from trainfare_research.truth_table import find_table

OURS = {
    "accelerators.csv", "accelerator_sources.csv", "networks.csv", "local_disks.csv", "unpriced.csv", "regions.csv",
    "clouds.csv", "cloud_services.csv", "run_cost_kinds.csv", "policy_rules.csv", "methods.csv", "method_domains.csv",
    "method_rules.csv", "precisions.csv", "hosts.csv", "input_rates.csv", "loop_time.csv",
    "energy_factors.csv", "energy_sources.csv",
}  # fmt: skip
"""Facts that people write, from vendors' pages and public benchmarks, and the words and rules of the product."""
COLLECTED = {"run_cost_facts.csv", "run_cost_fact_sources.csv"}
"""What `trainfare_research.data.build_run_cost_facts` makes, without a fit."""


def test_every_file_that_is_fitted_has_its_command() -> None:
    data = Path(__file__).resolve().parents[3] / "core" / "trainfare_core" / "data"
    files = {path.name for path in data.iterdir() if path.suffix in (".json", ".csv")}
    assert {
        name for name in files - OURS - COLLECTED if name not in (main.__globals__["__doc__"] or "")
    } == set()
    for fit in FITS:
        assert find_spec(f"trainfare_research.{fit.module}") is not None


def test_each_command_reads_a_table_that_is_there() -> None:
    for fit in FITS:
        for part in command_of(fit, TABLES, Path("traces"), "2026-01-31"):
            if str(TABLES) in part:
                assert find_table(Path(part)).exists(), part


def test_a_dry_run_prints_the_commands_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Links first: the fit of one device reads them."""
    main(
        ["--cache", "traces", "--date", "2026-01-31", "--dry-run", "--only", "one_device", "links", "memory"]
    )
    lines = capsys.readouterr().out.splitlines()
    modules = [line.split()[1].rpartition(".")[2] for line in lines]
    assert modules == ["links", "fit_calibration", "memory"]
    assert lines[2].count("--truth") == 2
    assert all("--date 2026-01-31" in line for line in lines)
