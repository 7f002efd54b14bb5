"""The whole table: parts add up, unknown stays unknown, many rows equal single rows, ignorance widens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.plans import plan, predict_one, shapes
from builders.profiles import gpt_profile, operation, profile
from trainfare_core.candidates import PlanSpace, enumerate_candidates
from trainfare_core.hardware.accelerators import accelerator, accelerators
from trainfare_core.job_profile import USUAL_FUSED_BYTES_SHARE, JobProfile, ParallelFacts, ProfileSource
from trainfare_core.number_format import percent
from trainfare_core.prediction import PredictionTable, predict, predict_machine
from trainfare_core.prediction.breakdown import notes_of
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.uncertainty import UNFITTED_SIGMA

TRAINING = tuple(device.name for device in accelerators() if device.trains)
COLUMNS = tuple(
    name
    for name in PredictionTable.__slots__
    if name not in ("fits", "unknown_because", "nearest", "is_guess")
)


def test_parts_add_up_to_the_step() -> None:
    """Compute, memory, launches, exposed communication and input make the step, on every accelerator."""
    job = gpt_profile(batch_size=64)
    table = predict(
        job, shapes(*TRAINING, count=8, network=100), plan(rows=len(TRAINING), nodes=2, sharding="fsdp")
    )
    parts = table.compute_s + table.memory_s + table.launch_s + table.communication_s + table.input_s
    known = table.unknown_because == ""
    assert known.sum() > 100
    assert parts[known] == pytest.approx(table.step_s[known])
    assert (table.communication_hidden_s[known] >= 0).all()
    assert (table.launch_s[known] > 0).all()


def test_a_row_is_all_known_or_all_unknown() -> None:
    """A plan without a step time has no other number either, does not fit, and has a reason."""
    names = (*TRAINING, "Inferentia2", "Imaginary-9000")
    table = predict(gpt_profile(dtype="fp16"), shapes(*names), plan(rows=len(names)))
    unknown = np.isnan(table.step_s)
    assert unknown.any()
    for name in COLUMNS:
        assert (np.isnan(getattr(table, name)) == unknown).all(), name
    assert (~table.fits[unknown]).all()
    assert (~table.is_guess[unknown]).all()
    assert ((table.nearest < 0) == unknown).all()
    assert ((table.unknown_because != "") == unknown).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Imaginary-9000", "not in the accelerator catalogue"),
        ("H100-SXM", "not in the accelerator catalogue"),
        ("", "not in the accelerator catalogue"),
        ("Inferentia2", "cannot train"),
    ],
)
def test_an_accelerator_without_an_answer(name: str, words: str) -> None:
    """An unknown name is never a neighbour's figure; a chip for inference does not train."""
    assert words in str(predict_one(gpt_profile(), name).unknown_because[0])


@pytest.mark.parametrize(
    ("plan_of", "words"),
    [
        ({"count": 8, "nodes": 2}, "network of this machine is not known"),
        ({"count": 8, "nodes": 2, "network": 0.0}, "network of this machine is not known"),
        ({"count": 0.25}, "share of a device"),
        ({"count": math.nan}, "share of a device"),
        ({"count": 2, "sharding": "none"}, "need a strategy"),
        ({"ratio": math.nan}, "micro-batch of this plan is not known"),
    ],
)
def test_a_plan_without_an_answer(plan_of: dict[str, float], words: str) -> None:
    """What is not known about the machine is said, not assumed."""
    table = predict_one(gpt_profile(), "A100-SXM-80GB", **plan_of)  # type: ignore[arg-type]
    assert words in str(table.unknown_because[0])
    assert math.isnan(table.step_s[0])


def test_a_profile_without_operations_says_so() -> None:
    """An empty trace is not a step of no time."""
    table = predict_one(profile(operations=()), "A100-SXM-80GB")
    assert "the profile has no operations, because" in str(table.unknown_because[0])


