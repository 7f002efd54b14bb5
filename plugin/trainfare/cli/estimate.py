"""`trainfare estimate`: what training a model costs, from its name or configuration file alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import group_options
from trainfare.cli.options import DecisionPriceOptions, ImplementationOption, LoaderOptions
from trainfare.cli.output import show_wait
from trainfare.cli.ranking import RankingOptions
from trainfare.estimate import EstimateRequest, Method, parse_count

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile


@group_options
def estimate(
    *,
    model: Annotated[
        str,
        typer.Option(
            help="a config.json of Hugging Face or its folder, a name such as gpt2 or llama-3.1-8b, "
            "or a name in timm or torchvision; nothing is downloaded"
        ),
    ],
    method: Annotated[
        Method, typer.Option(help="full trains all weights, lora and qlora adapters on frozen ones")
    ] = "full",
    tokens: Annotated[
        str | None, typer.Option(help="trained on in the whole run, e.g. 10B; with --seq, for text")
    ] = None,
    samples: Annotated[
        str | None, typer.Option(help="trained on in the whole run, e.g. 2M, in place of --tokens")
    ] = None,
    seq: Annotated[
        int | None, typer.Option(min=1, max=10**7, help="tokens of one sequence, for text")
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=10**6, help="samples of one optimizer step, over all devices")
    ] = 64,
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="samples of the forward pass that is traced; default: chosen"),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, max=10**5, help="pixels of one side, for images; default: the model's"),
    ] = None,
    precision: Annotated[
        Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true"], typer.Option(help="as Lightning names it")
    ] = "bf16-mixed",
    lora_rank: Annotated[int, typer.Option(min=1, max=10**4, help="of the adapters")] = 16,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="recompute the blocks in backward, which saves memory")
    ] = False,
    implementation: ImplementationOption = None,
    limits: RunLimits,
    ranking: RankingOptions,
    prices: DecisionPriceOptions,
    loader: LoaderOptions,
) -> None:
    """Rank every machine for training a model, from its name or configuration file: no code, no network."""
    request = EstimateRequest(
        model=model,
        method=method,
        tokens=None if tokens is None else parse_count(tokens, "--tokens"),
        samples=None if samples is None else parse_count(samples, "--samples"),
        seq=seq,
        batch=batch,
        micro_batch=micro_batch,
        image_size=image_size,
        precision=precision,
        lora_rank=lora_rank,
        recompute=recompute,
    )
    request.steps()

    def trace() -> JobProfile:
        from trainfare.estimate.profile import estimate_profile
        from trainfare_core.variants import with_implementation, with_precisions

        with show_wait(f"tracing {model}"):
            profile = estimate_profile(request)
            if limits.any_precision:
                profile = with_precisions(
                    profile,
                    lambda precision_name: estimate_profile(replace(request, precision=precision_name)),
                )
        return with_implementation(loader.apply_to(profile), implementation or "eager")

    ranking.answer(limits, prices, trace, compare=True)
