"""
Language models as their trainers ran them: facts that apply to a whole model of a source (`launched_models.csv`), and
those of fms-acceleration and AWS Neuron, which follow from other columns.

- fms-acceleration (foundation-model-stack, `scripts/benchmarks/refs_orca`): transformers counts the tokens of the first
  process alone. Samples of the runs of several devices (`_mp.csv`) have 273 tokens, those of `_pf.csv` 289 with
  Mistral's tokens and 290 with those of its GPTQ model, which is what the runs on one device say. With padding the mean
  is that of the padded batches, which is what was computed (369, 445 and 524 for 2, 4 and 8 samples); a run that stops
  after 100 steps (`_moe.csv`) multiplies its first batch. Mixtral under FSDP installs no plan for experts
  (`accelerate.yaml`): each device runs all of them. Without acceleration, one device trains norms, embeddings and head
  in fp32 (peft `prepare_model_for_kbit_training`): 1.23 to 1.29 times as long as the same run with it, 0 to 1 % on two.
- AWS Neuron's BERT (aws-neuron-sdk, `trn1_trn1n_nlp_data.csv`): gradients are accumulated to the global batch. Release
  2.13 on 256 chips: 19,940 ms for 128 passes, 641 ms for 2. Phase 2 has 512 tokens.
- AWS Neuron's other encoders (aws-neuron-samples, `torch-neuronx/training/hf_*`): ViT is google/vit-base-patch16-224,
  CLIP a pair of openai/clip-vit-base-patch32 and roberta-base on captions padded to 128 tokens (`run_clip.py`), the
  Perceivers classify texts of 2,048 bytes and images of 224 pixels. 1,367 and 1,407 texts/s in releases 2.16 and 2.17,
  140.14 in 2.21.
- FlagPerf (`vit-pytorch/config/config_common.py`, README of Mixtral): ViT runs AMP (78 % of the peak of TF32, 39 % of
  that of fp16); batch and length. Mixtral's `--recompute-activations` runs attention again, which is fused.
- NVIDIA's dgxc-benchmarking: MaxText keeps the projections of attention (`maxtext/configure.sh`, `remat_policy`), so
  that 55 to 63 % of a block's products run again. Paxml's GPT (`paxml/configure.sh`, README): 24 blocks, no fused
  attention, products kept, sharded inside a machine; 634 to 651 ms on 16 to 128 GPUs. DeepSeek-V3 on 512 GB200 has the
  four stages of 128 and 256 (`launch.sh`): 34.2 s each.
- DeepSeek-V3 of Megatron-Bridge and dgxc-benchmarking has one more block, which predicts a second token
  (`deepseek_llm_pretrain.py`): 260 GFLOP a token, 250 in rows without. Its second output head is not described.
- MaxText's DeepSeek-V3 on v5p (AI-Hypercomputer/tpu-recipes, `training/v5p/DeepSeek3-671B-MaxText/cluster_toolkit`):
  6 samples of 8,192 tokens a device make the stated tokens of a step, and only inputs of blocks are kept.
- torchao's B200 are limited in power (`workflows/training.md`): 1.35 times an H100, other sources' 2.1 times.
- Levanter's 20 B and 65 B state 1.06 and 1.24 times as many FLOPs with recomputation as without, the others 1.33 to
  1.51; all recompute every block, which is 1.33 at least.
- NeMo Automodel (`examples/llm_benchmark`): recomputation, LoRA on all projections, experts over 8 and 64 devices. What
  LoRA recomputes is not in its FLOP/s: 277 to 316 with, 402 to 423 without. Its column of kernels says "TE"
  (Transformer Engine) for all rows, also for the two whose files ask for the model of transformers, uncompiled.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from trainfare_core.hardware.accelerators import accelerator
from trainfare_research.fitting.table_lines import Line
from trainfare_research.truth_table import read_rows

__all__ = ["of_flagperf", "of_fms", "of_model", "of_neuron"]

_STEP_TOKENS = {"_mp.csv": "273", "_pf.csv": "289"}
"""Mean tokens of a sample without padding, by the end of the file of a row."""
_GPTQ_TOKENS = "290"
"""The same of `_pf.csv` with the tokens of the GPTQ model."""
_ADAMW_BYTES = 48
"""Moved of each 16-bit weight by AdamW of a kernel per operation (42), and by the clipping of gradients (6)."""
_BERT_BATCHES = {"Ph1 strong": 16_384, "Ph1 weak": 1_048_576, "Ph2 weak": 524_288}
"""Samples of an optimizer step of AWS's BERT where a row leaves them out, as in the releases that state them."""


def of_model(line: Line) -> Line:
    """Return what is known of all rows of a model and its source."""
    changes: Line = {}
    for fact in _facts():
        same = line["source"] == fact["source"] and line["model"].startswith(fact["model"])
        if same and (not fact["column"] or line[fact["column"]].startswith(fact["starts"])):
            name, value = fact["changed"], fact["value"]
            changes[name] = f"{changes.get(name, line[name])};{value}" if name == "notes" else value
    return changes


def of_fms(line: Line, _name: str) -> Line:
    """Return the length of fms-acceleration's samples, how it spreads experts, and what it trains in fp32."""
    notes, file = line["notes"], line["source_ref"].partition(":")[2].partition(":")[0]
    changes: Line = {}
    logged = re.search(r"logged mean (\d+) tokens", notes)
    if logged and "no pad tokens" in notes:
        tokens = next((n for end, n in _STEP_TOKENS.items() if file.endswith(end)), logged[1])
        gptq = file.endswith("_pf.csv") and "GPTQ" in line["model"]
        changes["sequence_length"] = _GPTQ_TOKENS if gptq else tokens
    elif logged and file.endswith("_pf.csv"):
        changes["sequence_length"] = logged[1]
    if line["model"].startswith("Mixtral") and line["strategy"] == "fsdp":
        changes["strategy"] = "fsdp+ep1"
    if "config baseline-peft-bnb" in notes and line["devices"] == "1":
        changes["notes"] = f"{notes};SUSPECT: norms, embeddings and head in fp32, every product with casts"
    if line["task"] == "finetune_full" and not ("autocast" in notes and "no autocast" not in notes):
        changes["notes"] = f"{notes};optimizer bytes a weight={_ADAMW_BYTES}"
    return changes


def of_neuron(line: Line, name: str) -> Line:
    """Return the batch of both cores of a chip, which train copies, and the passes of a step."""
    if "NC(DP)" not in line["strategy"] or not line["batch_per_device"]:
        return {}
    batch = float(line["batch_per_device"]) * accelerator(line["accelerator"]).cores
    phase = "Ph2" if name.endswith("ph2") else "Ph1"
    scaling = "weak" if "weak" in line["notes"] else "strong"
    unstated = (
        _BERT_BATCHES[f"{phase} {scaling}"] if name.startswith("bert") else batch * int(line["devices"])
    )
    whole = float(line["global_batch"] or unstated)
    passes = round(whole / batch / int(line["devices"]))
    changes = {"batch_per_device": str(batch), "notes": f"{line['notes']};grad_accum={passes}"}
    return changes | ({"sequence_length": "512"} if phase == "Ph2" else {})


def of_flagperf(line: Line, name: str) -> Line:
    """Return the notes of ViT without the doubt that its rate is too high for TF32."""
    return {"notes": line["notes"].replace("SUSPECT_FAST", "")} if name == "vit-b/16" else {}


@lru_cache(maxsize=1)
def _facts() -> list[Line]:
    return read_rows(Path(__file__).with_name("launched_models.csv"))
