"""
Measured steps as their trainers ran them, where a public launch script, trainer or log says what the table does not.

Each fact was read in the repository that it names; what measured times say of it is beside it.

- Lambda's benchmark (lambdal/deeplearning-benchmark, `pytorch/scripts/config_*` and `pytorch/results`): Transformer-XL
  runs without `--adaptive`, so its softmax has all 267,735 words. Tacotron 2 and WaveGlow get `--amp-run`, which
  NVIDIA's trainers of PyTorch 1.7 and later do not know: their logs say `amp : False`, and both flags run equally fast.
  NCF of the suites v1 and v2 has no `--amp` on devices of 80 GB and more. The throughput of SSD in the suite v0 is of
  one process: eight devices report that of one. On B200 it is that of its loader: 1,016 to 1,043 images/s a device with
  AMP and with TF32, on one to eight devices. Runs named "sonantic" state their batches in their configuration.
- NVIDIA's NCF (DeepLearningExamples, `ncf.py` and `dataloading.py`): a throughput counts all samples of the epoch,
  though each process drops its last batch. With a batch as large as its share of the epoch nothing is trained. In
  Lambda's suites v1 and v2 its clock does not wait for the device, and without AMP nothing else does: a log has an
  epoch of 5 ms and the evaluation after it of 213 ms, which takes 21 ms elsewhere. In PyTorch 2.x a step of 10 million
  samples takes 132, 95, 4 and 13 ms on 1, 2, 4 and 8 H100; in 1.13 163, 164, 164 and, of one batch, 111 ms.
- Lambda's runs of the suite v1 in PyTorch 1.13 of late 2022, before H100 and Ada (`benchmark_pytorch.sh`): the GPUs
  of a machine may not reach each other's memory (`NCCL_P2P_DISABLE=1`). GNMT on eight A100 80 GB then reaches 39 to
  51 % of eight times the rate of one, 98 to 100 % in the suite v0.
- MosaicML's diffusion (mosaicml/diffusion, `yamls/`): batches of 2,048 in passes of 16 a device
  (`device_train_microbatch_size`), `SHARD_GRAD_OP`, on A100 of 80 GB. The README counts the U-Net alone, on latents
  made beforehand. At 256 pixels 128 devices, with one pass, are 1.36 times as fast as 64 with two.
- AdaptDL (petuum/adaptdl, `torch/data.py` and `torch/gradient_noise_scale.py`): the time has no loader in it, but
  statistics of every gradient, in float64 and with a wait for the device: 35 to 118 ms of each step of ResNet-18,
  whatever the batch.
- Milabench (mila-iqia/milabench): images of `synthetic_fixed` have 244 pixels (`benchmate/dataloader.py`; 100.3 MiB of
  saved fp32 tensors an image are measured, 224 pixels make 81.9). ResNet-50 with a loader and Whisper copy their batch
  to the device inside the step, from memory that is not pinned (`torchvision/main.py`, `huggingface/bench`). ResNet-152
  on several devices computes in bf16, whatever its precision is called (`torchvision_ddp/main.py`; its rates are those
  of the bf16 rows within 0.3 %). On A100 it is from before the channels-last option of ResNet-50 (`config/base.yaml`).
- The dashboard of torch.compile (transformers of 2022, `modeling_deberta_v2.py`): dropout and softmax of DeBERTa-v2 are
  functions in Python, which hold the device up: fp16 and TF32 take 127.7 and 128.2 ms.
- AlgoPerf times the selection of data with the update (the table's `measured`). Its U-Net takes 122 to 125 images a
  second with 16 and with 32 of them a step, and its graph network about 340 ms with nearly every optimizer: the host
  decides.
- Optimum for Gaudi (`vit_base_patch16_224_in21k.json`): one worker loads the images, and ViT is 1.07 times as fast as
  Swin on Gaudi 2, 1.69 times on Gaudi 1.
- BLOOM's runs before its training (bigscience-workshop/bigscience, `chronicles-prequel.md`): hidden size and layers
  stand above the tables (`bigscience_shapes.csv`), heads are 64 where a row states none and 96 in the tables of 02-20,
  and the vocabulary has 250,880 padded words. 12 x layers x hidden^2 and those words make the stated size of every row
  within 0.5 %; of two of 02-20 they do without the words.
- AWS Neuron's data-parallel rows (their strategy says "32xNC(DP)"): each of a chip's two NeuronCores trains a copy,
  and the batch of the table is that of one, as its notes say.
- NVIDIA's other examples: `launched_nvidia.py`. Language models and the sources with facts of whole models:
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

__all__ = ["NO_PEER_ACCESS", "as_launched", "launched_rows", "step_rows"]

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


def launched_rows(path: Path) -> list[Line]:
    """Return the measured steps of one table; one that cannot be read is as it was, with a `skip_reason`."""
    lines = read_rows(path)
    found = [or_reason(as_launched, line) for line in lines]
    return [
        {**line, "skip_reason": one} if isinstance(one, str) else one
        for line, one in zip(lines, found, strict=True)
    ]


def step_rows(data: Path) -> list[Line]:
    """Return the measured steps of every release that can be read, from a folder with `STEP_TABLES`."""
    lines = [line for name in STEP_TABLES for line in launched_rows(data / name)]
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
    several = line["devices"] != "1" and suite == "suite=v1" and _version(line) == (1, 13)
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
    return name.startswith(("tacotron2", "waveglow")) and _version(line) >= (1, 7)


def _of_trained_samples(line: Line) -> str:
    devices, batch = int(line["devices"]), int(float(line["batch_per_device"]))
    batches = math.ceil(_EPOCH / devices / batch) - 1
    waits = line["precision"] == "amp_fp16" or line["notes"].partition(";")[0] not in _LATER_SUITES
    if not batches or (not waits and (batches == 1 or _version(line) >= (2, 0))):
        return ""
    return str(float(line["throughput"]) * batches * batch * devices / _EPOCH)


def _version(line: Line) -> tuple[int, ...]:
    return tuple(int(part) for part in torch_of(line["framework"]).split(".")[:2] if part)
