"""DLRM with its tables split over devices: the step of one device, two all-to-alls, and the dense layers' gradients."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from row_builders.submissions import submission
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_research.fitting.one_plan import Plan, predict_plan
from trainfare_research.fitting.split_tables import has_split_tables, predict_split_tables
from trainfare_research.fitting.step_answers import step_answers
from trainfare_research.fitting.step_work import work_of
from trainfare_research.fitting.submission_steps import build_submitted_step
from trainfare_research.runners.time_to_train import minutes_of
from trainfare_research.workloads import ProfileCache, profile_of, resolve
from trainfare_research.workloads.other.tabular import dense_gradient_bytes

BATCH = 512
ROW = {
    "source": "own figures: no measured run", "model": "DLRM[large]", "model_family": "dlrm", "task": "recommendation",
    "sequence_length": "", "batch_per_device": str(BATCH), "global_batch": str(8 * BATCH), "image_size": "",
    "gradient_checkpointing": "", "precision": "amp_fp16", "accelerator": "A100-SXM-80GB", "devices": "8",
    "nodes": "1", "strategy": "ddp", "parallelism": "none", "optimizer": "sgd", "throughput": "16500000",
    "throughput_unit": "samples/s", "step_time_ms": "3.97", "step_time_origin": "derived", "framework": "pytorch (NGC)", "measured": "",
    "notes": "",
}  # fmt: skip
SUBMISSION = submission(
    benchmark="dlrm", framework="HugeCTR", global_batch_size=str(8 * BATCH), samples_to_converge="4000000000"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ProfileCache:
    return ProfileCache(tmp_path_factory.mktemp("traces"))


@pytest.fixture(scope="module")
def run(cache: ProfileCache) -> Run:
    trace = profile_of(resolve(ROW), cache)
    assert not isinstance(trace, str)
    return prepare(trace.profile)


def seconds(answer: tuple[float, float] | str) -> float:
    """Return the seconds of an answer, which must be one."""
    assert not isinstance(answer, str), answer
    return answer[0]


def test_tables_are_split_where_several_devices_run_dlrm() -> None:
    assert has_split_tables("DLRM[large]", 8)
    assert has_split_tables("dlrm", 2)
    assert not has_split_tables("DLRM[large]", 1)
    assert not has_split_tables("NCF", 8)


@pytest.mark.parametrize(("devices", "nodes", "share"), [(8, 1, 7 / 8), (16, 2, 7 / 16)])
def test_devices_exchange_what_they_looked_up(run: Run, devices: int, nodes: int, share: float) -> None:
    """Twice the batch is twice the bytes: 26 embeddings of 128 numbers of 2 bytes a sample, there and back."""
    name = "A100-SXM-80GB"
    plan = Plan(name, 64.0, devices, nodes, gbit_per_s=1e9)
    assert "sparse" in str(predict_plan(run, plan))
    fit = link_calibration().communication
    rate = accelerator(name).link_bytes_per_s * fit.link_efficiency["nvlink"]
    alone = [seconds(predict_plan(run, Plan(name, ratio))) for ratio in (64.0, 128.0)]
    split = [seconds(predict_split_tables(run, replace(plan, ratio=ratio))) for ratio in (64.0, 128.0)]
    waits = 1 + fit.straggler_share * math.log2(8)
    more_s = split[1] - split[0] - waits * (alone[1] - alone[0])
    assert more_s == pytest.approx(2 * share * 64 * BATCH * 26 * 128 * 2 / rate, rel=0.02)


def test_only_the_dense_layers_are_reduced(run: Run) -> None:
    """2.4 million parameters: 13 x 512 + 512 x 256 + ... + 256 x 1 with their biases, whatever a table's gradient is."""
    widths = ((13, 512, 256, 128), (480, 1024, 1024, 512, 256, 1))
    dense = sum(a * b + b for width in widths for a, b in itertools.pairwise(width))
    assert dense_gradient_bytes(run.profile.parameter_bytes, BATCH, run.profile.precision) == 4 * dense
    memory = run.profile.memory.model_copy(update={"gradient_bytes": 10**10})
    more = replace(run, profile=run.profile.model_copy(update={"memory": memory}))
    plan = Plan("T4", 1.0, devices=2)
    assert predict_split_tables(more, plan) == predict_split_tables(run, plan)


def test_machines_send_the_rows_of_all_their_devices(run: Run) -> None:
    """A machine's network carries what eight devices look up; without its rate there is no answer."""
    plan = Plan("A100-SXM-80GB", 64.0, devices=16, nodes=2)

    def over(gbit_per_s: float) -> float:
        return seconds(predict_split_tables(run, replace(plan, gbit_per_s=gbit_per_s)))

    efficiency = link_calibration().communication.network_efficiency
    bytes_ = 2 * 8 / 2 * 64 * BATCH * 26 * 128 * 2
    assert over(100.0) - over(200.0) > bytes_ / (efficiency * 25e9)
    assert isinstance(predict_split_tables(run, plan), str)


def test_rows_and_submissions_of_dlrm_have_an_answer(cache: ProfileCache) -> None:
    """A submission is traced at its own batch, which its table's update does not scale to from another one."""
    work = work_of(ROW, cache)
    both = step_answers([ROW, {**ROW, "devices": "1"}], {0: work, 1: work}, None)
    split, alone = (answer.predicted_s for answer in both.values() if not isinstance(answer, str))
    assert split > alone, "of one trace, which one device runs without an exchange"
    step = build_submitted_step(SUBMISSION, cache, 8)
    assert not isinstance(step, str), step
    assert (step.profile.batch.micro_batch_size, step.ratio) == (BATCH, 1 / BATCH)
    half = {**SUBMISSION, "accelerators_total": "4", "global_batch_size": str(4 * BATCH)}
    whole, fewer = (seconds(minutes_of(line, cache, {})) for line in (SUBMISSION, half))
    assert whole < fewer < 2 * whole
