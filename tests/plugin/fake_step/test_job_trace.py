"""trace_job: the real training step on fake tensors, in every form that Lightning takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builders.jobs import (
    BATCH,
    WIDTH,
    Cnn,
    Gan,
    Lstm,
    Tiny,
    Transformer,
    by_key,
    job,
    real_operations,
    tiny_batch,
    with_step,
)
from builders.lightning_modules import lightning_module, update_by
from trainfare.fake_step import trace_job
from trainfare_core.errors import InputError, TraceError
from trainfare_core.job_profile import JobProfile, SynchronizedNorms

TESTS = Path(__file__).resolve().parents[2]


def test_batch_norm_is_known_where_it_trains() -> None:
    """BatchNorm that trains is recorded; frozen or synchronised over devices it is not of one device's batch."""
    Normed = lightning_module(
        lambda self, batch, index: self.norm(self.layer(batch)).square().mean(),
        layers=lambda: {"norm": nn.BatchNorm1d(WIDTH)},
        base=Tiny,
    )

    Frozen = lightning_module(layers=lambda: {"norm": nn.BatchNorm1d(WIDTH).eval()}, base=Normed)

    assert trace_job(job(Normed)).batch.batch_norm is True
    assert trace_job(job(Frozen)).batch.batch_norm is False
    assert trace_job(job(Tiny)).batch.batch_norm is False

    shared = trace_job(replace(job(Normed), sync_batchnorm=True)).batch
    assert shared.batch_norm is False
    assert shared.synchronized_norms == SynchronizedNorms(modules=1, channels=WIDTH)
    converted = trace_job(job(lambda: nn.SyncBatchNorm.convert_sync_batchnorm(Normed()))).batch
    assert (converted.batch_norm, converted.synchronized_norms) == (False, shared.synchronized_norms)
    assert trace_job(replace(job(Frozen), sync_batchnorm=True)).batch.synchronized_norms is None


@pytest.mark.parametrize("model", [Cnn, Transformer, Lstm])
def test_fake_and_real_traces_agree_operation_by_operation(model: Any) -> None:
    """The same step on fake and on real tensors has the same operations, FLOPs and bytes."""
    profile = trace_job(job(model, model.batch))
    real = by_key(real_operations(model(), model.batch()))
    assert by_key(profile.operations) == real
    assert profile.step_flops > 0


@pytest.mark.parametrize("model", [Cnn, Transformer, Lstm])
def test_a_module_that_exists_traces_like_one_that_is_built(model: Any) -> None:
    """A live instance, copied onto fake tensors, gives the same profile as its class."""
    assert trace_job(job(model(), model.batch())) == trace_job(job(model, model.batch))


def test_the_same_job_gives_the_same_bytes() -> None:
    """A profile does not depend on the state of the process."""
    assert (
        trace_job(job(Transformer, Transformer.batch)).to_json()
        == trace_job(job(Transformer, Transformer.batch)).to_json()
    )


def test_the_profile_of_a_linear_layer_is_right_by_hand() -> None:
    """Products, parameters, optimizer state and checkpoint of one 8x8 layer, computed here by hand."""
    profile = trace_job(
        job(batch_size=BATCH, tokens_per_sample=3, accumulate_grad_batches=2, devices=2, strategy="ddp")
    )
    # The input needs no gradient: one product forward and one backward, in each of two micro-batches.
    matmul = sum(o.flops for o in profile.operations if o.kind == "matmul")
    assert matmul == 2 * 2 * (2 * BATCH * WIDTH * WIDTH)
    count = WIDTH * WIDTH + WIDTH
    assert sum(group.count for group in profile.parameters) == count
    assert profile.optimizer.names == ("AdamW",)
    assert 2 * count * 4 <= profile.optimizer.state_bytes <= 2 * count * 4 + 16
    assert profile.plan.checkpoint_bytes == count * 4 + profile.optimizer.state_bytes
    assert profile.memory.gradient_bytes == count * 4
    assert profile.memory.input_bytes == BATCH * WIDTH * 4
    assert (profile.batch.micro_batch_size, profile.batch.samples_per_step) == (BATCH, 2 * BATCH)
    assert profile.batch.tokens_per_step == 3 * 2 * BATCH
    assert (profile.parallel.strategy, profile.parallel.world_size) == ("ddp", 2)
    assert profile.source.how == "fake"


def test_accumulation_multiplies_passes_and_not_the_optimizer() -> None:
    """Four micro-batches are four forward passes and one optimizer step."""
    profile, four = trace_job(job()), trace_job(job(accumulate_grad_batches=4))
    for phase, factor in (("forward", 4), ("optimizer", 1)):
        launches = [
            sum(o.launches for o in p.operations if o.phase == phase and o.kind != "copy")
            for p in (profile, four)
        ]
        assert launches[1] == factor * launches[0] > 0


