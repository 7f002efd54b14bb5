"""Submissions of one machine as rows of the fit: whose step they are, and what is taken off."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from row_builders.submissions import submission
from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_research.fitting.held_out_groups import GROUPS
from trainfare_research.fitting.one_device_rows import Index, Row, RowMaker
from trainfare_research.fitting.one_device_solver import prior
from trainfare_research.fitting.one_device_tables import group_weight
from trainfare_research.fitting.submission_rows import submission_rows
from trainfare_research.fitting.submission_steps import training_share
from trainfare_research.fitting.table_lines import SUBMISSION
from trainfare_research.runners.time_to_train import score_lines
from trainfare_research.workloads import ProfileCache

ROW = submission(
    accelerator="H100-SXM-80GB", round="v3.0", global_batch_size="3264", eval_time_fraction="0.1",
    time_to_train_min="13.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ProfileCache:
    return ProfileCache(tmp_path_factory.mktemp("traces"))


def _rows(folder: Path, cache: ProfileCache, *lines: dict[str, str]) -> tuple[list[Row], Counter[str]]:
    with (folder / "time_to_train.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(ROW))
        writer.writeheader()
        writer.writerows(lines)
    skipped = Counter[str]()
    return list(submission_rows(folder, cache, RowMaker(Index(prior), skipped))), skipped


def test_a_submission_is_the_step_of_one_of_its_devices(tmp_path: Path, cache: ProfileCache) -> None:
    """The clock without evaluation over the steps, without what eight devices wait for one another."""
    (row,), _ = _rows(tmp_path, cache, ROW)
    step_s = 13.5 * 60 * 0.9 * 3264 / 40e6
    waiting = 1 + link_calibration().communication.straggler_share * math.log2(8)
    assert 0.97 * step_s / waiting < row.measured_s < step_s / waiting
    assert (row.timed, row.source, row.workload, row.end_to_end) == (SUBMISSION, "mlperf", "resnet", True)
    assert (GROUPS["benchmark"](row), GROUPS["source"](row)) == ("resnet", "mlperf")
    assert row.line["batch_per_device"] == "408"


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": "2", "accelerators_total": "16"},
        {"global_batch_size": "4"},
        {"samples_to_converge": ""},
        {"accelerator": "Ascend910"},
        {"benchmark": "gpt3"},
        {"benchmark": "dlrm", "global_batch_size": "512"},
        {"benchmark": "rgat", "global_batch_size": "512"},
    ],
)
def test_no_row_is_made_of_what_is_no_step_of_one_device(
    changes: dict[str, str], tmp_path: Path, cache: ProfileCache
) -> None:
    assert _rows(tmp_path, cache, {**ROW, **changes})[0] == []


def test_a_step_that_is_mostly_exchange_is_left_out_and_counted(tmp_path: Path, cache: ProfileCache) -> None:
    rows, skipped = _rows(tmp_path, cache, {**ROW, "time_to_train_min": "0.05"})
    assert not rows
    assert skipped == {"the exchange of gradients is too long, or not known": 1}


def test_devices_that_evaluate_take_no_time_from_training() -> None:
    line = {**ROW, "accelerators_total": "9"}
    assert training_share(line, {}, 9) == pytest.approx(0.9)
    assert training_share(line, {}, 8) == 1.0


def test_many_groups_of_one_source_count_less_each(tmp_path: Path, cache: ProfileCache) -> None:
    """Four times as many models on one card weigh twice as much together, and up to a hundred groups count in full."""
    (row,), _ = _rows(tmp_path, cache, ROW)
    assert group_weight(row, 100) == group_weight(row, 1)
    assert group_weight(row, 400) == pytest.approx(group_weight(row, 100) / 2)


def test_steps_of_todays_software_count_five_times_and_submissions_do_not(
    tmp_path: Path, cache: ProfileCache
) -> None:
    """PyTorch 2 and the stacks of language models, beside PyTorch 1 and what a vendor submitted."""
    (row,), _ = _rows(tmp_path, cache, ROW)

    def weight(source: str, framework: str, measured: str = "") -> float:
        line = {**row.line, "framework": framework, "measured": measured}
        return group_weight(replace(row, source=source, line=line), 1)

    old = weight("lambda-dlbench", "pytorch 1.13.0 (NGC container)")
    assert weight("lambda-dlbench", "pytorch 2.3.0 (NGC container)") == 5 * old
    assert weight("llm-foundry", "composer") == 5 * old
    assert weight("mlperf", "pytorch 2.3.0", SUBMISSION) == weight("mlperf", "mxnet", SUBMISSION)


def test_minutes_can_be_scored_by_a_fit_without_the_rows_benchmark(cache: ProfileCache) -> None:
    class Slower:
        """Fits whose device needs twice the time for every launch."""

        def of(self, line: dict[str, str]) -> Calibration:
            assert line["benchmark"] == "resnet"
            own = calibration().overhead
            return calibration().model_copy(
                update={"overhead": own.model_copy(update={"device_launch_s": 1e-3})}
            )

    plain, without = dict(ROW), dict(ROW)
    score_lines([plain], cache)
    score_lines([without], cache, Slower())
    assert float(without["predicted"]) > float(plain["predicted"])
