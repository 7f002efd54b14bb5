"""
Measured steps as their trainers ran them, where a public launch script, trainer or log says what the table does not.

Each fact is a row of `data/launched_facts.csv`, with the repository and file where it was read and what measured
times say of it.
NVIDIA's other examples: `launched_nvidia.py`. Language models and the sources with facts of whole models:
`launched_models.py`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from trainfare_core.hardware.accelerators import accelerator
from trainfare_research.fitting.launched_models import of_flagperf, of_fms, of_model, of_neuron
from trainfare_research.fitting.launched_nvidia import of_nvidia
from trainfare_research.fitting.table_lines import HOST_COPY, ZERO_2, Line, torch_of
from trainfare_research.truth_table import STEP_TABLES, or_reason, read_rows
from trainfare_research.workloads.language.sequences import FULL_SOFTMAX
from trainfare_research.workloads.vision.detection import CHANNELS_LAST

NO_PEER_ACCESS = "peer access off"
"""Note of a row whose devices exchange through the memory of their host."""

_EPOCH = 5 * 19_861_770
"""Samples of an epoch of NCF on MovieLens 20M: each rating that is not of the test set, with four drawn ones."""
_LATER_SUITES = ("suite=v1", "suite=v2")
"""Of Lambda, in its notes."""
_NO_AMP_FROM_BYTES = 80e9
"""Memory of the devices whose configurations lack NCF's `--amp`: theirs run AMP at the rate of TF32."""
_PEERS_FROM_YEAR = 2022
"""Devices that came out from then on were measured after Lambda had allowed peer access again."""
_BLOOM_WORDS = 250_880
_DIFFUSION_BATCH = 16
"""Samples of one pass of MosaicML's diffusion trainer."""


def read_launched_rows(path: Path) -> list[Line]:
    """Return the measured steps of one table; one that cannot be read is as it was, with a `skip_reason`."""
    lines = read_rows(path)
    outcomes = [or_reason(as_launched, line) for line in lines]
    return [
        {**line, "skip_reason": outcome} if isinstance(outcome, str) else outcome
        for line, outcome in zip(lines, outcomes, strict=True)
    ]


def step_rows(data: Path) -> list[Line]:
    """Return the measured steps of every release that can be read, from a folder with `STEP_TABLES`."""
    lines = [line for name in STEP_TABLES for line in read_launched_rows(data / name)]
    return [line for line in lines if not line.get("skip_reason")]


def as_launched(line: Line) -> Line:
    """
    Return the row with the precision, length, throughput and notes that its trainer's script or log gives.

    A throughput is empty where nothing was trained, or its time is not of the device's work.
    """
    source, name = line["source"], line["model"].lower()
    change = _CHANGES.get(source)
    changes = {} if change is None else change(line, name)
    if source in ("lambda-dlbench", "nvidia-dle") and name.startswith("ncf"):
        changes["throughput"] = _of_trained_samples(line | changes)
    return line | changes | of_model(line | changes)


def _of_lambda(line: Line, name: str) -> Line:
    suite, changes = line["notes"].partition(";")[0], {"notes": line["notes"]}
    device = accelerator(line["accelerator"])
    if name.startswith("transformer-xl"):
        changes["notes"] += f";{FULL_SOFTMAX}"
    if name.startswith("ssd") and suite == "suite=v0":
        changes["throughput"] = str(float(line["throughput"]) * int(line["devices"]))
    elif name.startswith("ssd") and line["accelerator"].startswith("B200"):
        changes["notes"] += ";HOST_BOUND"
    if "_sonantic_" in line["source_ref"]:
        changes["batch_per_device"] = "80" if line["precision"] == "amp_fp16" else "48"
    if line["precision"] == "amp_fp16" and _ran_without_amp(line, name, suite):
        changes["precision"] = "tf32" if device.peak_flops_per_s("tf32") is not None else "fp32"
    several = line["devices"] != "1" and suite == "suite=v1" and _parse_version(line) == (1, 13)
    if several and device.release_year < _PEERS_FROM_YEAR:
        changes["notes"] += f";{NO_PEER_ACCESS}"
    return changes


