"""What `trainfare estimate` is asked of a run that generates what it trains on. Loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import typer

from trainfare.estimate.request import EstimateRequest, Method, parse_count
from trainfare_core.errors import InputError
from trainfare_core.job_profile import Engine, JobProfile, Rollout

Trains: TypeAlias = Literal["full", "lora", "qlora"]

_RANGE: Final = re.compile(r"([0-9]{1,7})(?:\.\.([0-9]{1,7}))?", re.ASCII)
_GENERATIONS: Final[dict[Method, int]] = {"grpo": 8, "rloo": 2}
_BETA: Final[dict[Method, float]] = {"grpo": 0.0, "rloo": 0.05}
"""Completions of one prompt, and weight of the divergence from a reference model: defaults of TRL 1.16."""
_SERVER_SHARE: Final = 0.9
"""Of a device on which vLLM is alone: its own default, and that of `trl vllm-serve`."""
_TRAINING_SHARE: Final = 0.3
"""Of a device on which the policy trains beside it: TRL's default."""


@dataclass(frozen=True, slots=True)
class TokenRange:
    """
    Tokens of the shortest and of the longest completion.

    >>> TokenRange.parse("256..4096")
    TokenRange(low=256, high=4096)
    """

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> TokenRange:
        """
        Read LOW..HIGH, or one number for completions of one length.

        Raises:
            InputError: anything else.
        """
        match = _RANGE.fullmatch(text.strip())
        ends = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 1 <= ends[0] <= ends[1]:
            msg = f"--completion-length {text!r}: give the tokens of the shortest and the longest completion"
            raise InputError(f"{msg}, e.g. 256..4096")
        return cls(*ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """How completions are generated, for --method grpo and rloo; each field is an option of `trainfare estimate`."""

    prompts: Annotated[
        int | None,
        typer.Option(
            parser=lambda text: parse_count(text, "--prompts"), metavar="<str>",
            help="grpo, rloo: prompts of the whole run, e.g. 10k",
        ),
    ] = None  # fmt: skip
    completion_length: Annotated[
        TokenRange | None,
        typer.Option(
            parser=TokenRange.parse, metavar="LOW..HIGH",
            help="grpo, rloo: tokens of the shortest and the longest completion",
        ),
    ] = None  # fmt: skip
    prompt_length: Annotated[int, typer.Option(min=1, max=10**6, help="grpo, rloo: tokens of a prompt")] = 256
    generations: Annotated[
        int | None,
        typer.Option(min=1, max=10**4, help="completions of one prompt; default: TRL's, 8 or 2 (rloo)"),
    ] = None
    steps_per_generation: Annotated[
        int, typer.Option(min=1, max=1000, help="optimizer steps on the completions of one generation")
    ] = 1
    update_epochs: Annotated[
        int, typer.Option(min=1, max=1000, help="passes over these completions (TRL's num_iterations)")
    ] = 1
    beta: Annotated[
        float | None,
        typer.Option(min=0, help="above 0 a reference model scores, too; default: TRL's, 0 or 0.05 (rloo)"),
    ] = None
    trains: Annotated[Trains, typer.Option(help="grpo, rloo: all weights, or adapters on frozen ones")] = (
        "full"
    )
    engine: Annotated[Engine, typer.Option(help="what generates the completions")] = "vllm-colocated"
    vllm_sleeps: Annotated[
        bool, typer.Option("--vllm-sleeps", help="a colocated vLLM frees its memory while the policy trains")
    ] = False
    vllm_memory: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="vLLM's share of a device; default: 0.3 beside training, else 0.9"
        ),
    ] = None
    vllm_devices: Annotated[
        int, typer.Option(min=1, max=64, help="devices of the machine on which vllm-server runs")
    ] = 1
    vllm_tensor_parallel: Annotated[
        int, typer.Option(min=1, max=64, help="devices that share one copy of the policy in vLLM")
    ] = 1

    def check(self, request: EstimateRequest) -> EstimateRequest:
        """
        Return the request of the updates: samples are completions with their prompts, padded to the longest.

        Raises:
            InputError: the length of the run or of completions is missing, options do not go together, or one
                optimizer step does not have whole groups of completions.
        """
        if request.tokens is not None or request.samples is not None or request.seq is not None:
            raise InputError(
                f"--method {request.method} takes --prompts and --completion-length, not --tokens, --samples or --seq"
            )
        if self.prompts is None or self.completion_length is None:
            msg = f"--method {request.method} needs --prompts, of the whole run, and --completion-length"
            raise InputError(f"{msg}, e.g. --prompts 10k --completion-length 256..4096")
        if self.vllm_sleeps and self.engine != "vllm-colocated":
            raise InputError(f"--vllm-sleeps: is for --engine vllm-colocated, not for {self.engine}")
        if request.batch % self.count_completions(request):
            count = self.count_completions(request)
            msg = f"--batch {request.batch} is no whole number of groups of {count} completions"
            raise InputError(f"{msg}: give a multiple of {count}, or other --generations")
        updates = EstimateRequest(
            model=request.model,
            method=self.trains,
            samples=self.prompts * self.count_completions(request) * self.update_epochs,
            seq=self.prompt_length + self.completion_length.high,
            batch=request.batch,
            micro_batch=request.micro_batch,
            image_size=request.image_size,
            precision=request.precision,
            lora_rank=request.lora_rank,
            recompute=True,
        )
        updates.count_traced_samples()
        return updates

    def is_given(self) -> bool:
        """Return whether what only a run with generation takes is given."""
        return self.prompts is not None or self.completion_length is not None

    def count_completions(self, request: EstimateRequest) -> int:
        """Return the completions of one prompt."""
        return self.generations or _GENERATIONS[request.method]

    def describe(self, request: EstimateRequest, updates: JobProfile, kv_bytes_per_token: int) -> Rollout:
        """
        Return the rollout of a run whose updates are traced.

        Args:
            request: of the whole run.
            updates: profile of one optimizer step.
            kv_bytes_per_token: of the model.
        """
        length = self.completion_length or TokenRange(1, 1)  # `check` refuses a request without one
        beta = _BETA[request.method] if self.beta is None else self.beta
        share = _SERVER_SHARE if self.engine == "vllm-server" else _TRAINING_SHARE
        completions = self.count_completions(request)
        once = self.steps_per_generation == self.update_epochs == 1
        return Rollout(
            method="rloo" if request.method == "rloo" else "grpo",
            prompts=request.batch * self.steps_per_generation // completions,
            completions=completions,
            prompt_tokens=self.prompt_length,
            completion_tokens_low=length.low,
            completion_tokens_high=length.high,
            engine=self.engine,
            vllm_sleeps=self.vllm_sleeps,
            vllm_memory_share=self.vllm_memory or share,
            vllm_tensor_parallel=self.vllm_tensor_parallel,
            vllm_devices=self.vllm_devices if self.engine == "vllm-server" else 0,
            reference_bytes=updates.parameter_bytes if beta and self.trains == "full" else 0,
            scores_reference=beta > 0,
            # TRL: RLOO always, GRPO where the policy moves on, and to correct what vLLM sampled.
            scores_old_policy=request.method == "rloo" or not once or self.engine != "transformers",
            update_epochs=self.update_epochs,
            kv_bytes_per_token=kv_bytes_per_token,
        )
