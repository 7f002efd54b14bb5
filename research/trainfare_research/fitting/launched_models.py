"""
Language models as their trainers ran them: facts that apply to a whole model of a source (`launched_models.csv`), and
those of fms-acceleration and AWS Neuron, which follow from other columns.

Each fact is a row of `data/launched_facts.csv`, with the repository and file where it was read and what measured
times say of it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from trainfare_core.hardware.accelerators import accelerator
from trainfare_research.fitting.table_lines import Line
from trainfare_research.truth_table import read_rows

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
    for fact in _read_facts():
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
def _read_facts() -> list[Line]:
    return read_rows(Path(__file__).with_name("launched_models.csv"))