def _of_mosaicml(line: Line, _name: str) -> Line:
    passes = int(line["global_batch"]) // int(line["devices"]) // _DIFFUSION_BATCH
    return {
        "accelerator": "A100-SXM4-80GB",
        "batch_per_device": str(_DIFFUSION_BATCH),
        "strategy": ZERO_2,
        "notes": f"{line['notes']};grad_accum={passes}",
    }


def _of_adaptdl(line: Line, _name: str) -> Line:
    return {
        "notes": f"{line['notes']};SUSPECT: statistics of gradients in every step",
        "measured": "optimizer step",
    }


def _of_milabench(line: Line, name: str) -> Line:
    changes = {}
    if "fixed synthetic batch" in line["notes"]:
        changes["image_size"] = "244"
    elif name == "torchvision resnet50" or name.startswith("whisper"):
        changes["measured"] = f"{line['measured']}, {HOST_COPY} in the step"
    if name == "torchvision resnet152" and line["precision"] == "amp_fp16":
        changes["precision"] = "bf16"
    if line["source_ref"].endswith("README.md"):
        changes["notes"] = line["notes"].replace(CHANNELS_LAST, "")
    return changes


def _of_bigscience(line: Line, _name: str) -> Line:
    lines = line["source_ref"].rpartition(":")[2]
    for known in _shapes():
        sections = known["lines"].split("|")
        if known["model"] == line["model"] and (lines in sections or sections == [""]):
            heads = "" if "nheads=" in line["notes"] else f";heads={known['heads']}"
            shape = f"hidden={known['hidden']};layers={known['layers']};vocabulary={_BLOOM_WORDS}"
            return {"notes": f"{line['notes']}{heads};{shape}"}
    return {}


def _of_dashboard(line: Line, name: str) -> Line:
    return {"notes": f"{line['notes']};HOST_BOUND"} if name.startswith("debertav2") else {}


def _of_gaudi(line: Line, name: str) -> Line:
    waits = name.startswith("vit-") and line["accelerator"].startswith("Gaudi2")
    return {"notes": f"{line['notes']};HOST_BOUND"} if waits else {}


def _of_algoperf(line: Line, name: str) -> Line:
    waits = name.startswith(("u-net fastmri", "gnn ogbg"))
    return {"notes": f"{line['notes']};HOST_BOUND"} if waits else {}


_CHANGES = {
    "lambda-dlbench": _of_lambda,
    "nvidia-dle": of_nvidia,
    "mosaicml-diffusion": _of_mosaicml,
    "sia-sosp23": _of_adaptdl,
    "aws-neuron": of_neuron,
    "milabench": _of_milabench,
    "bigscience-tr11": _of_bigscience,
    "inductor-dashboard": _of_dashboard,
    "optimum-habana": _of_gaudi,
    "fms-acceleration": of_fms,
    "flagperf": of_flagperf,
    "algoperf": _of_algoperf,
}
"""By the name of a source in the tables."""


@lru_cache(maxsize=1)
def _shapes() -> list[Line]:
    return read_rows(Path(__file__).with_name("bigscience_shapes.csv"))


def _ran_without_amp(line: Line, name: str, suite: str) -> bool:
    if name.startswith("ncf"):
        return suite in _LATER_SUITES and accelerator(line["accelerator"]).memory_bytes >= _NO_AMP_FROM_BYTES
    return name.startswith(("tacotron2", "waveglow")) and _parse_version(line) >= (1, 7)


def _of_trained_samples(line: Line) -> str:
    devices, batch = int(line["devices"]), int(float(line["batch_per_device"]))
    batches = math.ceil(_EPOCH / devices / batch) - 1
    waits = line["precision"] == "amp_fp16" or line["notes"].partition(";")[0] not in _LATER_SUITES
    if not batches or (not waits and (batches == 1 or _parse_version(line) >= (2, 0))):
        return ""
    return str(float(line["throughput"]) * batches * batch * devices / _EPOCH)


def _parse_version(line: Line) -> tuple[int, ...]:
    return tuple(int(part) for part in torch_of(line["framework"]).split(".")[:2] if part)
