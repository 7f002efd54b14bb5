"""
Predict published training runs from their configuration alone, and write docs/published-runs.md.

    python -m trainfare_research.pages.published_runs [--out docs/published-runs.md]

The runs and their sources are in research/trainfare_research/data/published_runs.toml; `miss` says why one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from trainfare.estimate import EstimateRequest
from trainfare.estimate.profile import estimate_profile
from trainfare_core.prediction import predict_machine
from trainfare_core.variants import with_implementation
from trainfare_research.pages.markdown import render

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A run with its predicted accelerator hours, and whether it is predicted to fit in memory."""

    run: dict[str, Any]
    mid: float
    low: float
    high: float
    fits: bool

    @property
    def inside(self) -> bool:
        """Whether the published hours lie inside the 80 % interval."""
        return bool(self.low <= self.run["device_hours"] <= self.high)


def predict_run(run: dict[str, Any], folder: Path) -> PublishedRun:
    """Predict a run on its own machines by its own plan."""
    model = run["model"]
    if isinstance(model, dict):
        path = folder / "config.json"
        path.write_text(json.dumps(model), encoding="utf-8")
        model = str(path)
    keys = ("tokens", "seq", "batch", "micro_batch", "recompute")
    request = EstimateRequest(model=model, **{key: run[key] for key in keys if key in run})
    profile = with_implementation(estimate_profile(request), run["implementation"])
    machines, network = run["machines"], run.get("network_gbit_per_s")
    answer = predict_machine(profile, run["device"], 8, machines, run["strategy"], network_gbit_per_s=network)
    step_s, hours = answer.step_s, request.steps() * 8 * machines / 3600
    return PublishedRun(run, step_s.mid * hours, step_s.low_80 * hours, step_s.high_80 * hours, answer.fits)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("docs/published-runs.md"))
    out = parser.parse_args().out
    data = resources.files("trainfare_research.data").joinpath("published_runs.toml")
    runs = tomllib.loads(data.read_text(encoding="utf-8"))["runs"]
    with tempfile.TemporaryDirectory() as folder:
        rows = [predict_run(run, Path(folder)) for run in runs]
    out.write_text(render("published_runs", rows=rows), encoding="utf-8")


if __name__ == "__main__":
    main()