_FORMS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "one": (lambda m: torch.optim.SGD(m.parameters(), lr=0.1), ("SGD",)),
    "list": (lambda m: [torch.optim.Adam(m.parameters())], ("Adam",)),
    "tuple": (lambda m: (torch.optim.Adam(m.parameters()),), ("Adam",)),
    "dict": (lambda m: {"optimizer": torch.optim.RMSprop(m.parameters())}, ("RMSprop",)),
    "dict with scheduler": (lambda m: _make_scheduled(m, bare=True), ("AdamW",)),
    "dict with scheduler dict": (lambda m: _make_scheduled(m, bare=False), ("AdamW",)),
    "two lists": (lambda m: _two_lists(m), ("AdamW",)),
    "list of dicts": (lambda m: [_make_scheduled(m, bare=False)], ("AdamW",)),
    "none": (lambda m: None, ()),
}


def _make_scheduled(module: Any, *, bare: bool) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(module.parameters())
    steps = module.trainer.estimated_stepping_batches
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=int(steps))
    return {
        "optimizer": optimizer,
        "lr_scheduler": scheduler if bare else {"scheduler": scheduler, "interval": "step"},
    }


def _two_lists(module: Any) -> Any:
    optimizer = torch.optim.AdamW(module.parameters())
    return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


@pytest.mark.parametrize("form", _FORMS)
def test_every_form_of_configure_optimizers(form: str) -> None:
    """The trace accepts every form that Lightning does; an optimizer phase is recorded where there is an optimizer."""
    configure, names = _FORMS[form]
    profile = trace_job(job(lambda: Tiny(configure)))
    assert profile.optimizer.names == names
    assert any(o.phase == "optimizer" for o in profile.operations) == bool(names)


@pytest.mark.parametrize("wrong", [42, "adam", {"lr_scheduler": None}])
def test_a_form_that_lightning_refuses_is_refused(wrong: object) -> None:
    """The trace raises instead of assuming an optimizer."""
    with pytest.raises(TraceError, match="configure_optimizers returned"):
        trace_job(job(lambda: Tiny(lambda _: wrong)))


def test_two_optimizers_need_manual_optimization() -> None:
    """Lightning refuses two under automatic optimization; so does the trace, and says what to do."""
    with pytest.raises(TraceError, match="automatic_optimization = False"):
        trace_job(
            job(lambda: Tiny(lambda m: [torch.optim.SGD(m.parameters()), torch.optim.SGD(m.parameters())]))
        )


def test_an_optimizer_that_reruns_the_step_by_value_needs_real_tensors() -> None:
    """LBFGS decides by values how often it calls the step."""
    described = job(lambda: Tiny(lambda m: torch.optim.LBFGS(m.parameters())))
    with pytest.raises(TraceError, match=r"LBFGS.*FareMeter"):
        trace_job(described, real=None)
    assert any("traced on real tensors" in note for note in trace_job(described).notes)


def test_the_optimizer_state_exists_before_the_counted_step() -> None:
    """Steady state: no zeros are allocated for moments in the counted step, and the moments are counted."""
    profile = trace_job(
        job(lambda: Tiny(lambda m: torch.optim.SGD(m.parameters(), momentum=0.9, foreach=False)))
    )
    assert profile.optimizer.state_bytes == (WIDTH * WIDTH + WIDTH) * 4
    assert not any("clone" in o.name and o.phase == "optimizer" for o in profile.operations)


@pytest.mark.parametrize(
    ("precision", "compute", "stored"),
    [
        ("32-true", "fp32", "fp32"),
        ("16-mixed", "fp16", "fp32"),
        ("bf16-mixed", "bf16", "fp32"),
        ("bf16-true", "bf16", "bf16"),
        ("16-true", "fp16", "fp16"),
        ("64-true", "fp64", "fp64"),
    ],
)
def test_precision_decides_what_is_stored_and_what_computes(
    precision: str, compute: str, stored: str
) -> None:
    """Mixed precision keeps fp32 weights and multiplies in the low dtype; true precision stores it."""
    profile = trace_job(job(precision=precision))
    assert {o.dtype for o in profile.operations if o.kind == "matmul"} == {compute}
    assert {group.dtype for group in profile.parameters} == {stored}
    assert profile.precision == precision
    assert any("TF32 is not assumed" in note for note in profile.notes) == (stored == "fp32")


