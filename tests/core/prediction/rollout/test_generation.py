"""Time of generation: by the bytes of decoding, the FLOPs of prefill, and what a batch waits for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainfare_core.prediction.rollout.generation import (
    BANDWIDTH_SHARE,
    FLOP_SHARE,
    Generation,
    Policy,
    Replicas,
    time_generation,
)
from trainfare_core.prediction.rollout.lengths import CompletionLengths

POLICY = Policy(weights_bytes=14e9, flops_per_token=14e9, kv_bytes_per_token=1e5)


def generate(
    lengths: CompletionLengths, *, sequences: float = 1, memory_bytes: float = 1e15, continuous: bool = True,
    policy: Policy = POLICY, **changes: float,
) -> Generation:  # fmt: skip
    rates: dict[str, Any] = {
        "bytes_per_s": 2e12,
        "flops_per_s": 1e15,
        "host_s": 0.0,
        "prompts": sequences,
        **changes,
    }
    columns = {name: np.array([value]) for name, value in rates.items()}
    replicas = Replicas(
        sequences=np.array([float(sequences)]), memory_bytes=np.array([memory_bytes]), **columns
    )
    return time_generation(policy, 100, lengths, replicas, continuous=continuous)


@pytest.mark.parametrize("continuous", [True, False])
def test_one_sequence_reads_weights_and_cache_for_each_token(continuous: bool) -> None:
    """By hand: 1,000 reads of the weights, and of a cache of 100 to 1,100 tokens."""
    done = generate(CompletionLengths(1000, 1000), continuous=continuous)
    rate = BANDWIDTH_SHARE * 2e12
    cache_bytes = 1e5 * (100 * 1000 + 1000**2 / 2)
    by_hand_s = (1000 * 14e9 + cache_bytes) / rate + 1000 * 14e9 / (FLOP_SHARE * 1e15)
    assert done.decode_s[0] == pytest.approx(by_hand_s)
    assert done.prefill_s[0] == pytest.approx(100 * 14e9 / (FLOP_SHARE * 1e15))
    assert done.needed_bytes[0] == pytest.approx(14e9 + 1100 * 1e5)


def test_weights_are_read_once_for_a_batch() -> None:
    """A hundred sequences take far less than a hundred times as long, and the host's part does not grow at all."""
    one, many = (generate(CompletionLengths(500, 500), sequences=n).decode_s[0] for n in (1, 100))
    assert one < many < 10 * one
    slow = [generate(CompletionLengths(500, 500), sequences=n, host_s=1.0).decode_s[0] for n in (1, 100)]
    assert slow[0] - one == pytest.approx(slow[1] - many) == pytest.approx(500)


def test_a_batch_waits_for_its_longest_and_a_queue_does_not() -> None:
    """`generate` pads to the longest of all; vLLM fills the place of a sequence that ends."""
    lengths = CompletionLengths(50, 5000)
    static, queue = (generate(lengths, sequences=500, continuous=kind).decode_s[0] for kind in (False, True))
    assert static > 2 * queue


def test_less_memory_is_more_steps() -> None:
    """Half of the room for caches extends half as many sequences at once; with no room nothing is generated."""
    lengths = CompletionLengths(900, 900)
    room_bytes = 100 * 1e5 * 1000
    whole, half, none = (
        generate(lengths, sequences=100, memory_bytes=14e9 + share * room_bytes) for share in (1.0, 0.5, 0.0)
    )
    assert whole.at_once.tolist() == [100]
    assert half.at_once.tolist() == [50]
    assert half.decode_s[0] > whole.decode_s[0]
    assert none.at_once[0] < 1


def test_the_distribution_of_lengths_is_the_one_that_is_drawn() -> None:
    """Mean, mean square and the usual longest of 31, of a million draws."""
    lengths = CompletionLengths(128, 4096)
    drawn = np.exp(np.random.default_rng(0).uniform(np.log(128), np.log(4096), 31 * 32_768))
    assert lengths.mean_tokens == pytest.approx(drawn.mean(), rel=0.01)
    assert lengths.mean_square_tokens == pytest.approx((drawn**2).mean(), rel=0.01)
    longest = np.exp(np.log(drawn.reshape(-1, 31).max(axis=1)).mean())
    assert float(lengths.longest_of(31)) == pytest.approx(longest, rel=0.01)
    assert lengths.longest_of(10**9) == pytest.approx(4096)
