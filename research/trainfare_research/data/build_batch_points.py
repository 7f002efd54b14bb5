"""
Make the tables of samples to a quality by batch from MLPerf's reference convergence points.

    git clone https://github.com/mlcommons/logging && git -C logging checkout COMMIT
    python -m trainfare_research.data.build_batch_points --from logging/mlperf_logging/rcp_checker --commit COMMIT

Each point is one workload with one batch: 5 to 100 runs to the same quality, hyperparameters tuned for the batch, of
the newest round that has it. `samples` is their mean without the fewest and the most, as MLPerf's own rules count
(one point of gpt3 holds a value ten times too large); `samples_median` is a multiple of what lies between two
evaluations, up to 6 % of the run. Batches without a point have the median of submissions (`time_to_train`).

`published_points.csv` has what is fitted. `judged_points.csv` has six workloads that judge the fit and that no fit
reads; `ssd` is SSD300 up to round 1.1 and RetinaNet, one of the six, after it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Final

from trainfare_research.data import TABLES
from trainfare_research.truth_table import SUBMISSION_TABLES, read_rows, write_rows

BATCH_TABLES: Final = TABLES / "batch"
LEAST_TO_TRIM: Final = 5
"""Runs from which on the fewest and the most are left out."""
_CRITEO_ROWS: Final = 4_195_197_692
_COCO_IMAGES: Final = 117_266


@dataclass(frozen=True, slots=True)
class Workload:
    """
    A workload of MLPerf.

    Attributes:
        name: in our tables.
        benchmark: what the files call it.
        unit: one sample.
        optimizer: of the reference.
        samples_per_count: what one of the file's counts, mostly an epoch, has.
        rounds: first and last one whose counts are these.
        counted_from: count at the start of a run.
        submitted: rounds whose submissions are taken, by batches without a point.
        left_out: batches that are not taken.
    """

    name: str
    benchmark: str
    unit: str
    optimizer: str
    samples_per_count: float = 1.0
    rounds: tuple[str, str] = ("", "~")
    counted_from: float = 0.0
    submitted: tuple[tuple[int, str], ...] = ()
    left_out: tuple[int, ...] = ()


FITTED: Final = (
    Workload(
        "resnet", "resnet", "image", "LARS", 1_281_167, submitted=((408, "v1.0"), (16_384, "v1.0")),
    ),
    Workload("bert", "bert", "sequence of up to 512", "LAMB"),
    Workload(
        "ssd300", "ssd", "image", "SGD", _COCO_IMAGES, rounds=("", "training_1.1.0"),
        submitted=((128, "v1.0"), (256, "v1.0"), (512, "v0.7"), (3072, "v1.0")),
    ),
    Workload("maskrcnn", "maskrcnn", "image", "SGD", _COCO_IMAGES),
    Workload("rnnt", "rnnt", "utterance", "LAMB", 278_528),
    Workload("gpt3", "gpt3", "sequence of 2048", "Adam", 1 / 2048),
    # Counted in volumes of an epoch before. Batch 2 is another run: fp32, and 1.2 times the samples of batch 28.
    Workload("unet3d", "unet3d", "crop", "SGD", rounds=("training_3.1.0", "~"), left_out=(2,)),
    Workload("rgat", "rgat", "node", "Adam", 94_605_581),
    Workload("llama31_405b", "llama31_405b", "sequence of 8192", "AdamW"),
    Workload("oc20", "oc20", "structure", "AdamW", 460_328),
    Workload("deepcam", "deepcam", "image", "LAMB", 121_266),
    Workload("gpt_oss_20b", "gpt_oss_20b", "sequence of 8192", "Adam"),
    Workload("dlrm", "dlrm", "row", "SGD", _CRITEO_ROWS, counted_from=1.0),
    Workload(
        "gnmt", "gnmt", "sentence pair", "Adam",
        submitted=((2048, "v0.7"), (3072, "v0.7"), (4096, "v0.7"), (8192, "v0.7"), (16_384, "v0.7")),
    ),
)  # fmt: skip
JUDGED: Final = (
    Workload("retinanet", "retinanet", "image", "Adam", 1_170_301),
    Workload("llama2_70b_lora", "llama2_70b_lora", "sequence of 8192", "AdamW"),
    Workload("llama31_8b", "llama31_8b", "sequence of 8192", "AdamW"),
    Workload("stable_diffusion", "stable_diffusion", "image", "AdamW"),
    Workload("flux1", "flux1", "image", "AdamW"),
    Workload("dlrm_dcnv2", "dlrm_dcnv2", "row", "Adagrad", _CRITEO_ROWS),
)


@dataclass(frozen=True, slots=True)
class ReferencePoint:
    """Counts at which the runs of one batch converged, of one file of one round."""

    benchmark: str
    round: str
    batch: int
    counts: tuple[float, ...]
    place: str


def read_points(folder: Path) -> list[ReferencePoint]:
    """Return the points of every file below `rcp_checker`, older rounds first."""
    points = []
    for path in sorted(folder.glob("*/rcps_*.json")):
        for name, point in json.loads(path.read_text(encoding="utf-8")).items():
            counts = point.get("Epochs to converge") or point.get("samples to converge") or ()
            place = f"{path.relative_to(folder.parent.parent).as_posix()}:{name}"
            points.append(
                ReferencePoint(point["Benchmark"], path.parent.name, point["BS"], tuple(counts), place)
            )
    return points


def average_runs(counts: Sequence[float]) -> float:
    """
    Return the mean without the fewest and the most, of all where there are fewer than 5.

    >>> average_runs([10.0, 11.0, 12.0, 13.0, 140.0]), average_runs([10.0, 12.0])
    (12.0, 11.0)
    """
    return fmean(sorted(counts)[1:-1] if len(counts) >= LEAST_TO_TRIM else counts)


def list_rows(
    workload: Workload, points: Iterable[ReferencePoint], submissions: Iterable[dict[str, str]], commit: str
) -> list[dict[str, str]]:
    """
    Return the rows of a workload by rising batch.

    Args:
        workload: which.
        points: of all files, older rounds first: the newest counts.
        submissions: rows of `time_to_train`.
        commit: of mlcommons/logging.
    """
    first, last = workload.rounds
    found = {
        point.batch: point
        for point in points
        if point.benchmark == workload.benchmark
        and first <= point.round <= last
        and point.batch not in workload.left_out
    }
    rows = {}
    for batch, point in found.items():
        samples = [workload.samples_per_count * (count - workload.counted_from) for count in point.counts]
        rows[batch] = _row_of(workload, batch, samples, f"mlcommons/logging@{commit}:{point.place}")
    submitted = list(submissions)
    for batch, since in workload.submitted:
        of_batch = [
            row for row in submitted
            if (row["benchmark"], row["global_batch_size"]) == (workload.name, str(batch)) and row["round"] >= since
        ]  # fmt: skip
        samples = [float(row["samples_to_converge"]) for row in of_batch]
        rounds = ", ".join(
            f"mlcommons/training_results_{one}" for one in sorted({row["round"] for row in of_batch})
        )
        row = _row_of(workload, batch, samples, f"submissions in time_to_train: {rounds}")
        rows[batch] = {**row, "samples": row["samples_median"]}
    return [rows[batch] for batch in sorted(rows)]


def _row_of(workload: Workload, batch: int, samples: Sequence[float], source: str) -> dict[str, str]:
    return {
        "workload": workload.name, "optimizer": workload.optimizer, "unit": workload.unit, "batch": str(batch),
        "samples": f"{average_runs(samples):.0f}", "samples_median": f"{median(samples):.0f}",
        "runs": str(len(samples)), "source": source,
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="folder rcp_checker")
    parser.add_argument("--commit", required=True, help="of mlcommons/logging")
    parser.add_argument("--data", type=Path, default=TABLES / "calibration", help="folder of time_to_train")
    parser.add_argument("--out", type=Path, default=BATCH_TABLES, help="folder of the tables")
    arguments = parser.parse_args(argv)
    points = read_points(arguments.folder)
    submissions = [row for table in SUBMISSION_TABLES for row in read_rows(arguments.data / table)]
    for name, workloads in (("published_points.csv", FITTED), ("judged_points.csv", JUDGED)):
        rows = [row for w in workloads for row in list_rows(w, points, submissions, arguments.commit)]
        write_rows(arguments.out / name, rows)
        print(f"{name}: {len(rows)} points of {len(workloads)} workloads")


if __name__ == "__main__":
    main()
