"""A plan in Lightning's words: what is pasted into a script trains with the batch that was priced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.toy_market import ToyPredictor, block_job, book, in_precisions, offer_row, shapes, small_job
from trainfare.lightning.plan_code import WRITER, format_plan
from trainfare_core.candidates import SHARDINGS, CandidateTable, PlanSpace, enumerate_candidates
from trainfare_core.job_profile import BatchFacts, JobProfile, ParallelFacts
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.options.plans import collect_plan_facts, plan_changes
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Allowed, Constraints, Option

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine is no counter-example."""


@unhurried
@given(
    count=st.sampled_from([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0]),
    micro=st.integers(1, 512),
    accumulate=st.integers(1, 6),
    devices=st.integers(1, 8),
    num_nodes=st.integers(1, 5),
    strategy=st.sampled_from(["auto", "ddp", "fsdp", "deepspeed_stage_1", "deepspeed_stage_2"]),
    space=st.builds(
        PlanSpace,
        st.integers(1, 64),
        keep_plan=st.booleans(),
        lower_batch_norm=st.booleans(),
        other_batch=st.booleans(),
        deepspeed=st.booleans(),
        checkpointing=st.booleans(),
        precision=st.booleans(),
    ),
)
def test_trainer_arguments_reproduce_the_global_batch_exactly(
    count: float, micro: int, accumulate: int, devices: int, num_nodes: int, strategy: str, space: PlanSpace
) -> None:
    """
    Devices x machines x batch size x accumulation, as they stand in the block to paste, are the script's batch.

    Where another one is allowed they are the batch that the plan names, within a factor of 8 of the script's.
    """
    job = block_job(
        batch=1,
        parallel=ParallelFacts(
            strategy=strategy, devices=devices, num_nodes=num_nodes, accumulate_grad_batches=accumulate
        ),
    )
    job = in_precisions(job, "32-true").model_copy(
        update={"batch": BatchFacts(micro_batch_size=micro, samples_per_step=micro * accumulate)}
    )
    machines = shapes(("A100-SXM-80GB", count))
    plans = enumerate_candidates(job, machines, space)
    for plan in range(len(plans)):
        facts = collect_plan_facts(job, plans, plan, int(plans.devices_of(machines)[plan]))
        block = WRITER.write_arguments(facts)
        assert block.batch_size is not None
        samples = block.devices * block.num_nodes * block.batch_size * block.accumulate_grad_batches
        own = job.global_samples_per_step
        assert own is not None
        assert plans.batch_factor is not None
        assert samples == round(own * float(plans.batch_factor[plan]))
        changes = plan_changes(job, plans, plan, facts, WRITER)
        assert any(f"global batch {samples} instead of {own}" in change for change in changes) == (
            samples != own
        )
        assert samples == own or (space.other_batch and not space.keep_plan and own / 8 <= samples <= own * 8)
        assert block.devices <= count
        assert (block.devices * block.num_nodes == 1) == (block.strategy == "auto")


def test_another_batch_is_tried_only_where_it_is_allowed_and_needed() -> None:
    """A batch of 4 on 8 accelerators becomes 8 in half the steps, dollars and hours; one of 16 stays."""
    machine = book(offer_row(instance_type="a100.8x", accelerator_count=8.0))
    own, other = (
        rank(
            small_job(batch=4),
            machine,
            Request(Constraints(allow=allow), max_nodes=1),
            predict=ToyPredictor(),
        )
        for allow in ((), ("batch",))
    )
    (option,), (changed,) = own.options, other.options
    assert option.trainer is not None
    assert changed.trainer is not None
    assert (option.trainer.devices, changed.trainer.devices) == (4, 8)
    assert option.plan_changes == ("micro-batch 1 instead of 4",)
    assert changed.plan_changes == (
        "global batch 8 instead of 4, which changes what is trained: 18,000 steps see the same samples",
        "micro-batch 1 instead of 4",
    )
    assert "uses 4 of 8 accelerators" in " ".join(note.text for note in option.notes)
    assert "accelerators" not in " ".join(note.text for note in changed.notes)
    assert changed.cost_parts.training_usd == option.cost_parts.training_usd / 2
    shared = Request(Constraints(allow=("batch",)), max_nodes=1)
    (same,) = rank(small_job(batch=16), machine, shared, predict=ToyPredictor()).options
    assert same.plan_changes == ("micro-batch 2 instead of 16",)