def test_a_live_module_is_converted_too() -> None:
    """True precision of an instance halves the copy, and not the user's weights."""
    module = Tiny()
    profile = trace_job(job(module, precision="bf16-true"))
    assert {group.dtype for group in profile.parameters} == {"bf16"}
    assert module.layer.weight.dtype == torch.float32


def test_manual_optimization_with_two_optimizers() -> None:
    """Both optimizers step inside one training_step; max_steps counts both, as in Lightning."""
    profile = trace_job(job(Gan, max_steps=20))
    assert profile.optimizer.names == ("Adam", "SGD")
    assert profile.plan.optimizer_steps == 10
    assert any("manual optimization" in note for note in profile.notes)
    with pytest.raises(InputError, match="accumulate_grad_batches"):
        trace_job(job(Gan, accumulate_grad_batches=2))


def _returns(value: Callable[[Tensor], Any]) -> Any:
    return with_step(lambda self, batch, batch_idx: value(self.layer(batch).square().mean()))


@pytest.mark.parametrize("value", [lambda x: x, lambda x: {"loss": x, "more": 1}])
def test_a_loss_may_be_a_tensor_or_a_dict(value: Any) -> None:
    """Both of Lightning's forms of a loss go backward."""
    assert any(o.phase == "backward" for o in trace_job(job(_returns(value))).operations)


@pytest.mark.parametrize(
    ("value", "got"),
    [(lambda x: None, "None"), (lambda x: {"lost": x}, "without 'loss'"), (lambda x: (x, 1), "a tuple")],
)
def test_a_step_without_a_loss_is_refused(value: Any, got: str) -> None:
    """A step that Lightning would skip or refuse has no cost."""
    with pytest.raises(TraceError, match=f"training_step returned .*{got}.*return the loss"):
        trace_job(job(_returns(value)))


@pytest.mark.parametrize(
    "step",
    [
        lambda self, batch: self.layer(batch).mean(),
        lambda self, batch, batch_idx: self.layer(batch).mean() * (batch_idx + 1),
        lambda self, batch, index: self.layer(batch).mean() * (index + 1),
    ],
)
def test_signatures_of_training_step(step: Any) -> None:
    """The batch index is passed where `training_step` takes one, under any name."""
    assert trace_job(job(with_step(step))).step_flops > 0


def test_dataloader_iter_is_refused() -> None:
    """A step that fetches its own batches gets none in a trace."""
    with pytest.raises(TraceError, match=r"dataloader_iter.*FareMeter"):
        trace_job(job(with_step(lambda self, dataloader_iter: None)))


def test_a_step_may_ask_its_trainer_and_log() -> None:
    """The stub has what modules commonly read and call while they train."""

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        assert self.trainer.max_epochs == 3
        assert self.trainer.num_training_batches == 5
        assert self.trainer.world_size == 2
        assert self.trainer.estimated_stepping_batches == 15
        assert self.trainer.is_global_zero
        assert self.global_step >= 0
        assert self.current_epoch == 0
        loss = self.layer(batch).mean()
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        self.log_dict({"a": loss, "b": 1.0})
        self.logger.experiment.add_scalar("loss", loss, self.global_step)
        self.print("hello")
        self.all_gather(loss)
        return loss

    training_job = job(with_step(step), max_steps=None, max_epochs=3, train_samples=40, devices=2)
    assert trace_job(training_job).plan.optimizer_steps == 15


def test_hooks_of_the_module_run_in_lightnings_order() -> None:
    """Operations in hooks are part of the step."""
    names = [
        "setup",
        "configure_model",
        "on_fit_start",
        "on_train_start",
        "on_train_epoch_start",
        "on_after_batch_transfer",
        "on_train_batch_start",
        "on_before_zero_grad",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_train_batch_end",
    ]
    called: list[str] = []

    def hook(name: str) -> Any:
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return args[0] if name == "on_after_batch_transfer" else None

        return run

    trace_job(job(type("Hooked", (Tiny,), {name: hook(name) for name in names})))
    assert called[: len(names)] == [
        *names[:5],
        "on_after_batch_transfer",
        "on_train_batch_start",
        *names[7:],
    ]


def test_gradient_clipping_and_optimizer_step_overrides_run() -> None:
    """An overridden optimizer_step is the one that runs."""
    called: list[int] = []

    class Warm(Tiny):
        def optimizer_step(
            self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
        ) -> None:
            called.append(batch_idx)
            optimizer.step(closure=optimizer_closure)

    assert any(o.phase == "optimizer" for o in trace_job(job(Warm)).operations)
    assert called == [0, 1]


