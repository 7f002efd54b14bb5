"""The terms of language models: how plans that split the model trade compute, waiting and exchange."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from builders.plans import plan, predict_one, shapes
from builders.profiles import gpt_profile, operation, profile
from trainfare_core.candidates import CandidateTable, ModelParallel
from trainfare_core.hardware.accelerators import accelerator, accelerators
from trainfare_core.job_profile import POINTWISE_KINDS, JobProfile, MeasuredStep, OperationGroup, Quantiles
from trainfare_core.prediction import PredictionTable, predict
from trainfare_core.prediction.engine import predict_run, prepare
from trainfare_core.prediction.language_models.coefficients import USUAL_CEILING, decoder_calibration
from trainfare_core.prediction.language_models.step import host_launches
from trainfare_core.prediction.language_models.sums import (
    DEEPSPEED_SUFFIX,
    GRAPH_PRECISION,
    LIBRARY_PRECISION,
    UNPACK_4_BITS,
    DecoderLedger,
)
from trainfare_core.prediction.uncertainty import UNFITTED_SIGMA
from trainfare_core.variants import in_8_bits, is_decoder, may_be_in_8_bits

A100 = "A100-SXM-80GB"


def _split(
    job: JobProfile, *, count: int = 8, nodes: int = 1, accumulate: int = 8, **split: Any
) -> PredictionTable:
    parallel = ModelParallel.none(1)
    for name, value in split.items():
        parallel = replace(parallel, **{name: np.array([value])})
    plans = replace(plan(nodes=nodes, sharding="ddp", accumulate=accumulate), parallel=parallel)
    return predict(job, shapes(A100, count=count, network=800), plans)


def plan_of(*, overlap: bool = True) -> CandidateTable:
    """Return the plan of one device, whose gradients may wait for backward."""
    parallel = replace(ModelParallel.none(1), overlap=np.array([overlap]))
    return replace(plan(), parallel=parallel)


def test_a_pipeline_waits_less_with_more_micro_batches_and_with_chunks() -> None:
    """Bubble (p - 1) / (m v): Narayanan et al. 2021; the stage with the head makes the others wait a little more."""
    job = gpt_profile(layers=32, width=4096, heads=32)
    table = _split(job, pipeline=8, accumulate=8)
    waiting = table.communication_s[0] / (table.step_s[0] - table.communication_s[0])
    assert 7 / 8 <= waiting < 7 / 8 + 0.2
    chunks = _split(job, pipeline=8, virtual=4, accumulate=8)
    longer = _split(job, pipeline=8, accumulate=64)
    assert chunks.step_s[0] < table.step_s[0]
    assert longer.step_s[0] / 8 < table.step_s[0]


def test_tensor_parallelism_divides_compute_and_exchanges_activations() -> None:
    job = gpt_profile(layers=32, width=4096, heads=32)
    whole, half = _split(job), _split(job, tensor=2)
    assert half.compute_s[0] == pytest.approx(whole.compute_s[0] / 2, rel=0.02)
    assert half.communication_s[0] > whole.communication_s[0]
    across = _split(job, count=4, nodes=4, tensor=8)
    inside = _split(job, count=8, nodes=2, tensor=8)
    assert across.communication_s[0] > 1.5 * inside.communication_s[0], (
        "a tensor group over a network is slow"
    )


def _with_experts(*sides: int) -> JobProfile:
    job = gpt_profile(layers=32, width=4096, heads=32)
    experts = tuple(
        OperationGroup(
            kind="grouped_matmul", name="bmm", phase="forward", dtype="bf16", shape=(8, 8192, columns, depth),
            launches=32, flops=32 * 2 * 8192 * columns * depth, bytes_read=10**10, bytes_written=10**9,
            bytes_fixed=32 * 8 * 2 * columns * depth,
        )
        for columns, depth in (sides, sides[::-1])
    )  # fmt: skip
    return job.model_copy(update={"operations": (*job.operations, *experts)})


def test_experts_receive_tokens_of_the_hidden_size_or_of_the_narrower_one_that_they_work_on() -> None:
    whole, narrow = (DecoderLedger.of(_with_experts(wide, 2048)) for wide in (4096, 1024))
    assert float(whole.expert_bytes) == 2 * 32 * 2 * 8192 * 4096
    assert float(narrow.expert_bytes) == float(whole.expert_bytes) / 4


def test_experts_over_more_devices_than_there_are_replicas_exchange_within_their_machine() -> None:
    """Tensor 2 and expert 8 on eight devices: every expert is one device's, and tokens go to all of them."""
    job = _with_experts(4096, 2048)
    none, four, eight = (_split(job, tensor=2, expert=n).communication_s[0] for n in (1, 4, 8))
    assert eight - none == pytest.approx((7 / 8) / (3 / 4) * (four - none))


