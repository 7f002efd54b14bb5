"""Published runs, predicted from their configuration alone: their GPU hours lie in the 80 % interval."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainfare.estimate import EstimateRequest
from trainfare.estimate.profile import estimate_profile
from trainfare_core.prediction import predict_machine
from trainfare_core.variants import with_implementation
from trainfare_core.variants.implementations import Implementation

pytest.importorskip("transformers")

_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "vocab_size": 50304}
_GPT2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **_NO_DROPOUT}
_GPT2_XL = {**_GPT2, "n_embd": 1600, "n_layer": 48, "n_head": 25}
_TINYLLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
}  # fmt: skip
_PYTHIA_1B = {
    "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 16, "num_attention_heads": 8, "vocab_size": 50304, "rotary_pct": 0.25,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A published run."""

    model: dict[str, Any] | str
    tokens: int
    seq: int
    batch: int
    micro_batch: int
    device: str
    machines: int
    strategy: str
    network_gbit_per_s: float | None = None
    recompute: bool = False
    implementation: Implementation
    device_hours: float


RUNS = {
    # karpathy/nanoGPT, README.md ("a single 8XA100 40GB node in about 4 days") and config/train_gpt2.py (600,000 steps
    # of 12 x 1024 x 5 x 8 tokens).
    "nanoGPT 124M": Run(
        model=_GPT2, tokens=600_000 * 480 * 1024, seq=1024, batch=480, micro_batch=12, device="A100-SXM-40GB",
        machines=1, strategy="ddp", implementation="fused", device_hours=8 * 4 * 24,
    ),
    # karpathy/llm.c, discussion 481 ("~90 minutes" on "8X A100 80GB SXM") and scripts/run_gpt2_124M.sh (18,865 steps).
    "llm.c 124M": Run(
        model=_GPT2, tokens=18_865 * 2**19, seq=1024, batch=512, micro_batch=64, device="A100-SXM-80GB",
        machines=1, strategy="zero1", implementation="fused", device_hours=8 * 1.5,
    ),
    # karpathy/llm.c, discussion 677 ("a single 8XH100 node in 24 hours") and scripts/run_gpt2_1558M.sh (32,000 steps).
    "llm.c 1.5B": Run(
        model=_GPT2_XL, tokens=32_000 * 2**20, seq=1024, batch=1024, micro_batch=16, device="H100-SXM-80GB",
        machines=1, strategy="zero1", implementation="fused", device_hours=8 * 24,
    ),
    # jzhang38/TinyLlama, README.md ("throughput of 24k tokens per second per A100-40G GPU", "22B tokens) in 32 hours with
    # 8 A100") and pretrain/tinyllama.py (FSDP, 512 samples, micro-batch 8). Of its two machines no network is stated.
    "TinyLlama": Run(
        model=_TINYLLAMA, tokens=22 * 10**9, seq=2048, batch=512, micro_batch=8, device="A100-SXM-40GB",
        machines=1, strategy="fsdp", implementation="fused", device_hours=8 * 32,
    ),
    # Biderman et al. 2023 (arXiv 2304.01373), GPU hours on A100-40GB, repeated in TinyLlama's README; EleutherAI/pythia,
    # models/1B/pythia-1b.yml (64 devices, ZeRO 1, recomputation). Network: that of the AWS machine of these devices.
    "Pythia 1B": Run(
        model=_PYTHIA_1B, tokens=143_000 * 2**21, seq=2048, batch=1024, micro_batch=16, device="A100-SXM-40GB",
        machines=8, strategy="zero1", network_gbit_per_s=400, recompute=True, implementation="eager",
        device_hours=4830,
    ),
    # Touvron et al. 2023 (arXiv 2307.09288), tables 1 and 2, section 2.2.1: A100-80GB, 200 Gbit/s a device, batches of
    # 4M tokens. The number of devices is not stated; 1024.
    "Llama 2 7B": Run(
        model="llama-2-7b", tokens=2 * 10**12, seq=4096, batch=1024, micro_batch=1, device="A100-SXM-80GB",
        machines=128, strategy="fsdp", network_gbit_per_s=1600, implementation="eager", device_hours=184_320,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_the_published_hours_are_in_the_interval(name: str, tmp_path: Path) -> None:
    """As the trainer of the run is called: eager is the usual choice, GPT-NeoX and Meta's included."""
    run, path = RUNS[name], tmp_path / "model.json"
    if isinstance(run.model, dict):
        path.write_text(json.dumps(run.model), encoding="utf-8")
    request = EstimateRequest(
        model=run.model if isinstance(run.model, str) else str(path),
        tokens=run.tokens,
        seq=run.seq,
        batch=run.batch,
        micro_batch=run.micro_batch,
        recompute=run.recompute,
    )
    profile = with_implementation(estimate_profile(request), run.implementation)
    network = run.network_gbit_per_s
    answer = predict_machine(profile, run.device, 8, run.machines, run.strategy, network_gbit_per_s=network)
    assert answer.fits
    device_hours = (profile.plan.optimizer_steps or 0) * 8 * run.machines / 3600
    assert answer.step_s.low_80 * device_hours <= run.device_hours <= answer.step_s.high_80 * device_hours