def test_another_batch_changes_no_strategy() -> None:
    """Whatever is faster: it was not asked for."""

    def predict(job: JobProfile, machines: MachineShapes, plans: CandidateTable) -> PredictionTable:
        table = ToyPredictor()(job, machines, plans)
        faster = np.where(plans.sharding == SHARDINGS.index("fsdp"), 0.5, 1.0)
        return replace(table, step_s=table.step_s * faster)

    machine = book(offer_row(instance_type="a100.8x", accelerator_count=8.0))
    request = Request(Constraints(allow=("batch",)), max_nodes=1)
    (option,) = rank(small_job(batch=4), machine, request, predict=predict).options
    assert option.trainer is not None
    assert (option.trainer.devices, option.trainer.strategy, option.global_batch_size) == (8, "ddp", 8)


def test_unused_devices_have_their_true_reason() -> None:
    """Of 128 samples 32 could go to each of four devices, but BatchNorm would see fewer; 3 cannot be shared by two."""
    for samples, count, batch_norm, reason in (
        (128, 4.0, True, "BatchNorm sees 128 samples of a device and would see fewer on 4 devices"),
        (
            3,
            2.0,
            False,
            "a global batch of 3 cannot be shared evenly by 2 devices: --allow batch tries others",
        ),
    ):
        facts = BatchFacts(micro_batch_size=samples, samples_per_step=samples, batch_norm=batch_norm)
        job = small_job().model_copy(update={"batch": facts})
        machine = book(offer_row(instance_type="a100.nx", accelerator_count=count))
        (option,) = rank(job, machine, Request(max_nodes=1), predict=ToyPredictor()).options
        (note,) = (note.text for note in option.notes if note.kind == "unused_devices")
        assert note.startswith(
            f"uses 1 of {count:.0f} accelerators of a machine that is paid whole: {reason}"
        )


def test_every_sharding_has_the_trainer_s_word_for_it() -> None:
    """The block to paste names DeepSpeed's stage, or builds the strategy that has no name."""
    job, machines = small_job(), shapes(("A100-SXM-80GB", 4.0))
    plans = enumerate_candidates(job, machines, PlanSpace(2, deepspeed=True))
    code = {
        SHARDINGS[plans.sharding[plan]]: format_plan(
            WRITER.write_arguments(collect_plan_facts(job, plans, plan, 4))
        )
        for plan in range(len(plans))
    }
    words = {name: text.partition("strategy=")[2].partition(", precision")[0] for name, text in code.items()}
    assert words == {
        "none": "'auto'",
        "ddp": "'ddp'",
        "fsdp": "'fsdp'",
        "zero1": "'deepspeed_stage_1'",
        "zero2": "'deepspeed_stage_2'",
        "hybrid": "FSDPStrategy(sharding_strategy='HYBRID_SHARD')",
    }


def test_hybrid_fsdp_is_the_script_s_own_plan_and_fsdp_on_one_machine() -> None:
    """Each is the script's own: neither is a change, and both are written in the Trainer's words."""
    strategy = "FSDPStrategy(sharding_strategy='HYBRID_SHARD')"
    job = small_job(batch=32, parallel=ParallelFacts(strategy=strategy, devices=4, num_nodes=2))
    plans = enumerate_candidates(job, shapes(("A100-SXM-80GB", 4.0)), PlanSpace(2, keep_plan=True))
    written: dict[tuple[str, int], str] = {}
    for plan in range(len(plans)):
        facts = collect_plan_facts(job, plans, plan, int(plans.devices_or_all[plan]))
        changes = plan_changes(job, plans, plan, facts, WRITER)
        alone = ("one device without FSDP instead of 8 with it",) if facts.sharding == "none" else ()
        assert tuple(change for change in changes if "FSDP" in change) == alone
        written[facts.sharding, facts.nodes] = WRITER.write_arguments(facts).strategy
    assert written == {("none", 1): "auto", ("fsdp", 1): "fsdp", ("hybrid", 2): strategy}


ON_TIGHT = ToyPredictor(activation_gib=100.0, default_capacity_gib=64.0)
"""The job needs 101 GiB of a device that has 64, and 26 with activation checkpointing."""


def test_checkpointing_is_planned_where_allowed_and_nothing_else_fits() -> None:
    """One machine of one device that needs it gets it, with its price and its lines; one that does not keeps the plan."""
    machine = book(offer_row(), offer_row(instance_type="h200.1x", accelerator="H200-SXM-141GB"))
    toy = replace(ON_TIGHT, capacity_gib={"H200-SXM-141GB": 141.0})
    job = block_job(batch=1)
    for allow in ((), ("checkpointing",)):
        request = Request(Constraints(allow=allow), max_nodes=1, writer=WRITER)
        options = rank(job, machine, request, predict=toy).options
        assert len(options) == 1 + len(allow)
        for option in options:
            trainer = option.trainer
            assert trainer is not None
            needed = option.accelerator == "A100-SXM-80GB"
            assert bool(trainer.configure_model) == needed
            assert option.plan_changes == (
                ("activation checkpointing on: +30 % time a step, 26 GiB a device instead of 101",)
                if needed
                else ()
            )
    assert "isinstance(m, (Block,))" in next(
        o.trainer.configure_model for o in options if o.trainer and o.plan_changes
    )