def test_a_library_starts_the_products_of_every_expert_that_a_device_holds() -> None:
    """Eight experts: on four devices a host starts two of each of 64 products, and their casts; PyTorch one of all."""
    eager = _with_experts(4096, 2048)
    library, graph = (
        eager.model_copy(update={"precision": name}) for name in (LIBRARY_PRECISION, GRAPH_PRECISION)
    )
    narrow = in_8_bits(library, lambda group: group.kind == "grouped_matmul")
    torch, one_by_one, with_casts, at_once = (
        DecoderLedger.of(job) for job in (eager, library, narrow, graph)
    )
    launches = float(torch.launches)
    for devices, held in ((1.0, 8), (4.0, 2), (8.0, 1), (16.0, 1)):
        assert float(host_launches(torch, devices)) == launches
        assert float(host_launches(one_by_one, devices)) == launches + 64 * (held - 1)
        assert float(host_launches(with_casts, devices)) == launches + 64 + 128 * (held - 1)
        assert float(host_launches(at_once, devices)) == 0
    b200 = [predict_one(job, "B200-SXM-180GB").step_s[0] for job in (graph, library)]
    assert b200[0] < b200[1], "the host of a step that is one graph holds nothing up"
    spread = [_split(library, expert=devices).launch_s[0] for devices in (1, 8)]
    assert spread[1] < spread[0]


def test_the_wider_an_expert_the_faster_it_multiplies_up_to_the_widest_measured() -> None:
    """Beyond 4,096, where other products are wide: a quarter more FLOPs take less than a quarter longer."""
    none = predict_one(gpt_profile(layers=32, width=4096, heads=32), A100).compute_s[0]
    each = [predict_one(_with_experts(wide, 4096), A100).compute_s[0] - none for wide in (4096, 5120)]
    assert each[1] < 1.25 * 0.99 * each[0]
    sides = [
        float(DecoderLedger.of(_with_experts(*pair)).expert_width) for pair in ((4096, 1024), (1024, 4096))
    ]
    assert sides == [2048, 2048]


def test_a_pipeline_waits_for_its_stages_and_for_the_head() -> None:
    """Of p stages, p - 1 wait for a stage's pass once a step, and in every pass for the last stage's head."""
    with_head, without = (gpt_profile(layers=32, width=4096, heads=32, head=head) for head in (True, False))

    def run(job: JobProfile, passes: int, stages: int = 8) -> PredictionTable:
        return _split(job, pipeline=stages, accumulate=passes)

    pass_s = (run(without, 16).step_s[0] - run(without, 8).step_s[0]) / 8
    assert run(without, 8).communication_s[0] == pytest.approx(7 * pass_s, rel=1e-6)
    head_s = (run(with_head, 8, stages=1).compute_s[0] - run(without, 8, stages=1).compute_s[0]) / 8
    waited_s = (run(with_head, 16).communication_s[0] - run(with_head, 8).communication_s[0]) / 8
    assert waited_s == pytest.approx(7 / 8 * head_s, rel=1e-6)


def test_device_and_host_are_held_by_the_root_of_the_sum_of_their_squares() -> None:
    job = gpt_profile(layers=4, width=512, heads=8, batch_size=1)
    job = job.model_copy(update={"operations": tuple(g for g in job.operations if g.phase != "optimizer")})
    launches = float(DecoderLedger.of(job).launches)

    def step_s(host_launch_s: float) -> float:
        fit = decoder_calibration().model_copy(update={"host_launch_s": host_launch_s})
        return float(predict_run(prepare(job, decoder=fit), shapes(A100), plan()).step_s[0])

    device_s = step_s(0.0)
    assert step_s(device_s / launches) == pytest.approx(2**0.5 * device_s, rel=1e-6)