def test_a_batch_that_contradicts_batch_size_is_refused() -> None:
    """A batch of 4 called 32 would make every figure eight times too small."""
    with pytest.raises(InputError, match=r"batch_size is 32.*4 samples"):
        trace_job(job(batch_size=32))


@pytest.mark.parametrize("module", [42, nn.Linear(2, 2), lambda: "model"])
def test_something_else_than_a_lightning_module_is_refused(module: Any) -> None:
    """The error says what a module must be."""
    with pytest.raises(InputError, match=r"TrainingJob.module gave a .*LightningModule"):
        trace_job(job(module))


def test_a_plain_module_with_a_training_step_will_do() -> None:
    """The trace needs no Lightning base class, only the methods."""
    Plain = lightning_module(
        lambda self, batch, index: self.layer(batch).mean(),
        update_by(torch.optim.SGD, lr=0.1),
        lambda: {"layer": nn.Linear(WIDTH, 1)},
        base=nn.Module,
        name="Plain",
    )

    profile = trace_job(job(Plain))
    assert profile.name == "Plain"
    assert {o.phase for o in profile.operations} == {"forward", "backward", "optimizer"}


def test_profile_round_trips_through_json() -> None:
    """A profile that was written is read back unchanged."""
    profile = trace_job(job(Cnn, Cnn.batch))
    assert JobProfile.from_json(profile.to_json()) == profile


def test_numbers_beyond_every_range_are_refused_with_a_name() -> None:
    """A product of allowed numbers that no profile can hold is an input error, not a crash."""
    with pytest.raises(InputError, match="beyond what a profile can hold"):
        trace_job(job(max_epochs=10**9, train_samples=10**15, max_steps=None, tokens_per_sample=1))


def test_a_fused_optimizer_is_one_pass_over_the_weights() -> None:
    """fused=True is traced as chosen, with its own kernel."""
    profile = trace_job(job(lambda: Tiny(lambda m: torch.optim.AdamW(m.parameters(), fused=True))))
    assert profile.optimizer.implementation == "fused"
    assert any("fused" in o.name for o in profile.operations if o.phase == "optimizer")


def test_half_precision_pays_for_loss_scaling() -> None:
    """fp16 unscales every gradient before the step, as Lightning's GradScaler does; bf16 does not."""
    names = {
        precision: {o.name for o in trace_job(job(precision=precision)).operations if o.phase == "optimizer"}
        for precision in ("16-mixed", "bf16-mixed")
    }
    assert names["16-mixed"] - names["bf16-mixed"] == {"aten._amp_foreach_non_finite_check_and_unscale_"}


@pytest.mark.parametrize(
    "first",
    [
        "pass",
        "import trainfare.fake_step.job_trace",
        "from trainfare.fake_step.job_trace import trace_changed",
    ],
)
def test_the_public_name_can_be_called_whatever_was_imported_first(first: str) -> None:
    """`from trainfare import trace_job` is the function: no submodule of that name shadows it."""
    code = (
        f"{first}\nfrom trainfare import trace_job\nfrom trainfare import trace_job as again\nimport trainfare\n"
        "print([call.__qualname__ for call in (trace_job, again, trainfare.trace_job) if callable(call)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == f"{['trace_job'] * 3}\n", done.stderr


_StackedLstm = lightning_module(
    lambda self, batch, index: self.second(self.first(batch)[0])[0].float().square().mean(),
    layers=lambda: {"first": nn.LSTM(WIDTH, WIDTH), "second": nn.LSTM(WIDTH, WIDTH)},
    base=Tiny,
)
"""A recurrent layer that is fed by another one: under autocast its input is fp16 and its weights fp32."""


def test_recurrent_layers_in_a_row_are_traced_under_mixed_precision() -> None:
    profile = trace_job(job(_StackedLstm, lambda: torch.zeros(3, BATCH, WIDTH), precision="16-mixed"))
    recurrent = [group for group in profile.operations if group.kind == "recurrent"]
    assert {group.dtype for group in recurrent} == {"fp16"}
    check = torch.nn.RNNBase.check_input
    assert check.__module__ == "torch.nn.modules.rnn"


def test_layers_that_torch_copies_while_a_module_is_built() -> None:
    """`nn.TransformerEncoder` copies its layer; on fake tensors torch would call that a bug in the user's code."""
    block = torch.nn.TransformerEncoderLayer
    Encoder = lightning_module(
        layers=lambda: {"encoder": nn.TransformerEncoder(block(16, 2, 32), 2, enable_nested_tensor=False)},
        base=Tiny,
    )

    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        profile = trace_job(job(Encoder, tiny_batch))
    finally:
        torch.set_warn_always(always)
    assert sum(group.count for group in profile.parameters) > 2 * 16 * 16