def test_operations_of_no_work_have_no_step_time() -> None:
    """Zero launches, FLOPs and bytes: no prediction instead of an infinite throughput."""
    nothing = operation(flops=0, bytes_read=0, bytes_written=0, launches=0)
    assert "no finite time" in str(
        predict_one(profile(operations=(nothing,)), "A100-SXM-80GB").unknown_because[0]
    )


_SPARSE = "without sparse=True"


def test_a_sparse_tensor_of_backward_is_no_sparse_gradient_where_all_gradients_are_dense() -> None:
    """As in a graph network whose backward makes one: its weights have gradients of their own size."""
    job = profile()
    group = operation(
        kind="unknown", name="aten._sparse_coo_tensor_with_dims_and_tensors", phase="backward", flops=0
    )
    job = job.model_copy(update={"operations": (*job.operations, group)})
    dense = sum(group.parameter_bytes for group in job.parameters)
    cases = ((dense, 2, ""), (dense // 100, 2, _SPARSE), (dense // 100, 1, _SPARSE), (2 * dense, 2, _SPARSE))
    for gradients, count, words in cases:  # two machines of one device add up gradients too
        memory = job.memory.model_copy(update={"gradient_bytes": gradients})
        table = predict_one(
            job.model_copy(update={"memory": memory}), "A100-SXM-80GB",
            count=count, nodes=2 // count, network=100, sharding="ddp",
        )  # fmt: skip
        assert words in str(table.unknown_because[0])
        assert math.isnan(table.step_s[0]) == bool(words)


def test_no_plans_no_rows() -> None:
    """An empty table in, an empty table out."""
    assert len(predict(gpt_profile(), shapes("A100-SXM-80GB"), plan(rows=0))) == 0
    assert len(predict(gpt_profile(), shapes(), plan(rows=0))) == 0


def test_a_table_equals_its_rows_one_by_one() -> None:
    """Vectorising changes nothing: each row of a mixed table is what it is alone, in any order."""
    job = gpt_profile(batch_size=32)
    names = ("A100-SXM-80GB", "T4-16GB", "Nowhere", "TPU-v5e", "A100-SXM-80GB", "Inferentia2", "MI300X")
    machines = shapes(*names, count=4, network=100)
    candidates = enumerate_candidates(job, machines, PlanSpace(4))
    order = np.random.default_rng(1).permutation(len(candidates))
    fields = ("shape", "nodes", "sharding", "micro_batch", "micro_ratio", "accumulate")
    shuffled = type(candidates)(*(getattr(candidates, field)[order] for field in fields))
    table = predict(job, machines, shuffled)
    for row in range(0, len(shuffled), 7):
        single = type(candidates)(*(getattr(shuffled, field)[row : row + 1] for field in fields))
        alone = predict(job, machines, single)
        for name in COLUMNS:
            assert getattr(table, name)[row] == pytest.approx(
                getattr(alone, name)[0], rel=1e-12, nan_ok=True
            ), name
        assert (table.nearest[row], table.is_guess[row]) == (alone.nearest[0], alone.is_guess[0])
        assert table.unknown_because[row] == alone.unknown_because[0]
        assert table.fits[row] == alone.fits[0]


def sigma(job: JobProfile, name: str = "A100-SXM-80GB", **plan_of: float) -> float:
    """Return the standard deviation of ln(step)."""
    return float(predict_one(job, name, **plan_of).log_sigma[0])  # type: ignore[arg-type]


def test_ignorance_widens_the_interval() -> None:
    """Each thing that is not known makes the interval wider than the same prediction with it known."""
    job = gpt_profile()
    base = sigma(job)
    assert base < sigma(job, count=8) < sigma(job, count=8, nodes=2, network=100)
    assert base < sigma(job, "V100-SXM2-16GB"), "bf16 is emulated on Volta"
    assert base < sigma(job, "RTX-5090-32GB"), "rtx-blackwell was never measured"
    assert base < sigma(job, "TPU-v5e") < sigma(job, "Trainium2")
    assert sigma(job, "Trainium3") >= sigma(job, "Trainium2"), "trainium3 was never measured"
    assert base < sigma(gpt_profile(source=ProfileSource(how="fake", tool_version="0", compiled=True)))
    strange = gpt_profile()
    strange = strange.model_copy(
        update={"operations": (*strange.operations, operation(kind="unknown", bytes_read=10**10, flops=0))}
    )
    assert base < sigma(strange), "a tenth of the bytes has no formula"
    tiny = gpt_profile(batch_size=1, sequence=8, width=64, heads=1)
    assert base < sigma(tiny), "held up by a host nobody knows"


@pytest.mark.parametrize("change", [{"dtype": "fp8"}, {"kind": "indexing"}])
def test_work_that_no_fitted_row_holds_widens_the_interval_by_its_share(change: dict[str, str]) -> None:
    """Products in a type that no step of one device ran in, and a kind of operation of which no kernel was timed."""
    name, job = "H100-SXM-80GB", profile(batch_size=256, dtype="bf16")
    products = [g for g in job.operations if g.kind in ("matmul", "convolution")]
    assert products
    changed, half = (
        tuple(g.model_copy(update=change) if g in some else g for g in job.operations)
        for some in (products, products[::2])
    )
    base, part, whole = (
        sigma(job.model_copy(update={"operations": operations}), name)
        for operations in (job.operations, half, changed)
    )
    assert base < part < whole <= math.hypot(base, UNFITTED_SIGMA) + 0.02


def test_a_device_of_which_only_the_best_matrix_product_was_timed_is_not_known() -> None:
    fit, names = calibration(), ("MI300X", "MI325X-256GB", "Gaudi3-128GB", "B300-SXM-288GB")
    assert [fit.is_known(accelerator(name)) for name in names] == [False] * 4
    assert fit.is_known(accelerator("MI210-64GB"))
    answer = predict_machine(profile(), "MI300X")
    assert not answer.device_known
    assert answer.calibrated.startswith("device unseen, dtype seen: no step of MI300X was measured")


@given(
    flops=st.integers(0, 10**24),
    moved=st.integers(0, 10**18),
    launches=st.integers(0, 10**18),
    name=st.sampled_from(TRAINING),
)
@settings(max_examples=60, deadline=None)
def test_no_legal_profile_breaks_the_table(flops: int, moved: int, launches: int, name: str) -> None:
    """Whatever the sizes within the schema: a positive finite step with a positive sigma, or a reason."""
    job = profile(
        operations=(
            operation(flops=flops, bytes_read=moved, bytes_written=0, launches=launches, dtype="fp32"),
        )
    )
    table = predict_one(job, name)
    if table.unknown_because[0]:
        assert math.isnan(table.step_s[0])
    else:
        assert 0 < table.step_s[0] < math.inf
        assert 0 < table.log_sigma[0] < 3


def test_fsdp_shares_the_optimizer_work() -> None:
    """The update of a sharded run takes a part of the time on each device; DDP repeats it on all."""
    update = operation(
        kind="optimizer", phase="optimizer", dtype="fp32", flops=0, bytes_read=10**11, bytes_written=0,
        bytes_fixed=10**11,
    )  # fmt: skip
    job = profile(operations=(update,))
    alone = predict_one(job, "A100-SXM-80GB").memory_s[0]
    assert predict_one(job, "A100-SXM-80GB", count=8, sharding="ddp").memory_s[0] == pytest.approx(alone)
    assert predict_one(job, "A100-SXM-80GB", count=8, sharding="fsdp").memory_s[0] == pytest.approx(alone / 8)


def test_compiled_graphs_have_no_host_between_launches() -> None:
    """A TPU runs a step as one graph: ten thousand tiny operations do not wait for a host as they do on a GPU."""
    job = profile(operations=(operation(launches=10_000, flops=1, bytes_read=1, bytes_written=0),))
    assert predict_one(job, "TPU-v5e").step_s[0] < 0.6 * predict_one(job, "A100-SXM-80GB").step_s[0]


def test_a_graph_compiler_fuses_pointwise_operations_once() -> None:
    """A TPU moves fewer bytes than an eager trace counts, and no fewer again where the profile is compiled."""
    pointwise = operation(kind="elementwise", flops=0, bytes_read=10**11, bytes_written=0, launches=1)
    eager = profile(operations=(pointwise,))
    compiled = profile(
        operations=(pointwise,), source=ProfileSource(how="fake", tool_version="0", compiled=True)
    )
    assert predict_one(eager, "TPU-v5e").memory_s[0] == pytest.approx(
        predict_one(compiled, "TPU-v5e").memory_s[0]
    )
    assert (
        predict_one(compiled, "A100-SXM-80GB").memory_s[0]
        < 0.6 * predict_one(eager, "A100-SXM-80GB").memory_s[0]
    )


def test_a_compiler_leaves_the_bytes_that_the_profile_says() -> None:
    """A long chain keeps more on chip than a short one; older profiles and graph compilers have the usual share."""

    def memory_s(share: float | None, device: str = "A100-SXM-80GB", *, compiled: bool = True) -> float:
        chain = operation(
            kind="elementwise",
            flops=0,
            bytes_read=10**11,
            bytes_written=0,
            launches=1,
            fused_bytes_share=share,
        )
        source = ProfileSource(how="fake", tool_version="0", compiled=compiled)
        return float(predict_one(profile(operations=(chain,), source=source), device).memory_s[0])

    assert memory_s(0.2) == pytest.approx(memory_s(0.8) / 4, rel=0.01)
    assert memory_s(0.2, "TPU-v5e") == memory_s(0.8, "TPU-v5e") == memory_s(None, "TPU-v5e")
    assert memory_s(0.2, compiled=False) == memory_s(0.8, compiled=False) > memory_s(0.8)
    assert memory_s(0.2) < memory_s(None) < memory_s(0.8)


def test_the_note_of_a_compiled_step_says_what_is_left() -> None:
    """Weighed by bytes, without products; on a TPU, whose own compiler fuses, the usual share as in the prediction."""
    groups = tuple(
        operation(
            kind="elementwise",
            shape=(size,),
            flops=0,
            bytes_read=size,
            bytes_written=0,
            fused_bytes_share=share,
        )
        for size, share in ((3 * 10**9, 0.2), (10**9, 0.6))
    )
    job = profile(
        operations=(*groups, operation()), source=ProfileSource(how="fake", tool_version="0", compiled=True)
    )
    for device, left in (("A100-SXM-80GB", "30 %"), ("TPU-v5e", percent(USUAL_FUSED_BYTES_SHARE))):
        (note,) = [note for note in notes_of(prepare(job), accelerator(device)) if "torch.compile" in note]
        assert f"which leaves {left} of their bytes" in note, device


def test_a_profile_that_accumulates_is_already_a_whole_step() -> None:
    """Operations of four accumulated micro-batches are four passes; one pass takes a quarter of them."""
    job = profile(
        operations=(operation(launches=4, flops=4 * 2 * 4096**3),),
        parallel=ParallelFacts(accumulate_grad_batches=4),
    )
    whole, table = (
        predict_one(job, "A100-SXM-80GB", accumulate=4),
        predict_one(job, "A100-SXM-80GB", accumulate=1),
    )
    again = predict_one(job.model_copy(update={"parallel": ParallelFacts()}), "A100-SXM-80GB")
    assert whole.step_s[0] == pytest.approx(again.step_s[0])
    assert table.step_s[0] == pytest.approx(whole.step_s[0] / 4)


def test_several_machines_are_less_certain_however_little_they_exchange() -> None:
    """Two machines that exchange next to nothing are still less certain than one with as many devices."""
    job = gpt_profile()
    silent = job.model_copy(update={"memory": job.memory.model_copy(update={"gradient_bytes": 1})})
    assert sigma(silent, count=8, nodes=1) < 0.99 * sigma(silent, count=4, nodes=2, network=3200)