def test_software_of_gpus_is_no_matter_of_a_tpu() -> None:
    job = gpt_profile(layers=8, width=2048, heads=16)
    slow = decoder_calibration().model_copy(update={"framework_slope": 1.0})
    for device, same in (("TPU-v5p", True), ("H100-SXM-80GB", False)):
        usual_s, late_s = (
            float(predict_run(prepare(job, decoder=fit), shapes(device), plan()).step_s[0])
            for fit in (decoder_calibration(), slow)
        )
        assert (usual_s == late_s) == same, device


def test_a_split_model_needs_less_memory_and_a_pipeline_keeps_its_micro_batches() -> None:
    job = gpt_profile(layers=32, width=4096, heads=32)
    whole, tensor, pipeline = _split(job), _split(job, tensor=8), _split(job, pipeline=8)
    assert tensor.memory_bytes[0] < 0.3 * whole.memory_bytes[0]
    assert tensor.memory_bytes[0] < pipeline.memory_bytes[0] < whole.memory_bytes[0]
    zero = _split(job, sharded_optimizer=True)
    assert zero.memory_bytes[0] < whole.memory_bytes[0]


def test_the_stage_with_the_head_holds_the_others_up() -> None:
    """Few blocks a stage: the last stage has its share of the blocks and the whole vocabulary besides."""
    deep, shallow = (gpt_profile(layers=layers, width=2048, heads=16) for layers in (96, 12))
    ledger = DecoderLedger.of(shallow)
    assert 0 < float(ledger.head_flops) < float(ledger.product_flops)
    waits = [
        table.communication_s[0] / table.step_s[0]
        for table in (_split(j, pipeline=4) for j in (deep, shallow))
    ]
    assert waits[1] > 1.1 * waits[0]
    assert _split(shallow).communication_s[0] < 0.1 * _split(shallow).step_s[0], "one stage waits for nobody"


def test_the_engine_of_deepspeed_takes_longer_for_the_same_kernels() -> None:
    """Described runs alone: a Trainer's precision never ends like that."""
    job = gpt_profile(layers=32, width=4096, heads=32, precision="bf16-true")
    engine = job.model_copy(update={"precision": job.precision + DEEPSPEED_SUFFIX})
    factor = decoder_calibration().deepspeed_factor
    assert factor > 1.1
    for device in (A100, "V100-SXM2-32GB"):
        plain, slow = (predict_one(profile, device) for profile in (job, engine))
        assert plain.memory_s[0] < slow.memory_s[0] < factor * plain.memory_s[0], (
            "the update is not Megatron's"
        )
        assert slow.compute_s[0] == pytest.approx(factor * plain.compute_s[0], rel=1e-6)


def test_what_runs_the_model_decides_how_far_it_falls_behind_the_chip() -> None:
    """Kernel libraries keep up with an H100; PyTorch, eager or compiled, takes longer than its A100 step promises."""
    eager = gpt_profile(layers=32, width=4096, heads=32)
    compiled = eager.model_copy(update={"source": eager.source.model_copy(update={"compiled": True})})
    library = eager.model_copy(update={"precision": LIBRARY_PRECISION})
    gain = {}
    for name, job in (("eager", eager), ("compiled", compiled), ("library", library)):
        a100, h100 = (predict_one(job, device).step_s[0] for device in (A100, "H100-SXM-80GB"))
        gain[name] = a100 / h100
    assert gain["library"] > 1.2 * gain["eager"]
    assert gain["library"] > 1.2 * gain["compiled"]
    one = [predict_one(job, "H100-SXM-80GB").step_s[0] for job in (eager, compiled, library)]
    assert one[0] > one[1] > one[2]
    far = predict_one(eager, "B200-SXM-180GB").step_s[0]
    assert far < one[0], "no further loss is assumed beyond the chips that were measured"


