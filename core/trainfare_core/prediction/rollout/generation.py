"""
Time and memory of generation: prefill by FLOPs, decode by the bytes that each token reads.

Every decoding step reads the weights once, for all sequences that it extends, and the keys and values of each:

    decode = steps x (weights / bandwidth + host) + cache reads / bandwidth + tokens x FLOPs / rate

The terms add up, where a perfect overlap would take the largest. Kwon et al. 2023 (vLLM) has the batching: a sequence
that ends makes room for the next one. `generate` of transformers has one batch, padded until its longest sequence ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.prediction.rollout.lengths import CompletionLengths

BANDWIDTH_SHARE: Final = 0.7
"""Of the nominal memory bandwidth that decoding reaches. A chosen value."""
FLOP_SHARE: Final = 0.5
"""Of the dense peak that prefill and large decoding batches reach. A chosen value."""
VLLM_STEP_S: Final = 0.005
"""Of the host, for one decoding step of vLLM: it schedules, samples and starts a CUDA graph. A chosen value."""
VLLM_SEQUENCES: Final = 1024
"""Sequences that vLLM extends at once at most. Chosen: its default for a batch of prompts on a large GPU."""
VLLM_WORKSPACE_BYTES: Final = 1.5 * 2**30
"""Of vLLM's share of a device, neither weights nor cache: activations and CUDA graphs. A chosen value."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    What one forward pass of the policy reads and computes.

    Attributes:
        weights_bytes: as the engine holds them.
        flops_per_token: of a forward pass.
        kv_bytes_per_token: over all layers.
    """

    weights_bytes: float
    flops_per_token: float
    kv_bytes_per_token: float


@dataclass(frozen=True, slots=True)
class Replicas:
    """
    The devices that hold one copy of the policy for generation, one row a plan; arrays of shape (n,).

    Attributes:
        sequences: completions that one copy generates.
        prompts: that it prefills: distinct ones where the engine shares their cache.
        memory_bytes: of all its devices together, for weights and cache.
        bytes_per_s: nominal memory bandwidth of all its devices together.
        flops_per_s: dense peak of all its devices together.
        host_s: of one decoding step.
    """

    sequences: Array
    prompts: Array
    memory_bytes: Array
    bytes_per_s: Array
    flops_per_s: Array
    host_s: Array


@dataclass(frozen=True, slots=True)
class Generation:
    """
    One generation on every plan; arrays of shape (n,).

    Attributes:
        prefill_s, decode_s: seconds.
        at_once: sequences that are extended in one decoding step; below 1 not even one fits.
        needed_bytes: of one copy: its weights, and the cache of the sequences that are extended at once.
    """

    prefill_s: Array
    decode_s: Array
    at_once: Array
    needed_bytes: Array


def time_generation(
    policy: Policy,
    prompt_tokens: int,
    lengths: CompletionLengths,
    replicas: Replicas,
    *,
    continuous: bool,
) -> Generation:
    """
    Return time and memory of one generation.

    Args:
        policy: what is read and computed.
        prompt_tokens: of one prompt.
        lengths: of the completions.
        replicas: where it runs.
        continuous: a sequence that ends makes room for the next (vLLM); else all of them are one batch, which runs
            until its longest sequence ends (`generate` of transformers).
    """
    bytes_per_s, flops_per_s = BANDWIDTH_SHARE * replicas.bytes_per_s, FLOP_SHARE * replicas.flops_per_s
    sequences, mean = replicas.sequences, lengths.mean_tokens
    if continuous:
        cached_bytes = policy.kv_bytes_per_token * (prompt_tokens + mean)
        room = np.floor((replicas.memory_bytes - policy.weights_bytes) / cached_bytes)
        at_once = np.minimum(np.minimum(sequences, room), VLLM_SEQUENCES)
        # Full until the last sequences have begun; then the batch empties until the longest of them ends.
        batch = np.maximum(at_once, 1.0)
        steps = mean * np.maximum(sequences / batch - 1.0, 0.0) + lengths.longest_of(batch)
        tokens = sequences * mean
        read_tokens = sequences * (prompt_tokens * mean + lengths.mean_square_tokens / 2)
        needed_bytes = policy.weights_bytes + np.maximum(at_once, 1.0) * cached_bytes
    else:
        at_once, steps = sequences, lengths.longest_of(sequences)
        tokens = sequences * steps
        read_tokens = sequences * (prompt_tokens * steps + steps**2 / 2)
        longest_bytes = policy.kv_bytes_per_token * (prompt_tokens + lengths.high_tokens)
        needed_bytes = policy.weights_bytes + sequences * longest_bytes
    step_s = policy.weights_bytes / bytes_per_s + replicas.host_s
    decode_s = (
        steps * step_s
        + read_tokens * policy.kv_bytes_per_token / bytes_per_s
        + tokens * policy.flops_per_token / flops_per_s
    )
    prefill_s = replicas.prompts * prompt_tokens * policy.flops_per_token / flops_per_s
    return Generation(prefill_s, np.asarray(decode_s), np.asarray(at_once), np.asarray(needed_bytes))
