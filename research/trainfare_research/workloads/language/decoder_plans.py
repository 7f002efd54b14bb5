"""Parallel plan of a measured run, read from its `strategy`, `devices` and `nodes` columns and its notes."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_providers.machine_types import network_gbit_per_s

MOST_IN_A_MACHINE = 8
"""Accelerators of the largest machine whose direct links end at its case; racks (NVL72) and slices reach further."""


_ZERO_3 = "ZeRO (old branch)"
"""Section of BigScience's notes on GPT-2 whose runs shard their weights: DeepSpeed's Megatron-LM-v1.1.5-ZeRO3."""


@dataclass(frozen=True)
class Plan:
    """
    A plan for a model on several devices; tensor x pipeline x context x data = devices.

    Attributes:
        machines: groups of devices that only a network joins; inside a group devices have direct links.
        gbit_per_s: network of one machine; 0 where there is one machine.
        virtual: pipeline stages of one device (interleaved schedule).
        sharded: weights, gradients and optimizer state are sharded over the data-parallel devices.
        sharded_optimizer: only the optimizer state is (ZeRO-1, Megatron's distributed Adam).
        overlap: gradients are exchanged while the backward pass runs; not in Megatron of 2021 and 2022, which has
            dropout and no flash attention either.
        hybrid: what is sharded is so over the devices of one machine.
    """

    devices: int
    machines: int
    gbit_per_s: float
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    virtual: int = 1
    sharded: bool = False
    sharded_optimizer: bool = False
    overlap: bool = True
    hybrid: bool = False

    @property
    def sequence_parallel(self) -> bool:
        """Whether a tensor-parallel group shares norms and dropout too: every trainer but those of 2021."""
        return self.overlap

    @property
    def sharding(self) -> str:
        """Of `SHARDINGS`, how weights, gradients and optimizer state are spread over replicas."""
        return "hybrid" if self.hybrid else "fsdp" if self.sharded else "ddp"

    @property
    def data(self) -> int:
        """Number of model replicas."""
        return self.devices // (self.tensor * self.pipeline * self.context)


def plan_of(row: Mapping[str, str], device: Accelerator) -> Plan | str:
    """Return the plan of a row, or why it is not known."""
    text, notes = row["strategy"].lower(), row["notes"]
    devices = int(float(row["devices"]))
    nodes = int(float(row["nodes"] or 0)) or 1
    if "offload" in notes.lower() or "offload" in text:
        return "weights or optimizer on the host: not modelled"
    if "no-cp" in text:
        return "the tensor and pipeline degrees are not stated"
    degree = _degrees(text)
    cores = 2 if device.kind == "trainium" else 1
    if "fills the" in text:
        degree["tp"] = devices // nodes
    if "tp,pp,dp:" in text:
        degree = _by_size(text, row["model"])
    tensor, pipeline = max(1, degree.get("tp", 1) // cores), degree.get("pp", 1)
    context = degree.get("cp", 1)
    if devices % (tensor * pipeline * context):
        return "its tensor, pipeline and context degrees do not divide its devices"
    data = devices // (tensor * pipeline * context)
    if cores == 2 and "dp" in degree and degree["dp"] * degree.get("tp", 1) * pipeline != devices * cores:
        return "its tensor x data x pipeline degrees are not its devices"
    if cores == 1 and device.kind == "gpu" and degree.get("dp", data) > devices:
        return "its data-parallel degree is more than its devices"
    machines, gbit = network_of(row, device, devices, nodes)
    hybrid = "hsdp" in text and machines > 1
    sharded = (
        _ZERO_3 in notes
        or "fsdp" in text
        or "hsdp" in text
        or "zero3" in text
        or degree.get("fsdp", 0) > 1
        or "maxtext" in text
    )
    return Plan(
        devices=devices, machines=machines, gbit_per_s=gbit, tensor=tensor, pipeline=pipeline, context=context,
        expert=min(degree.get("ep", 1), devices), virtual=max(1, degree.get("vp", 1) or 1),
        sharded=sharded and degree.get("fsdp", 2) > 0,
        sharded_optimizer=bool(re.search(r"zero-?1|distributed", text + row["optimizer"])),
        overlap=not re.match(r"megatron(-lm$|-deepspeed$|\()", row["framework"]), hybrid=hybrid,
    )  # fmt: skip


def network_of(
    row: Mapping[str, str], device: Accelerator, devices: int, nodes: int, *, partly_used: bool = False
) -> tuple[int, float]:
    """
    Return the number of machines and the Gbit/s of one.

    The rate is that of the notes, else of the machine type that they name, else of decoder_networks.csv.

    A group of directly linked devices larger than a node (NVL72, a TPU slice) counts as one machine.

    Args:
        row: with its notes.
        device: of the row.
        devices: of all machines.
        nodes: as the row states them.
        partly_used: whether a node with fewer devices than machines usually have is a machine used in part. Tables
            of language models count four GPUs a node where machines have eight: for them nodes are joined.
    """
    usual, domain = _usual().get(device.name, (0.0, 8 if nodes == 1 else devices // nodes))
    if partly_used and domain <= MOST_IN_A_MACHINE:
        domain = devices // nodes
    slices = device.kind == "tpu"
    size = devices // nodes if slices or domain <= devices // nodes else min(domain, devices)
    machines = max(1, -(-devices // max(size, 1)))
    while devices % machines:
        machines += 1
    if machines == 1:
        return 1, 0.0
    notes = row.get("notes", "")
    several = re.search(r"(\d+)x(\d+)\s?Gb", notes)
    stated = re.search(r"(\d+)\s?Gbps", notes)
    by_chip = re.search(r"(\d+) Gbps \(" + re.escape(device.name[:4]), notes)
    if several:
        return machines, float(several[1]) * float(several[2])
    rate = by_chip or stated
    if rate:
        return machines, float(rate[1])
    return machines, _of_named_machine(notes) or usual * devices / machines


def _of_named_machine(notes: str) -> float | None:
    """Return the published rate of the first machine type of AWS or Azure in some notes, Gbit/s; None: none there."""
    words = re.findall(r"[\w.]+", notes)
    rates = (
        network_gbit_per_s("aws", word) or network_gbit_per_s("azure", f"Standard_{word}") for word in words
    )
    return next((rate for rate in rates if rate), None)


def _degrees(text: str) -> dict[str, int]:
    """Return parallel degrees by name, from spellings such as "TP=4", "tp4" and "vpp2"."""
    degrees: dict[str, int] = {}
    for name, value in re.findall(r"(?<![a-z])(tp|pp|cp|ep|dp|vp|vpp|fsdp|tensor|pipe)\s*=?\s*(\d+)", text):
        degrees.setdefault({"vpp": "vp", "tensor": "tp", "pipe": "pp"}.get(name, name), int(value))
    if degrees.get("pp") == 41:  # a misprint of the source: the run has one stage
        degrees["pp"] = 1
    return degrees


def _by_size(text: str, model: str) -> dict[str, int]:
    for size, tensor, pipeline, data in re.findall(r"(\d+)b (\d+),(\d+),(\d+)", text):
        if f"{size}b" in model.lower():
            return {"tp": int(tensor), "pp": int(pipeline), "dp": int(data)}
    return {}


def is_one_graph(row: Mapping[str, str], device: Accelerator) -> bool:
    """
    Return whether the run's host starts every step as one CUDA graph: by decoder_graphs.csv, since no row says so.

    The table has the first release of each recipe that does, by source, model, accelerator and precision.
    """
    release = re.search(r"release=([\d.]+)", row["notes"])
    plain = re.sub(r"[^a-z0-9]", "", row["model"].lower())
    return release is not None and any(
        _parse_numbers(release[1]) >= _parse_numbers(graph["first_release"])
        and (row["source"], device.name, row["precision"])
        == (graph["source"], graph["accelerator"], graph["precision"])
        and plain.startswith(graph["model"])
        for graph in _graphs()
    )


def _parse_numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".") if part)


@lru_cache(maxsize=1)
def _graphs() -> tuple[dict[str, str], ...]:
    with Path(__file__).with_name("decoder_graphs.csv").open(newline="", encoding="utf-8") as stream:
        return tuple(csv.DictReader(stream))


@lru_cache(maxsize=1)
def _usual() -> dict[str, tuple[float, int]]:
    with Path(__file__).with_name("decoder_networks.csv").open(newline="", encoding="utf-8") as stream:
        return {
            row["accelerator"]: (float(row["gbit_per_s_per_device"]), int(row["domain_devices"]))
            for row in csv.DictReader(stream)
        }