def test_fused_kernels_leave_the_bytes_that_the_profile_says() -> None:
    """A compiler's, a library's and those of Megatron in 2021; eager PyTorch moves all, graph compilers their usual share."""

    def gpt(share: float) -> JobProfile:
        job = gpt_profile(layers=32, width=4096, heads=32)
        groups = tuple(
            group.model_copy(update={"fused_bytes_share": share}) if group.kind in POINTWISE_KINDS else group
            for group in job.operations
        )
        return job.model_copy(update={"operations": groups})

    def compute_saved_s(device: str = A100, *, overlap: bool = True, **changes: Any) -> float:
        """Return the seconds between half of the bytes and none of them."""
        half, none = (
            predict_run(
                prepare(gpt(share).model_copy(update=changes)), shapes(device), plan_of(overlap=overlap)
            ).memory_s[0]
            for share in (0.5, 0.0)
        )
        return float(half - none)

    compiled = gpt(1.0).source.model_copy(update={"compiled": True})
    by_compiler, by_library = compute_saved_s(source=compiled), compute_saved_s(precision=LIBRARY_PRECISION)
    assert by_compiler > 0.0
    assert by_library == pytest.approx(by_compiler, rel=0.1), "apart from what either stack costs"
    assert compute_saved_s(overlap=False) == pytest.approx(by_compiler, rel=0.3)
    assert compute_saved_s() == 0.0
    assert compute_saved_s("TPU-v5e", source=compiled) == 0.0


def test_a_tensor_exchange_that_nothing_overlaps_is_waited_for() -> None:
    job = gpt_profile(layers=32, width=4096, heads=32)
    library = job.model_copy(update={"precision": LIBRARY_PRECISION})
    assert _split(library, tensor=8).communication_s[0] < 0.8 * _split(job, tensor=8).communication_s[0]


def test_gradients_that_do_not_overlap_cost_more() -> None:
    """Of a fused program: a trainer without overlap is Megatron of 2021, which fuses what PyTorch's eager code does not."""
    job = gpt_profile(layers=32, width=4096, heads=32)
    job = job.model_copy(update={"source": job.source.model_copy(update={"compiled": True})})
    assert _split(job, nodes=4, overlap=False).step_s[0] > _split(job, nodes=4, overlap=True).step_s[0]


def test_no_language_model_beats_the_roofline() -> None:
    """On every accelerator, even after a measured step that claims to be far faster."""
    quick = Quantiles(median_s=1e-3, p10_s=1e-3, p90_s=1e-3)
    step = MeasuredStep(device_name="NVIDIA A100-SXM4-80GB", device_kind="cuda", steps=5, step=quick)
    job = gpt_profile(layers=8, width=4096, heads=32, measured=step)
    names = [d.name for d in accelerators() if d.trains and d.peak_flops_per_s("bf16")]
    table = predict(job, shapes(*names), plan(rows=len(names)))
    ledger = DecoderLedger.of(job)
    for row, name in enumerate(names):
        if not table.unknown_because[row]:
            peak = accelerator(name).peak_flops_per_s("bf16") or 0.0
            assert table.step_s[row] >= 0.999 * float(ledger.product_flops) / peak, name


def test_older_gpus_without_bf16_units_pay_for_it() -> None:
    job = gpt_profile(layers=8, width=2048, heads=16)
    half = gpt_profile(layers=8, width=2048, heads=16, dtype="fp16")
    brain, sixteen = (predict_one(profile, "V100-SXM2-32GB").step_s[0] for profile in (job, half))
    assert brain > 3 * sixteen


def test_who_is_a_language_model() -> None:
    assert is_decoder(gpt_profile())
    assert not is_decoder(profile()), "a convolution network"
    assert not is_decoder(gpt_profile(dtype="fp32")), "no matrix units"
    assert not is_decoder(gpt_profile(attention="math")), "nothing says that its attention is causal"


def test_a_step_of_several_passes_counts_as_several() -> None:
    """The sums are of one pass: a profile that accumulates four micro-batches has four of them."""
    job = gpt_profile(layers=8, width=2048, heads=16)
    four = job.model_copy(
        update={
            "operations": tuple(
                g if g.phase == "optimizer" else g.model_copy(update={
                    name: 4 * getattr(g, name) for name in ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")
                })
                for g in job.operations
            ),
            "parallel": job.parallel.model_copy(update={"accumulate_grad_batches": 4}),
        }
    )  # fmt: skip
    same = predict_one(four, A100, accumulate=4).step_s[0]
    assert same == pytest.approx(predict_one(job, A100, accumulate=4).step_s[0], rel=1e-6)