def test_a_sharded_plan_checkpoints_by_lightning_s_own_argument() -> None:
    """FSDP with activation checkpointing is one argument to paste, and the script's plan where it is not allowed to change."""
    machine = book(offer_row(instance_type="a100.2x", accelerator_count=2.0))
    job = block_job(batch=2, parallel=ParallelFacts(strategy="fsdp"))
    toy = replace(ON_TIGHT, activation_gib=200.0)
    request = Request(Constraints(allow=("checkpointing",)), max_nodes=1, writer=WRITER)
    (option,) = rank(job, machine, request, predict=toy).options
    assert option.trainer is not None
    assert "FSDPStrategy(activation_checkpointing_policy={Block})" in format_plan(option.trainer)
    assert option.trainer.configure_model == ""
    kept = Request(Constraints(allow=("checkpointing",), keep_plan=True), max_nodes=1)
    assert rank(job, machine, kept, predict=toy).options == ()


def test_the_nearest_plan_names_checkpointing_and_an_answer_says_why_it_is_not_planned() -> None:
    """Where nothing fits the flag is an alternative; where a profile names no blocks, the assumptions say so."""
    job, machine, request = block_job(batch=1), book(offer_row()), Request(max_nodes=1)
    recommendation = with_alternatives(
        rank(job, machine, request, predict=ON_TIGHT), job, machine, request, predict=ON_TIGHT
    )
    assert [alternative.flag for alternative in recommendation.alternatives] == ["--allow checkpointing"]
    allowed = Request(Constraints(allow=("checkpointing",)))
    lines = rank(small_job(), machine, allowed, predict=ToyPredictor()).assumptions
    assert any(
        "activation checkpointing is not planned: the profile names no blocks" in line for line in lines
    )


EASY = ToyPredictor()


def options_in(job: JobProfile, *allow: Allowed, toy: ToyPredictor = EASY) -> dict[str, Option]:
    """Return the options on one A100 and one T4, by the accelerator."""
    machines = book(offer_row(), offer_row(instance_type="t4.1x", accelerator="T4-16GB"))
    request = Request(Constraints(allow=allow), max_nodes=1, writer=WRITER)
    options = rank(job, machines, request, predict=toy).options
    return {option.accelerator: option for option in options}


def test_a_type_without_units_is_called_emulated() -> None:
    """A T4 multiplies bf16 at its fp32 rate; an A100 does not, and a T4 has units for fp16."""
    for precision, said in (("bf16-mixed", True), ("16-mixed", False), ("32-true", False)):
        for name, option in options_in(small_job(precision=precision)).items():
            texts = [note.text for note in option.notes if note.kind == "emulated"]
            emulated = "bf16 is emulated: T4-16GB has no units for it and computes at its fp32 rate"
            assert texts == ([emulated] if said and name == "T4-16GB" else [])


def test_another_precision_is_planned_where_allowed_and_faster() -> None:
    """Full precision becomes bf16-mixed, and 16-mixed where there is no bf16; weights keep their 32 bits."""
    job = in_precisions(small_job(precision="32-true", batch=1), "bf16-mixed", "bf16-true")
    kept = options_in(job)
    assert {option.trainer.precision for option in kept.values() if option.trainer} == {"32-true"}
    assert all(option.plan_changes == () for option in kept.values())
    options_by_key = options_in(job, "precision")
    (change,) = options_by_key["A100-SXM-80GB"].plan_changes
    assert change == (
        "precision bf16-mixed instead of 32-true: other rounding, so that losses may differ; -50 % time a step, "
        "1.5 GiB a device instead of 2"
    )
    (change,) = options_by_key["T4-16GB"].plan_changes
    assert change == (
        "precision 16-mixed instead of 32-true: other rounding and a scaled loss, so that losses may differ; "
        "-49 % time a step, 1.51 GiB a device instead of 2"
    )
    for option, precision in (
        (options_by_key["A100-SXM-80GB"], "bf16-mixed"),
        (options_by_key["T4-16GB"], "16-mixed"),
    ):
        assert option.trainer is not None
        assert f"precision='{precision}'" in format_plan(option.trainer)
    mixed = options_in(in_precisions(small_job(batch=1), "32-true"), "precision")
    assert mixed["A100-SXM-80GB"].plan_changes == ()  # 16-mixed is slower, and no reason to change


