"""
Write docs/accuracy.md from what the runners of the truth tables wrote.

    python -m benchmarks.pages.accuracy --results DIR [--note TEXT] [--out docs/accuracy.md]

DIR holds NAME.json, and NAME.csv of `--rows`, of each runner that was run: `make accuracy` fills one. A runner without
a file has no table, and the page says so. Scores of rows left out of a fit are those that the fit ships.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.fits import language_model_record, memory_record, one_device_record
from benchmarks.pages.markdown import plain, render
from benchmarks.truth_table import read_rows
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.roofline.coefficients import calibration

__all__ = ["document"]

RUNNERS = ("step_time", "time_to_train", "memory", "kernels", "pick_cheapest", "strategy", "decline_hindcast")
MEASURED = {"step_time": "step_time_ms", "time_to_train": "time_to_train_min", "memory": "peak_gib"}
"""Columns of measured values, of the runners whose best and worst rows are named."""


def _measured_rows(path: Path, column: str) -> list[tuple[float, str]]:
    """Return predicted over measured minus one, and a name, of every row that states its measured value."""
    found = []
    for line in read_rows(path) if path.exists() else []:
        if line.get("predicted") and line.get(column):
            parts = [line.get(k, "") for k in ("source", "system_name", "model", "benchmark", "precision")]
            count = line.get("accelerators_total") or line.get("devices") or "1"
            parts.append(f"{count} x {line.get('accelerator', '')}")
            name = plain(", ".join(part for part in parts if part))
            found.append((float(line["predicted"]) / float(line[column]) - 1, name))
    return sorted(found, key=lambda pair: abs(pair[0]))


def document(results: Path, note: str = "") -> str:
    """Return the page, from the runners' files in `results`."""
    files = {name: results / f"{name}.json" for name in RUNNERS}
    return render(
        "accuracy", note=note, date=calibration().fitted_at,
        results={
            name: json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            for name, path in files.items()
        },
        measured_rows={name: _measured_rows(results / f"{name}.csv", MEASURED.get(name, "")) for name in RUNNERS},
        fitted_on={"one": sorted(calibration().fitted_on), "many": sorted(decoder_calibration().fitted_on)},
        scores={
            "one": one_device_record().scores, "many": language_model_record().scores, "memory": memory_record().scores,
        },
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument(
        "--note", default="", help="what the page must say about this run, as a subset of rows"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy.md"))
    arguments = parser.parse_args()
    arguments.out.write_text(document(arguments.results, arguments.note), encoding="utf-8")


if __name__ == "__main__":
    main()