def test_an_unmeasured_ceiling_is_its_generations_else_the_usual() -> None:
    fit = decoder_calibration()
    assert fit.ceiling(accelerator("A100-SXM-40GB"), "bf16") == pytest.approx(0.84, abs=0.05)
    assert fit.ceiling(accelerator("Trainium2"), "bf16") == USUAL_CEILING
    assert 0 < fit.product_efficiency < 1
    assert 0 < fit.attention_efficiency < 1


def test_pytorch_on_a_fast_chip_is_less_sure_than_on_a_slow_one_or_in_a_library() -> None:
    eager = gpt_profile(layers=8, width=2048, heads=16)
    library = eager.model_copy(update={"precision": LIBRARY_PRECISION})
    fast, slow = (predict_one(eager, name).log_sigma[0] for name in ("H100-SXM-80GB", A100))
    assert fast > 1.3 * slow
    assert fast > 1.3 * predict_one(library, "H100-SXM-80GB").log_sigma[0]
    assert predict_one(eager, "TPU-v5p").log_sigma[0] > fast, "runs of JAX say little of PyTorch on a TPU"


def test_a_chip_whose_products_nobody_measured_is_less_sure() -> None:
    """Cards of 70 watts reach a third of their peak, others most of it: without a measurement that is not known."""
    fit = decoder_calibration()
    known = {
        name: fit.knows_ceiling(accelerator(name))
        for name in ("H200-SXM-141GB", "B200-SXM-180GB", "L4-24GB", "T4-16GB")
    }
    assert known == {"H200-SXM-141GB": True, "B200-SXM-180GB": True, "L4-24GB": False, "T4-16GB": False}
    job = gpt_profile(layers=8, width=2048, heads=16, dtype="fp16")
    assert predict_one(job, "T4-16GB").log_sigma[0] > 1.4 * predict_one(job, "V100-SXM2-32GB").log_sigma[0]


def test_a_maker_that_no_language_model_was_measured_on_is_far_less_sure() -> None:
    job = gpt_profile(layers=8, width=2048, heads=16, dtype="fp16")
    nvidia, amd = (predict_one(job, name).log_sigma[0] for name in ("T4-16GB", "MI210-64GB"))
    assert amd > 1.1 * nvidia, "the products of neither were measured"


def test_a_generation_that_no_language_model_was_measured_on_is_less_sure() -> None:
    job = gpt_profile(layers=8, width=2048, heads=16)
    seen, unseen = (predict_one(job, name).log_sigma[0] for name in (A100, "L40S-48GB"))
    assert seen < unseen
    run = prepare(job)
    table = predict_run(run, shapes("TPU-v6e"), plan())
    assert table.log_sigma[0] > seen, "ported code is never surer"


