"""What `trainfare estimate` is asked: a model, how it is trained, on how much. Loads no torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from trainfare_core.errors import InputError

Method: TypeAlias = Literal["full", "lora", "qlora"]

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
    """
    A run, by its model and its size.

    Args:
        model: a configuration file or folder of Hugging Face, or a name; see `model_named`.
        method: which weights are trained.
        tokens: trained on in the whole run, for a language model.
        samples: trained on in the whole run, where `tokens` is None.
        seq: tokens of one sequence, for a language model.
        batch: samples of one optimizer step, over all devices.
        micro_batch: samples of the forward pass that is traced; None chooses one.
        image_size: pixels of one side, for an image model; None takes the model's own.
        precision: in Lightning's terms.
        lora_rank: of the adapters.
        recompute: whether the blocks are recomputed in backward.
    """

    model: str
    method: Method = "full"
    tokens: int | None = None
    samples: int | None = None
    seq: int | None = None
    batch: int = 64
    micro_batch: int | None = None
    image_size: int | None = None
    precision: str = "bf16-mixed"
    lora_rank: int = 16
    recompute: bool = False

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
