"""Mixtures of experts of transformers: on fake tensors in every precision, and as real tensors run them."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from trainfare.fake_step import trace_job
from trainfare.job import TrainingJob
from trainfare.methods.module_changes import tracer_of
from trainfare.methods.step_change import StepChange
from trainfare_core.job_profile import JobProfile
from trainfare_core.variants import DecoderShape, why_not_split

transformers: Any = pytest.importorskip("transformers")

WIDTH, INNER, EXPERTS, CHOSEN, LAYERS, TOKENS = 64, 128, 4, 2, 2, 32
_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "hidden_size": WIDTH}
_MIXTRAL = {
    **_ATTENTION,
    "intermediate_size": INNER,
    "num_local_experts": EXPERTS,
    "num_experts_per_tok": CHOSEN,
}


class Causal(pl.LightningModule):
    """A causal language model with random weights; `reads` turns the loss into a number, which takes real tensors."""

    def __init__(self, config: type[Any], settings: dict[str, Any], *, reads: bool = False) -> None:
        super().__init__()
        self.model = transformers.AutoModelForCausalLM.from_config(
            config(num_hidden_layers=LAYERS, **settings)
        )
        self.reads = reads

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.model(**batch).loss
        if self.reads:
            float(loss.detach())
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(p for p in self.parameters() if p.requires_grad)


def _job(config: str, settings: dict[str, Any], precision: str = "bf16-mixed", **more: Any) -> TrainingJob:
    ids = torch.arange(TOKENS).view(2, TOKENS // 2)
    module = functools.partial(Causal, getattr(transformers, config), settings, **more)
    return TrainingJob(
        module=module, batch={"input_ids": ids, "labels": ids}, batch_size=2, max_steps=9, precision=precision
    )


def _products(profile: JobProfile) -> dict[Any, int]:
    return {(o.kind, o.name, o.phase, o.dtype, o.shape): o.flops for o in profile.operations if o.flops}


_GROUPED = pytest.mark.skipif(
    not hasattr(torch.nn.functional, "grouped_mm"), reason="this torch has no grouped products"
)


@_GROUPED
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "32-true", "bf16-true", "16-true"])
def test_grouped_products_are_traced_on_fake_tensors(precision: str) -> None:
    """Their fake kernel takes bf16 alone, the real one every type (six models failed in bf16-mixed); by hand: gate and up, down."""
    fake = trace_job(_job("MixtralConfig", _MIXTRAL, precision), real=None)
    real = trace_job(_job("MixtralConfig", _MIXTRAL, precision, reads=True))
    assert (fake.source.how, real.source.how) == ("fake", "real")
    forward = [o for o in fake.operations if o.kind == "grouped_matmul" and o.phase == "forward"]
    assert sum(o.flops for o in forward) == LAYERS * 2 * TOKENS * CHOSEN * 3 * WIDTH * INNER
    assert _products(fake) == _products(real)


@pytest.mark.parametrize("config", ["LlamaConfig", "Qwen3Config"])
def test_a_causal_model_needs_no_mask_on_fake_tensors_either(config: str) -> None:
    """Transformers leaves out a mask that is only causal, if it may look at it: flash attention, keys not repeated."""
    settings = {**_ATTENTION, "intermediate_size": INNER}
    fake, real = (trace_job(_job(config, settings, "bf16-true", reads=reads)) for reads in (False, True))
    assert fake.source.how == "fake"
    (attention,) = [o for o in fake.operations if o.kind == "attention" and o.phase == "forward"]
    assert attention.name == "aten._scaled_dot_product_flash_attention"
    assert attention.shape[2] == 2
    assert _products(fake) == _products(real)


def test_a_strategy_recomputes_a_language_model_without_its_cache() -> None:
    """The second run of a block would find its keys in the cache already; by hand, all products but the last of each block."""
    job = _job("LlamaConfig", {**_ATTENTION, "intermediate_size": INNER})
    plain, again = (
        tracer_of(job)(StepChange("full_finetune", "bf16-mixed", recompute=recompute))
        for recompute in (False, True)
    )
    heads, keys = 4 * 16, 2 * 16
    products = 2 * TOKENS * (2 * WIDTH * heads + 2 * WIDTH * keys + 3 * WIDTH * INNER)
    attention = 2 * 2 * 2 * (TOKENS // 2) ** 2 * heads
    last = 2 * TOKENS * WIDTH * INNER
    assert sum(o.flops for o in again.operations if o.recomputed) == LAYERS * (products + attention - last)
    assert again.model_step_flops == plain.step_flops


def test_what_a_split_must_divide_is_read_from_the_trace() -> None:
    """Heads of keys and values, layers and tokens, also where transformers (4.51) repeats the keys."""
    dense = trace_job(_job("LlamaConfig", {**_ATTENTION, "intermediate_size": INNER}))
    assert why_not_split(dense) == ""
    assert DecoderShape.of(dense) == DecoderShape(heads=2, layers=LAYERS, tokens=TOKENS // 2, experts=0)


@_GROUPED
def test_a_split_must_divide_the_experts() -> None:
    """In mixed precision they compute in fp32, and none is split."""
    profile = trace_job(_job("MixtralConfig", _MIXTRAL, "bf16-true"))
    assert why_not_split(profile) == ""
    assert DecoderShape.of(profile) == DecoderShape(
        heads=2, layers=LAYERS, tokens=TOKENS // 2, experts=EXPERTS
    )
    assert "decoder-only" in why_not_split(trace_job(_job("MixtralConfig", _MIXTRAL)))
