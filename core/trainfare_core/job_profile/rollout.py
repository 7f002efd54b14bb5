"""What a reinforcement-learning step generates before it trains: prompts, completions, and the engine."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from trainfare_core.documents import Record

Engine: TypeAlias = Literal["transformers", "vllm-colocated", "vllm-server"]
"""What generates: `generate` of transformers, vLLM on the devices that train, or vLLM on devices of its own."""
_Number: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]
_Tokens: TypeAlias = Annotated[int, Field(ge=1, le=10**7)]


class Rollout(Record):
    """
    One generation of completions, and how its tokens are scored and trained on.

    The step of the profile is one optimizer step on completions that are there already, each padded to the longest.
    """

    method: Literal["grpo", "rloo"]
    prompts: _Number = Field(description="of one generation, over all devices")
    completions: _Number = Field(description="of one prompt")
    prompt_tokens: _Tokens = Field(description="of one prompt")
    completion_tokens_low: _Tokens = Field(description="of the shortest completion")
    completion_tokens_high: _Tokens = Field(description="of the longest: the cap, where completions reach it")
    engine: Engine
    vllm_sleeps: bool = Field(default=False, description="vLLM frees its memory while the policy trains")
    vllm_memory_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.3, description="of each device on which vLLM runs; TRL's default beside training is 0.3"
    )
    vllm_tensor_parallel: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="devices that share one copy of the policy in vLLM"
    )
    vllm_devices: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="devices of the machine that only generate; 0: none, as with other engines"
    )
    reference_bytes: Annotated[int, Field(ge=0, le=10**18)] = Field(
        default=0, description="weights of a reference model of its own; adapters have none"
    )
    scores_reference: bool = Field(description="a forward pass of the reference model for each completion")
    scores_old_policy: bool = Field(description="a forward pass of the policy before the first update")
    update_epochs: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="passes over the completions of one generation (TRL's num_iterations)"
    )
    kv_bytes_per_token: _Number = Field(
        description="keys and values of one token in 16 bits, over all layers"
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Rollout:
        if self.completion_tokens_low > self.completion_tokens_high:
            raise ValueError("completion_tokens_low exceeds completion_tokens_high")
        if (self.vllm_devices > 0) != (self.engine == "vllm-server"):
            raise ValueError("vllm_devices is for the engine vllm-server, which needs some")
        return self

    @property
    def sequences(self) -> int:
        """Completions of one generation."""
        return self.prompts * self.completions
