"""`trainfare predict`: step time, throughput and memory of one job on one machine."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Literal

import typer

from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import ImplementationOption, JobArgument, JobOptions, LedgerOptions
from trainfare.cli.target import TargetOptions, profile_of


@group_options
def predict(
    job: JobArgument = None,
    *,
    on: Annotated[str, typer.Option("--on", help="accelerator, e.g. H100-SXM-80GB")],
    devices: Annotated[int, typer.Option(min=1, max=65_536, help="accelerators in one machine")] = 1,
    nodes: Annotated[int, typer.Option(min=1, max=65_536, help="machines")] = 1,
    network_gbit: Annotated[
        float | None,
        typer.Option(min=0.1, max=1e6, help="network of one machine, Gbit/s; needed for --nodes > 1"),
    ] = None,
    vcpus: Annotated[
        float | None, typer.Option(min=1, max=1e5, help="vCPUs of one machine, for the input pipeline")
    ] = None,
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp", "zero1", "zero2", "hybrid"],
        typer.Option(
            help="auto: the script's own where it fits in memory, else the fastest that does; "
            "zero1, zero2: DeepSpeed's; hybrid: FSDP inside each machine"
        ),
    ] = "auto",
    implementation: ImplementationOption = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**9,
            help="samples of one forward pass of a device; default: the script's own where it fits",
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**9, help="forward passes of an optimizer step; default: what the batch leaves"
        ),
    ] = None,
    target: TargetOptions,
    loader: JobOptions,
    ledger: LedgerOptions,
    output: Format = "table",
) -> None:
    """Predict one optimizer step of a job on a machine: time, throughput and memory with 80 % intervals."""
    from trainfare.report.prediction import prediction_text, seconds_text
    from trainfare_core.prediction import predict_machine
    from trainfare_core.variants import compare_implementations, with_implementation

    with profile_of(target.require_target(job), target) as traced:
        profile = loader.apply_to(traced())
    if implementation is not None:
        profile = with_implementation(profile, implementation)
    run_on = partial(
        predict_machine, accelerator_name=on, devices=devices, nodes=nodes, sharding=strategy,
        micro_batch=micro_batch, accumulate=accumulate, network_gbit_per_s=network_gbit, vcpus=vcpus,
        earlier=ledger.read_runs(profile),
    )  # fmt: skip
    answer = run_on(profile)
    compared = compare_implementations(
        profile, "a step would take", lambda other: seconds_text(run_on(other).step_s.mid)
    )
    answer = answer.model_copy(update={"notes": (*answer.notes, compared)})
    sys.stdout.write(answer.to_json() if output == "json" else prediction_text(answer))
