"""
The tables of published steps: `published_steps.csv`, and the models and devices that its rows name.

Each row has its source, its licence and its trap. A row is scored where enough of it is published to predict something:
the model, the batch, the mean length and the cap. The others are listed, so that nobody reads them again.
`memory.csv` has published peaks and what each lacks; none has enough to be predicted.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trainfare_core.hardware.accelerators import accelerator

_FOLDER = Path(__file__).parent
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """The sizes of a decoder, as its authors' `config.json` has them."""

    model: str
    architecture: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    parameters: int

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values in 16 bits, over all layers."""
        return 2 * 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class PublishedDevice:
    """A device that rows name; `catalogue` is its name in the product's, "" where that has none."""

    machine: str
    catalogue: str
    memory_bytes: float
    bytes_per_s: float
    flops_per_s: float


@dataclass(frozen=True, slots=True)
class PublishedStep:
    """One published step; seconds of a phase are None where they are not published."""

    id: str
    source: str
    model: str
    machine: str
    training_machine: str
    generating_devices: int
    training_devices: int
    tensor_parallel: int
    memory_share: float
    most_sequences: int
    prompts: int
    completions: int
    prompt_tokens: int
    mean_completion_tokens: float
    cap_tokens: int
    generation_s: float
    scoring_s: float | None
    scored_models: int
    update_s: float | None
    trap: str

    @property
    def sequences(self) -> int:
        """Completions of one generation."""
        return self.prompts * self.completions


def read_rows() -> list[dict[str, str]]:
    """Return every row of the table of steps, scored and listed."""
    return _read("published_steps.csv")


def read_steps() -> tuple[PublishedStep, ...]:
    """Return the rows that are scored."""
    return tuple(_read_step(row) for row in read_rows() if row["scored"] == "true")


@cache
def read_models() -> tuple[PublishedModel, ...]:
    """Return the models of scored rows."""
    return tuple(
        PublishedModel(
            model=row["model"],
            architecture=row["architecture"],
            hidden_size=int(row["hidden_size"]),
            intermediate_size=int(row["intermediate_size"]),
            num_hidden_layers=int(row["num_hidden_layers"]),
            num_attention_heads=int(row["num_attention_heads"]),
            num_key_value_heads=int(row["num_key_value_heads"]),
            head_dim=int(row["head_dim"]),
            vocab_size=int(row["vocab_size"]),
            tie_word_embeddings=row["tie_word_embeddings"] == "true",
            parameters=int(row["parameters"]),
        )
        for row in _read("models.csv")
    )


@cache
def read_devices() -> tuple[PublishedDevice, ...]:
    """Return the devices of scored rows, by the product's catalogue where it has them."""
    return tuple(_read_device(row) for row in _read("devices.csv"))


def _read(name: str) -> list[dict[str, str]]:
    with (_FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_device(row: dict[str, str]) -> PublishedDevice:
    if not row["catalogue"]:
        return PublishedDevice(
            row["machine"],
            "",
            float(row["memory_gib"]) * _GIB,
            float(row["bandwidth_gb_per_s"]) * 1e9,
            float(row["bf16_tflops"]) * 1e12,
        )
    device = accelerator(row["catalogue"])
    flops_per_s = device.peak_flops_per_s("bf16")
    if flops_per_s is None:
        raise ValueError(f"devices.csv: {device.name} has no rate in bf16")
    memory_bytes = float(row["memory_gib"]) * _GIB if row["memory_gib"] else float(device.memory_bytes)
    return PublishedDevice(
        row["machine"], device.name, memory_bytes, device.memory_bandwidth_bytes_per_s, flops_per_s
    )


def _read_step(row: dict[str, str]) -> PublishedStep:
    return PublishedStep(
        id=row["id"],
        source=row["source"],
        model=row["model"],
        machine=row["machine"],
        training_machine=row["training_machine"],
        generating_devices=int(row["generating_devices"]),
        training_devices=int(row["training_devices"]),
        tensor_parallel=int(row["tensor_parallel"]),
        memory_share=float(row["memory_share"]),
        most_sequences=int(row["most_sequences"] or 0),
        prompts=int(row["prompts"]),
        completions=int(row["completions"]),
        prompt_tokens=int(row["prompt_tokens"]),
        mean_completion_tokens=float(row["mean_completion_tokens"]),
        cap_tokens=int(row["cap_tokens"]),
        generation_s=float(row["generation_s"]),
        scoring_s=float(row["scoring_s"]) if row["scoring_s"] else None,
        scored_models=int(row["scored_models"] or 0),
        update_s=float(row["update_s"]) if row["update_s"] else None,
        trap=row["trap"],
    )
