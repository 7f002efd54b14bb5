"""The fit of the per-operation model, on measurements made from known coefficients."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import USUAL_FUSED_BYTES_SHARE, OperationGroup
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.features import BRIEF
from trainfare_core.prediction.roofline.operations import Operations
from trainfare_research.fitting.one_device_rows import Index, Row, RowMaker, merge_operations, roofline_s
from trainfare_research.fitting.one_device_solver import GLOBALS, Problem, prior, solve
from trainfare_research.fitting.one_device_tables import kernel_group
from trainfare_research.fitting.robust import Prior, robust_fit
from trainfare_research.fitting.table_lines import SUBMISSION, chip_of, is_trainer_time, torch_of
from trainfare_research.runners.fit_calibration import fit_carried_over, kernel_errors
from trainfare_research.runners.kernels import seconds_of
from trainfare_research.runners.one_device_terms import TERMS, scores_without, without
from trainfare_research.scoring import error_summary

LINE = {"source": "made", "model": "made", "framework": "pytorch 2.0", "measured": ""}


def _rows(devices: tuple[str, ...]) -> tuple[list[Row], Index]:
    """Return matrix products and pointwise kernels of many sizes on each device, not measured yet."""
    index = Index(prior)
    maker = RowMaker(index, Counter())
    rows = []
    for name in devices:
        for size in (512, 1024, 2048, 4096, 8192):
            groups = (
                OperationGroup(
                    kind="matmul", name="aten.mm", phase="forward", dtype="fp32", shape=(1, size, size, size),
                    launches=1, flops=2 * size**3, bytes_read=8 * size**2, bytes_written=4 * size**2,
                ),
                OperationGroup(
                    kind="elementwise", name="aten.add", phase="forward", dtype="fp32", shape=(size**2,),
                    launches=1, flops=0, bytes_read=80 * size**2, bytes_written=4 * size**2,
                ),
            )  # fmt: skip
            for group in groups:
                row = maker.row(
                    Operations.of_groups((group,)), accelerator(name), 1.0, LINE, end_to_end=False, source="kernels", workload=group.kind,
                    precision="fp32", weight=1.0,
                )  # fmt: skip
                assert row is not None
                rows.append(row)
    return rows, index


def test_the_fit_finds_the_efficiencies_that_made_the_measurements() -> None:
    rows, index = _rows(("V100-SXM2-16GB", "T4-16GB", "H100-SXM-80GB"))
    problem = Problem(rows, index)
    truth = np.array(index.mean)
    truth[index.of["vector|1"]], truth[index.of["memory|kind:elementwise"]] = 0.3, 1.8
    problem.log_measured = problem.predict(truth)
    values = solve(problem)
    assert np.abs(problem.predict(values) - problem.log_measured).max() < 0.05
    assert np.abs(problem.predict(np.array(index.mean)) - problem.log_measured).max() > 0.2


def test_a_benchmarks_own_slowness_is_no_fact_about_kernels() -> None:
    """Two benchmarks of the same kernels, one of them slower by a fifth: offsets take the difference, predictions not."""
    rows, index = _rows(("V100-SXM2-16GB", "T4-16GB", "H100-SXM-80GB"))
    for i, row in enumerate(rows):
        row.end_to_end, row.host, row.workload = True, False, "ab"[(i // 2) % 2]
    problem = Problem(rows, index)
    slow = np.array([row.workload == "b" for row in rows])
    problem.log_measured = problem.predict(np.array(index.mean)) + np.where(slow, 0.2, 0.0)
    values = solve(problem)
    own = problem.fit_offsets(values) - problem.predict(values)
    assert own[slow].min() - own[~slow].max() > 0.12
    assert np.abs(problem.fit_offsets(values) - problem.log_measured).max() < 0.1


def test_operations_that_are_alike_are_added_up() -> None:
    """Merging changes no prediction: what is added has the same features and is bound by the same side."""
    groups = tuple(
        OperationGroup(
            kind="matmul", name=f"aten.mm{i}", phase="forward", dtype="fp32", shape=(1, size, size, size), launches=1,
            flops=2 * size**3, bytes_read=8 * size**2, bytes_written=4 * size**2,
        )
        for i, size in enumerate((1024, 1024, 4096))
    )  # fmt: skip
    index = Index(prior)
    row = RowMaker(index, Counter()).row(
        Operations.of_groups(groups), accelerator("V100-SXM2-16GB"), 1.0, LINE, source="made", workload="made", precision="fp32",
    )  # fmt: skip
    assert row is not None
    less = merge_operations(row)
    assert (len(row.flop_s), len(less.flop_s)) == (3, 2)
    problem, other = Problem([row], index), Problem([less], index)
    theta = np.array(index.mean)
    assert other.predict(theta) == pytest.approx(problem.predict(theta), rel=1e-9)
    assert roofline_s(less) == pytest.approx(roofline_s(row))


def test_brief_kernels_are_not_merged_with_long_ones() -> None:
    """The same bytes in one kernel and in 4,096 do not take the same time."""
    group = OperationGroup(
        kind="elementwise", name="aten.add", phase="forward", dtype="fp32", shape=(2**26,), launches=1, flops=0,
        bytes_read=2**29, bytes_written=2**28,
    )  # fmt: skip
    many = group.model_copy(update={"launches": 4096})
    index = Index(prior)
    row = RowMaker(index, Counter()).row(
        Operations.of_groups((group, group, many)), accelerator("V100-SXM2-16GB"), 1.0, LINE, source="made", workload="made", precision="fp32",
    )  # fmt: skip
    assert row is not None
    assert len(merge_operations(row).byte_s) == 2


def test_more_bandwidth_never_slows_a_brief_kernel_by_its_prior() -> None:
    """What rows could move it by, five standard deviations, leaves 0.1 below ln 2 for the term of the bandwidth."""
    mean, sd = prior(BRIEF)
    assert 0.3 < mean < mean + 5 * sd < math.log(2) - 0.1


def test_what_a_fold_lacks_stays_at_its_prior() -> None:
    rows, index = _rows(("V100-SXM2-16GB", "T4-16GB"))
    problem = Problem(rows, index)
    problem.log_measured = problem.predict(np.array(index.mean)) + np.log(3.0)
    without = np.array([row.chip == "T4" for row in rows])
    values = solve(problem, solve(problem), 8, without)
    for name in ("vector|gen:turing", "memory|gen:turing", "shared|silicon:TU104"):
        assert values[index.of[name]] == pytest.approx(prior(name)[0], abs=1e-3)


def test_a_term_that_decides_is_missed_where_it_is_left_out() -> None:
    """One device is far less efficient than its rates say: without the terms of dies and years its rows stay unexplained."""
    rows, index = _rows(("V100-SXM2-16GB", "T4-16GB", "H100-SXM-80GB", "A100-SXM-80GB"))
    for i, row in enumerate(rows):
        row.end_to_end, row.host, row.workload, row.source = True, False, str(i), "ab"[(i // 2) % 2]
        row.line = LINE | {"measured": "training loop"}
    problem = Problem(rows, index)
    truth = np.array(index.mean)
    truth[index.of["vector|gen:turing"]], truth[index.of["memory|gen:turing"]] = -1.5, -1.5
    problem.log_measured = problem.predict(truth)
    less = without(problem, TERMS["generations"])
    held = [name for name, column in index.of.items() if less.index.sd[column] < problem.index.sd[column]]
    assert held == [name for name in index.of if "|gen:" in name]
    assert (problem.index.sd[index.of["vector|gen:turing"]], less.rows) == (
        prior("vector|gen:turing")[1],
        problem.rows,
    )
    values_by_key = {line["terms left out"]: float(line["all_mape_pct"]) for line in scores_without(problem)}
    assert list(values_by_key) == ["(none)", *TERMS]
    assert values_by_key["generations"] > 1.5 * values_by_key["(none)"] > 0
    assert values_by_key["batch norm"] == pytest.approx(values_by_key["(none)"], abs=0.05)  # no row has it


def test_every_term_of_the_fit_has_a_group() -> None:
    """But for kinds of operations, constants and what a launch costs, which no model goes without."""
    names = {*calibration().coefficients, *GLOBALS}
    grouped = {name for name in names for pattern in TERMS.values() if re.search(pattern, name)}
    assert all("|kind:" in name or name.endswith("|1") or name in GLOBALS for name in names - grouped)
    assert all(any(re.search(pattern, name) for name in names) for pattern in TERMS.values())


def test_the_derivatives_are_those_of_the_prediction() -> None:
    """On a V100, and on an L40S, whose cache is faster than its memory."""
    rows, index = _rows(("V100-SXM2-16GB", "L40S-48GB"))
    rows[0].end_to_end = rows[0].host = True
    for row, kind in ((rows[1], 1), (rows[3], 2)):  # pointwise steps under a compiler
        row.end_to_end = row.host = True
        row.fused, row.fused_launches, row.launches = row.fused + kind, row.launches, row.launches * 0
        row.fused_kernels, row.kernels = row.kernels, 0.0
    problem = Problem(rows, index)
    theta = np.array(index.mean)
    jacobian = problem.slopes(theta).toarray()
    for column in range(len(theta)):
        moved = theta.copy()
        moved[column] += 1e-6
        numeric = (problem.fit_offsets(moved) - problem.fit_offsets(theta)) / 1e-6
        assert jacobian[:, column] == pytest.approx(numeric, abs=1e-4), column
    assert set(GLOBALS) <= set(index.of)


def test_a_submission_has_shares_of_its_own() -> None:
    """The kernels of its vendor: its shares move no compiled step, of whose bytes the profile says what is left."""
    groups = tuple(
        OperationGroup(
            kind=kind, name="aten.made", phase="forward", dtype="fp32", shape=(2**24,), launches=20, flops=0,
            bytes_read=2**30, bytes_written=2**30,
        )
        for kind in ("elementwise", "softmax")
    )  # fmt: skip
    operations, index = Operations.of_groups(groups, compiled=True), Index(prior)
    maker = RowMaker(index, Counter())
    rows = [
        maker.row(
            operations, accelerator("V100-SXM2-16GB"), 1.0, {**LINE, "measured": measured, "framework": framework},
            source="made", workload="made", precision="fp32", weight=1.0,
        )
        for measured, framework in (("", "pytorch 2.1 torch.compile"), ("", "pytorch (NGC)"), (SUBMISSION, "pytorch"))
    ]  # fmt: skip
    problem = Problem([row for row in rows if row is not None], index)
    assert [row.compiled for row in problem.rows] == [True, False, False]
    theta = np.array(index.mean)
    slopes = problem.slopes(theta).toarray()
    for name, of_rows in (
        ("fused_launches", [True, True, False]), ("submission_launches", [False, False, True]),
        ("submission_bytes", [False, False, True]), ("submission_reduction_bytes", [False, False, True]),
    ):  # fmt: skip
        column = index.of[name]
        assert (slopes[:, column] > 0).tolist() == of_rows, name
        moved = theta.copy()
        moved[column] += 1e-6
        numeric = (problem.fit_offsets(moved) - problem.fit_offsets(theta)) / 1e-6
        assert slopes[:, column] == pytest.approx(numeric, abs=1e-4), name


def test_a_compiled_step_moves_what_its_profile_says_is_left() -> None:
    """A graph compiler leaves its usual share; a submission moves all, and has shares of its own for what is less."""
    group = OperationGroup(
        kind="softmax", name="aten.made", phase="forward", dtype="fp32", shape=(2**24,), launches=20, flops=0,
        bytes_read=2**30, bytes_written=2**30, fused_bytes_share=0.25,
    )  # fmt: skip

    def bytes_of(device: str, *, compiled: bool, measured: str = "") -> float:
        card = accelerator(device)
        row = RowMaker(Index(prior), Counter()).row(
            Operations.of_groups((group,), compiled=compiled), card, 1.0, {**LINE, "measured": measured},
            source="made", workload="made", precision="fp32",
        )  # fmt: skip
        assert row is not None
        return float(row.byte_s[0]) * card.memory_bandwidth_bytes_per_s / 2**31

    assert bytes_of("V100-SXM2-16GB", compiled=False) == pytest.approx(1.0)
    assert bytes_of("V100-SXM2-16GB", compiled=True) == pytest.approx(0.25)
    assert bytes_of("TPU-v4", compiled=False) == pytest.approx(USUAL_FUSED_BYTES_SHARE)
    assert bytes_of("TPU-v4", compiled=True, measured=SUBMISSION) == pytest.approx(1.0)
    assert bytes_of("V100-SXM2-16GB", compiled=True, measured=SUBMISSION) == pytest.approx(1.0)


def test_one_measured_step_carries_over_what_two_chips_share() -> None:
    """Errors that belong to the workload disappear; shares come from other targets, never from the row scored."""
    rows, index = _rows(("V100-SXM2-16GB", "T4-16GB", "H100-SXM-80GB"))
    for row in rows:
        row.line = {**row.line, "measured": "training loop"}
    errors = dict.fromkeys(range(len(rows)), 0.3)
    carried = fit_carried_over(Problem(rows, index), errors, errors)
    assert carried.shares.share == pytest.approx(1.0)
    assert carried.trainer.all()
    assert error_summary(carried.left)["mape"] < 0.01 < error_summary(list(errors.values()))["mape"]


def test_bare_steps_have_shares_of_their_own_and_none_ship() -> None:
    """Where only bare steps were timed, nothing is known of what carries over from a job's measured step."""
    rows, index = _rows(("V100-SXM2-16GB", "T4-16GB", "H100-SXM-80GB"))
    errors = dict.fromkeys(range(len(rows)), 0.3)
    carried = fit_carried_over(Problem(rows, index), errors, errors)
    assert (carried.shares.share, carried.shares.share_per_log_slower) == (0.0, 0.0)
    assert np.abs(carried.left).max() < 0.01


