"""What `trainfare estimate` is asked: a model, how it is trained, on how much. Loads no torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import typer

from trainfare_core.errors import InputError

Method: TypeAlias = Literal["full", "lora", "qlora", "grpo", "rloo"]
Precision: TypeAlias = Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true"]

_COUNT: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([kMBT]?)", re.ASCII)
_TIMES: Final = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_MOST: Final = 10**15
"""The largest number that a training job takes."""
_TRACED_TOKENS: Final = 8192
"""Tokens of the micro-batch that is traced, at most, unless one sequence has more. Chosen: about what a device holds;
the ranking tries micro-batches up to a device's whole share."""
_TRACED_IMAGES: Final = 64
"""Images of the micro-batch that is traced, at most. Chosen as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRequest:
    """A run, by its model and its size; each field is an option of `trainfare estimate`."""

    model: Annotated[
        str,
        typer.Option(
            help="a config.json of Hugging Face or its folder, a name such as gpt2 or llama-3.1-8b, "
            "or a name in timm or torchvision; nothing is downloaded"
        ),
    ]
    method: Annotated[
        Method,
        typer.Option(
            help="full trains all weights, lora and qlora adapters; grpo and rloo generate what they train on"
        ),
    ] = "full"
    tokens: Annotated[
        int | None,
        typer.Option(
            parser=lambda text: parse_count(text, "--tokens"),
            metavar="<str>",
            help="trained on in the whole run, e.g. 10B; with --seq, for text",
        ),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            parser=lambda text: parse_count(text, "--samples"),
            metavar="<str>",
            help="trained on in the whole run, e.g. 2M, in place of --tokens",
        ),
    ] = None
    seq: Annotated[int | None, typer.Option(min=1, max=10**7, help="tokens of one sequence, for text")] = None
    batch: Annotated[
        int, typer.Option(min=1, max=10**6, help="samples of one optimizer step, over all devices")
    ] = 64
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="samples of the forward pass that is traced; default: chosen"),
    ] = None
    image_size: Annotated[
        int | None,
        typer.Option(min=1, max=10**5, help="pixels of one side, for images; default: the model's"),
    ] = None
    precision: Annotated[Precision, typer.Option(help="as Lightning names it")] = "bf16-mixed"
    lora_rank: Annotated[int, typer.Option(min=1, max=10**4, help="of the adapters")] = 16
    recompute: Annotated[
        bool, typer.Option("--recompute", help="recompute the blocks in backward, which saves memory")
    ] = False

    def steps(self) -> int:
        """
        Return the optimizer steps of the run.

        Raises:
            InputError: neither tokens nor samples are given, or both, or tokens without the length of a sequence.
        """
        if (self.tokens is None) == (self.samples is None):
            raise InputError("how long is the run? give --tokens 10B (with --seq 4096), or --samples 2M")
        if self.tokens is None:
            return max(1, math.ceil((self.samples or 1) / self.batch))
        if self.seq is None:
            raise InputError("--tokens needs --seq, the tokens of one sequence, e.g. --seq 4096")
        return max(1, math.ceil(self.tokens / (self.seq * self.batch)))

    @property
    def generates(self) -> bool:
        """Whether the run generates what it trains on."""
        return self.method in ("grpo", "rloo")

    def count_traced_samples(self) -> int:
        """
        Return the samples of the micro-batch that is traced.

        Raises:
            InputError: the micro-batch does not divide the batch.
        """
        if self.micro_batch is not None:
            if self.batch % self.micro_batch:
                msg = f"--micro-batch {self.micro_batch} does not divide --batch {self.batch}"
                raise InputError(f"{msg}: give one that does")
            return self.micro_batch
        most = _TRACED_IMAGES if self.seq is None else max(1, _TRACED_TOKENS // self.seq)
        return max(size for size in range(1, min(most, self.batch) + 1) if self.batch % size == 0)


def parse_count(text: str, option: str) -> int:
    """
    Return a count: a number that may end in k, M, B (10**9) or T.

    >>> parse_count("1.5B", "--tokens")
    1500000000

    Args:
        text: as the user wrote it.
        option: what it is the value of, for an error.

    Raises:
        InputError: anything else, or a number out of range.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{option} {text!r}: give a number such as 500000, 500k, 300M, 10B or 1.5T")
    number = round(float(match[1]) * _TIMES[match[2]])
    if not 1 <= number <= _MOST:
        raise InputError(f"{option} {text!r}: give a number from 1 to 1000T")
    return number
