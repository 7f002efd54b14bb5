"""
Write accuracy-language-models.md: how far predictions of language models are off on rows left out of the fit.

    python -m trainfare_research.pages.language_models --data DIR --cache DIR
        [--out research/docs/accuracy-language-models.md]

DIR holds the tables of measured steps and microbench_achieved.csv. The fits are made here, as
`fitting/language_models.py` makes them; what ships is read only for its date and its factors.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.language_models.coefficients import DecoderFit, decoder_calibration
from trainfare_core.prediction.language_models.step import doublings_of
from trainfare_research.fitting.command_line import MEASUREMENTS
from trainfare_research.fitting.language_model_sums import Rows, stack_of
from trainfare_research.fitting.language_models import (
    COVERED,
    HeldOut,
    family_of,
    repeats_of,
    score_errors,
    study_of,
)
from trainfare_research.pages.markdown import render

Score = dict[str, float]
MANY = " without the largest source, 8 or more devices"
BARS = (
    ("accelerator family left out, 8 or more devices*", f"device left out{MANY}", "12 mean, 8 median"),
    ("the same, dense", f"device left out{MANY}, dense", ""),
    ("the same, dense, the trainer's offset known from another GPU",
     "device left out, stack seen on another GPU, dense", "9 mean"),
    ("of these NeMo (H100, GB200)", "device left out, stack seen on another GPU, dense, nemo", ""),
    ("of these Megatron of 2021 (V100, A100)", "device left out, stack seen on another GPU, dense, megatron", ""),
    ("accelerator family left out, experts", "device left out experts", "25 mean"),
    ("TPU generation left out", "device left out TPU", "12 mean"),
    ("Trainium, never seen", "device left out Trainium", "30 mean"),
    ("Trainium, seen", "size left out Trainium", "18 mean"),
    ("model size left out, 8 or more devices*", f"size left out{MANY}", "12 mean, 8 median"),
    ("source left out, 8 or more devices*", f"source left out{MANY}", ""),
    ("accelerator family and source left out, 8 or more devices*", f"device and source left out{MANY}", ""),
    ("vendor left out (NVIDIA from TPU, Trainium and Gaudi alone), 8 or more devices*", f"vendor left out{MANY}", ""),
    ("all rows, accelerator family left out", "device left out", "12 mean, 8 median"),
    ("the same, each combination of vTrain's once†", "device left out, repeated once", ""),
    ("all rows, model size left out", "size left out", "12 mean, 8 median"),
    ("the same, each combination of vTrain's once†", "size left out, repeated once", ""),
    ("all rows, source left out", "source left out", ""),
    ("the same, each combination of vTrain's once†", "source left out, repeated once", ""),
)  # fmt: skip
"""Title, name of the score, and the bar of the specification in %; "": none."""
LEAST_ROWS = 3
CLASSES = {
    "dense": "fused kernels", "pytorch": "PyTorch, up to an A100", "framework": "PyTorch, faster chips",
    "moe": "experts", "unfused": "Megatron of 2021",
}  # fmt: skip
"""Title of every class of runs that has an interval of its own."""


def groups_of(rows: Rows, left_out: dict[str, HeldOut]) -> list[tuple[tuple[str, ...], int, Score, Score]]:
    """Return rows and errors, family and source left out, by family, source, trainer and type, the best first."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, (run, line) in enumerate(zip(rows.runs, rows.lines, strict=True)):
        kind = "experts" if run.experts else "dense"
        groups[family_of(run), line["source"], stack_of(line), line["precision"], kind].append(i)
    errors = [left_out[name].errors for name in ("device", "source")]
    rows_of_groups: list[tuple[tuple[str, ...], int, Score, Score]] = []
    for key, index in groups.items():
        if len(index) >= LEAST_ROWS:
            device, source = (score_errors(values[index]) for values in errors)
            rows_of_groups.append((key, len(index), device, source))
    return sorted(rows_of_groups, key=lambda group: (group[2]["mape"], group[0]))


def software_of(fit: DecoderFit) -> Iterator[tuple[str, float, float]]:
    """Yield what the shipped fit says of each kind of software, on an A100 and on a B200."""
    late = 2 ** (fit.framework_slope * doublings_of(accelerator("B200-SXM-180GB")))
    yield "fused kernels (Megatron-Core, NeMo)", 1.0, 1.0
    yield "PyTorch, eager or `torch.compile`; Megatron of 2021", 1.0, late
    yield "Megatron of 2021 under DeepSpeed's engine", fit.deepspeed_factor, fit.deepspeed_factor * late


def document(data: Path, cache: Path | None) -> str:
    """Return the page; traces what the cache lacks."""
    shipped = decoder_calibration()
    study = study_of(data, cache, shipped.fitted_at)
    combination = repeats_of(study.rows)
    return render(
        "language_models", shipped=shipped, rows=len(study.rows.runs), bars=BARS, scores=study.scores, covered=COVERED,
        classes=CLASSES, software=software_of(shipped), groups=groups_of(study.rows, study.left_out),
        skipped=study.skipped, repeated=int((combination >= 0).sum()), combinations=int(combination.max()) + 1,
    )  # fmt: skip


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=MEASUREMENTS)
    parser.add_argument("--cache", type=Path, help="folder of traces")
    parser.add_argument("--out", type=Path, default=Path("research/docs/accuracy-language-models.md"))
    arguments = parser.parse_args()
    arguments.out.write_text(document(arguments.data, arguments.cache), encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