def test_narrower_weights_are_planned_where_nothing_else_fits_or_the_plan_is_free() -> None:
    """bf16-true is the fastest by far, and is taken for that with "plan" alone; it says that training changes."""
    job = in_precisions(block_job(precision="32-true", batch=1), "bf16-mixed", "bf16-true")
    tight = ToyPredictor(activation_gib=240.0)

    def precision(*allow: Allowed, toy: ToyPredictor) -> tuple[str, bool] | None:
        option = options_in(job, *allow, toy=toy).get("A100-SXM-80GB")
        if option is None or option.trainer is None:
            return None
        return option.trainer.precision, bool(option.trainer.configure_model)

    assert precision("precision", toy=EASY) == ("bf16-mixed", False)
    assert precision("precision", "plan", toy=EASY) == ("bf16-true", False)
    assert precision("checkpointing", toy=tight) == ("32-true", True)
    assert precision("precision", toy=tight) == ("bf16-true", False)
    assert precision("precision", "checkpointing", toy=tight) == ("bf16-mixed", True)
    (change,) = options_in(job, "precision", toy=tight)["A100-SXM-80GB"].plan_changes
    assert "16 bits, which changes what is trained" in change


def test_fp8_is_named_where_precisions_are_free_and_taken_where_the_plan_is_too() -> None:
    """What it would change stands beside the option, with both ends of the intervals; a T4 has no fp8."""
    job = in_precisions(small_job(precision="bf16-true", batch=1), "transformer-engine")
    machines = book(
        offer_row(accelerator="H100-SXM-80GB"), offer_row(instance_type="t4.1x", accelerator="T4-16GB")
    )

    def find_by_path(*allow: Allowed, toy: ToyPredictor = EASY) -> dict[str, Option]:
        request = Request(Constraints(allow=allow), max_nodes=1)
        return {option.accelerator: option for option in rank(job, machines, request, predict=toy).options}

    assert not any(note.kind == "fp8" for option in find_by_path("plan").values() for note in option.notes)
    options_by_key = find_by_path("precision")
    assert all(option.plan_changes == () for option in options_by_key.values())
    (note,) = [note.text for note in options_by_key["H100-SXM-80GB"].notes if note.kind == "fp8"]
    assert note.startswith(
        "precision transformer-engine is not taken: -20 % time a step, 1.8 GiB a device instead of 2, -20 % at the "
        "upper ends of the intervals; linear layers in fp8, whose effect on the loss is not predicted; "
    )
    assert note.endswith("compare 50 steps of both")
    assert not any(note.kind == "fp8" for note in options_by_key["T4-16GB"].notes)
    taken = find_by_path("precision", "plan")["H100-SXM-80GB"]
    assert taken.trainer is not None
    assert taken.trainer.precision == "transformer-engine"
    assert not any(note.kind == "fp8" for note in taken.notes)
    (change,) = taken.plan_changes
    assert change.startswith("precision transformer-engine instead of bf16-true: linear layers in fp8, whose")
    assert change.endswith("; -20 % time a step, 1.8 GiB a device instead of 2")
    tight = find_by_path("precision", toy=ToyPredictor(activation_gib=75.0))
    assert tight["H100-SXM-80GB"].trainer is not None
    assert tight["H100-SXM-80GB"].trainer.precision == "transformer-engine"


def test_the_nearest_plan_names_the_precision_and_an_answer_what_is_missing() -> None:
    """Where nothing fits, `--allow precision` is an alternative; a profile without traces says how to add them."""
    machine, request = book(offer_row()), Request(max_nodes=1)
    tight = ToyPredictor(activation_gib=100.0)
    job = in_precisions(small_job(precision="32-true", batch=1), "bf16-mixed")
    recommendation = with_alternatives(
        rank(job, machine, request, predict=tight), job, machine, request, predict=tight
    )
    assert [alternative.flag for alternative in recommendation.alternatives] == ["--allow precision"]
    allowed = Request(Constraints(allow=("precision",)))
    lines = rank(small_job(precision="32-true"), machine, allowed, predict=ToyPredictor()).assumptions
    assert any(
        line.startswith("precisions not planned") and "--precision bf16-mixed --precision bf16-true" in line
        for line in lines
    )


def test_one_device_in_place_of_several_that_share_is_a_change() -> None:
    """Where FSDP goes with the devices it is named; DDP on one device is what `auto` is there."""
    for strategy, changes in (
        ("fsdp", ("one device without FSDP instead of 8 with it", "micro-batch 32 instead of 4")),
        (
            "deepspeed_stage_2",
            ("one device without ZeRO-2 instead of 8 with it", "micro-batch 32 instead of 4"),
        ),
        ("ddp", ("micro-batch 32 instead of 4",)),
    ):
        job = small_job(batch=4, parallel=ParallelFacts(strategy=strategy, devices=8))
        (option,) = rank(
            job, book(offer_row()), Request(Constraints(allow=("plan",)), max_nodes=1), predict=ToyPredictor()
        ).options
        assert option.plan_changes == changes, strategy
