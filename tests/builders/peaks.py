"""A row of memory_reference.csv: a peak of litgpt (Lightning-AI/litgpt, resource tables)."""

from __future__ import annotations

PEAK = {
    "row_id": "", "model": "Phi-1.5", "params_m": "1420", "domain": "llm", "method": "lora",
    "method_detail": "LoRA trainable 1,572,864", "precision": "bf16-true", "optimizer": "AdamW", "micro_batch": "1",
    "seq_len_or_res": "1044", "n_gpus": "1", "gpu": "A100-40GB", "act_ckpt": "", "sharding": "none", "other_flags": "",
    "peak_value": "", "peak_unit": "", "peak_gib": "4.489", "unit_note": "", "mem_kind": "max_allocated",
    "scope": "per_gpu", "throughput": "", "status": "ok", "source_id": "litgpt-resource-2023", "source": "",
}  # fmt: skip