def test_a_sampled_kernel_speaks_for_the_rows_it_was_taken_from() -> None:
    """The table has thousands of convolutions and dozens of embeddings: the width of its intervals follows the table."""
    rows, _ = _rows(("V100-SXM2-16GB",))
    rows[0].stands_for, rows[1].stands_for, rows[2].end_to_end, rows[2].source = 100.0, 3.0, True, "made"
    assert kernel_errors(rows, {0: 0.5, 1: 0.1, 2: 9.0}) == [0.5] * 10 + [0.1]


def test_a_kernel_row_is_predicted_in_its_own_unit() -> None:
    line = {
        "op": "linear", "direction": "forward", "batch": "1", "m": "4096", "n": "4096", "k": "4096", "rows": "",
        "cols": "", "launches": "1", "flops": str(2 * 4096**3), "bytes": str(3 * 4 * 4096**2), "in_size": "",
        "c_in": "", "c_out": "",
    }  # fmt: skip
    seconds = seconds_of([kernel_group(line)], "V100-SXM2-16GB")[0]
    assert 2 * 4096**3 / 15.7e12 < seconds < 4 * 2 * 4096**3 / 15.7e12


@pytest.mark.parametrize(
    ("framework", "version"), [("pytorch 1.12 cu113", "1.12"), ("PyTorch 0.3.0", "0.3"), ("mxnet (NGC)", "")]
)
def test_the_torch_version_is_what_the_row_says(framework: str, version: str) -> None:
    assert torch_of(framework) == version
    assert chip_of("A100-SXM-80GB") == "A100"