def test_each_sharded_block_costs_a_fixed_time_in_every_pass() -> None:
    """Gathers and reductions of a block have a cost that no smaller micro-batch lowers; what is hidden stays positive."""
    job = gpt_profile(layers=8, width=2048, heads=16)
    fit = decoder_calibration()
    run = prepare(job)
    free = replace(run, decoder=fit.model_copy(update={"shard_unit_s": 0.0}))
    plans = [plan(sharding="fsdp", accumulate=passes) for passes in (1, 4)]
    with_cost, without = (
        [predict_run(run, shapes(A100, count=8), plans_) for plans_ in plans] for run in (run, free)
    )
    added = [a.step_s[0] - b.step_s[0] for a, b in zip(with_cost, without, strict=True)]
    blocks = float(DecoderLedger.of(job).blocks)
    assert added == pytest.approx([fit.shard_unit_s * blocks, 4 * fit.shard_unit_s * blocks])
    assert all(table.communication_hidden_s[0] >= 0 for table in with_cost)
    ddp = plan(sharding="ddp", accumulate=4)
    assert (
        predict_run(run, shapes(A100, count=8), ddp).step_s[0]
        == predict_run(free, shapes(A100, count=8), ddp).step_s[0]
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_norms_of_separate_operations_change_neither_width_nor_blocks(*, checkpointing: bool) -> None:
    """As models of transformers are written: their norms are powers, means and products, none a kernel of its own."""
    job = gpt_profile(layers=8, width=2048, heads=16, checkpointing=checkpointing)
    apart = tuple(
        g.model_copy(update={"kind": "elementwise", "shape": (g.shape[0] * g.shape[1],)})
        if g.kind == "normalization"
        else g
        for g in job.operations
    )
    fused, separate = (
        DecoderLedger.of(profile) for profile in (job, job.model_copy(update={"operations": apart}))
    )
    sizes = {
        "blocks": 8.0, "width": 2048.0, "hidden_bytes": 2.0 * 8 * 1024 * 2048,
        "boundary_bytes": 16 * 2.0 * 8 * 1024 * 2048,
        "recomputed_bytes": checkpointing * 16 * 2.0 * 8 * 1024 * 2048,
    }  # fmt: skip
    for name, size in sizes.items():
        assert float(getattr(separate, name)) == float(getattr(fused, name)) == size, name


def test_attention_of_two_products_is_one_block() -> None:
    job = gpt_profile(layers=8, width=2048, heads=16, attention="math")
    assert float(DecoderLedger.of(job).blocks) == 8


def test_an_optimizer_takes_as_long_as_its_traced_bytes() -> None:
    """A trace of 32-bit weights holds their whole update: nothing is added for masters."""
    job = gpt_profile(layers=8, width=2048, heads=16)
    moved = float(sum(g.bytes_moved for g in job.operations if g.phase == "optimizer"))
    none = job.model_copy(update={"operations": tuple(g for g in job.operations if g.phase != "optimizer")})
    more = predict_one(job, A100).memory_s[0] - predict_one(none, A100).memory_s[0]
    rate = accelerator(A100).memory_bandwidth_bytes_per_s * decoder_calibration().vector_efficiency
    assert more == pytest.approx(moved / rate, rel=1e-6)


def test_frozen_experts_exchange_no_gradients() -> None:
    job = gpt_profile(layers=8, width=2048, heads=16)
    experts = operation(
        kind="grouped_matmul", name="aten.bmm", dtype="bf16", shape=(8, 1024, 2048, 4096), launches=8,
        flops=2**40, bytes_read=2**30, bytes_written=2**30, bytes_fixed=2**30,
    )  # fmt: skip
    weights = 2 * 8 * 2048 * 4096 * 8
    trained, frozen = (
        DecoderLedger.of(
            job.model_copy(
                update={
                    "operations": (*job.operations, experts),
                    "memory": job.memory.model_copy(update={"gradient_bytes": size}),
                }
            )
        )
        for size in (10 * weights, weights // 100)
    )
    assert float(trained.expert_weight_bytes) == float(frozen.expert_weight_bytes) == weights
    assert float(trained.expert_gradient_bytes) == weights
    assert float(frozen.expert_gradient_bytes) == 0


def test_one_device_exchanges_nothing_however_long_its_step() -> None:
    """Nor by an error of rounding, which grows with the step: a negative time is no part of one."""
    for batch in (8, 32, 128):
        step = predict_one(gpt_profile(layers=40, width=5120, heads=40, batch_size=batch), A100)
        assert (step.communication_s[0], step.communication_hidden_s[0]) == (0, 0), batch


def _with_unpacking(job: JobProfile, name: str) -> JobProfile:
    """Return the profile with 1 GB of weights read, and 3 GB written beside the batch, by the operation `name`."""
    unpacking = OperationGroup(
        kind="elementwise", name=name, phase="forward", dtype="bf16", shape=(1 << 20,), launches=1, flops=0,
        bytes_read=10**9, bytes_written=3 * 10**9, bytes_fixed=10**9,
    )  # fmt: skip
    return job.model_copy(update={"operations": (*job.operations, unpacking)})


def test_unpacking_four_bits_is_slow_and_takes_as_long_for_any_batch() -> None:
    job = gpt_profile(layers=32, width=4096, heads=32, batch_size=1)
    packed, copied = _with_unpacking(job, UNPACK_4_BITS), _with_unpacking(job, "aten.add")
    more_s = [
        predict_one(packed, A100, ratio=ratio).step_s[0] - predict_one(job, A100, ratio=ratio).step_s[0]
        for ratio in (1.0, 4.0)
    ]
    bandwidth = accelerator(A100).memory_bandwidth_bytes_per_s
    assert more_s[0] == pytest.approx(more_s[1], rel=0.1)
    assert more_s[0] > 5 * 4e9 / bandwidth, "a tenth of the bandwidth"
    assert more_s[0] > 3 * (predict_one(copied, A100).step_s[0] - predict_one(job, A100).step_s[0])


def test_products_of_integers_run_at_their_own_peak() -> None:
    """They have an efficiency of their own, which is no matter of floating point in 8 bits."""
    job = gpt_profile(layers=32, width=4096, heads=32)
    whole = in_8_bits(job, may_be_in_8_bits(job), "int8")
    assert float(DecoderLedger.of(whole).integer) == 1
    assert float(DecoderLedger.of(in_8_bits(job, may_be_in_8_bits(job))).integer) == 0
    fit = decoder_calibration()
    fast = fit.model_copy(update={"integer_efficiency": 2 * fit.integer_efficiency})
    for one_job, changes in ((whole, True), (in_8_bits(job, may_be_in_8_bits(job)), False)):
        steps = [
            predict_run(prepare(one_job, decoder=fit), shapes("TPU-v6e"), plan()).compute_s[0]
            for fit in (fit, fast)
        ]
        assert (steps[1] < 0.8 * steps[0]) == changes
    wide, narrow = (predict_one(profile, "TPU-v6e").log_sigma[0] for profile in (whole, job))
    assert wide == pytest.approx(np.hypot(narrow, UNFITTED_SIGMA), rel=0.02), "one row was measured"


def test_products_of_integers_lose_what_products_in_16_bits_lose_by_their_width() -> None:
    """Libraries of GPUs need wider matrices for 8 bits; compilers of TPUs were not seen to."""
    fit = decoder_calibration()
    flat = fit.model_copy(update={"narrow_slope": 0.0})

    def compute_loss(dtype: str) -> float:
        job = gpt_profile(layers=32, width=1024, heads=16)
        narrow = in_8_bits(job, may_be_in_8_bits(job), dtype) if dtype else job
        seconds = [
            predict_run(prepare(narrow, decoder=fit), shapes("TPU-v6e"), plan()).compute_s[0]
            for fit in (fit, flat)
        ]
        return float(seconds[0] / seconds[1])

    assert compute_loss("int8") == pytest.approx(compute_loss(""), abs=0.01)


def test_heads_that_8_does_not_divide_multiply_slowly() -> None:
    """A matrix unit takes 16 bytes at a time. Lengths of samples that it does not divide were not measured."""
    job = gpt_profile(layers=32, width=4096, heads=32)

    def with_heads(size: int, dtype: str = "bf16", tokens: int = 2048) -> JobProfile:
        scores = OperationGroup(
            kind="matmul", name="aten.bmm", phase="forward", dtype=dtype, shape=(512, tokens, tokens, size),
            launches=32, flops=10**14, bytes_read=10**9, bytes_written=10**9,
        )  # fmt: skip
        return job.model_copy(update={"operations": (*job.operations, scores)})

    more_s = [
        predict_one(with_heads(size), A100).compute_s[0] - predict_one(job, A100).compute_s[0]
        for size in (144, 150)
    ]
    assert more_s[1] == pytest.approx(more_s[0] / decoder_calibration().misaligned_efficiency, rel=0.01)
    assert more_s[1] > 2 * more_s[0]
    for aligned in (with_heads(150, "fp32"), with_heads(144, tokens=2047)):
        assert float(DecoderLedger.of(aligned).misaligned_flops) == 0


def test_an_exchange_that_fits_behind_backward_is_waited_for_in_part() -> None:
    """Neither ends exactly when the other does: more than the share of one that nothing holds up, less than all."""
    job = gpt_profile(layers=32, width=4096, heads=32, batch_size=1)
    shares: list[float] = []
    for gbit_per_s in (1800, 25_600):
        step = predict(job, shapes(A100, count=8, network=gbit_per_s), plan(nodes=2, sharding="ddp"))
        exchange_s = step.communication_s[0] + step.communication_hidden_s[0]
        assert exchange_s < (step.step_s[0] - step.communication_s[0]) / 2
        shares.append(step.communication_s[0] / exchange_s)
    least = decoder_calibration().data_exposed
    assert 1.2 * least < shares[0] < 0.6
    assert shares[1] == pytest.approx(least, rel=0.05), "a short one is hidden but for its last gradients"