def test_a_trainers_loop_is_told_from_bare_steps() -> None:
    assert is_trainer_time({"measured": "full training iterations incl. data loading"})
    assert is_trainer_time({"measured": "training loop rate with optimizer step"})
    assert is_trainer_time({"measured": "mean optimizer-step wall time incl. data loading"})
    assert not is_trainer_time({"measured": "fwd+loss+bwd+optimizer on synthetic GPU data"})
    assert not is_trainer_time({})


def test_a_fit_ends_at_the_smallest_loss_wherever_it_begins() -> None:
    """With coefficients that the measurements hardly tell apart, as those of one device are."""
    rng, terms, rows, bend, noise = np.random.default_rng(1), 40, 200, 0.1, 0.05
    slopes = rng.standard_normal((rows, terms)) * np.logspace(0, -3, terms)
    truth = rng.standard_normal(terms)
    measured = slopes @ truth + noise * rng.standard_normal(rows)
    prior_of = Prior(np.zeros(terms), np.full(terms, 3.0))
    losses = []
    for start in (np.zeros(terms), truth, -truth):
        theta = robust_fit(
            lambda at: slopes @ at - measured, lambda _: slopes, prior_of, np.ones(rows),
            bend=bend, noise=noise, evaluations=400, start=start,
        )  # fmt: skip
        errors = slopes @ theta - measured
        of_rows = 2 * (bend / noise) ** 2 * (np.sqrt(1 + (errors / bend) ** 2) - 1)
        losses.append(float(of_rows.sum() + ((theta / 3.0) ** 2).sum()))
    assert max(losses) == pytest.approx(min(losses), rel=1e-6)
