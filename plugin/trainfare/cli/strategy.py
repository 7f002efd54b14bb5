"""`trainfare strategy`: how to train - scratch, full fine-tuning, LoRA, QLoRA, linear probe - by cost to the target."""

from __future__ import annotations

import contextlib
import enum
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainfare.cli.market_options import Deadline, OutputFile, Providers, Regions
from trainfare.cli.price_options import (
    AllowStale,
    AsOf,
    Lock,
    MaxPriceAge,
    OnStaleOption,
    OwnPricesOption,
    price_choice,
    warn,
)
from trainfare.cli.recommend import check_free, hours_of, write_answer
from trainfare_core.errors import CannotTellError, InputError

if TYPE_CHECKING:
    from trainfare.prices.sources import PriceChoice
    from trainfare.strategy.plan import Market
    from trainfare_core.strategy.answer import StrategyAnswer
    from trainfare_core.strategy.pilots import PilotReport
    from trainfare_core.strategy.question import Question

__all__ = ["StrategyFormat", "strategy"]


class StrategyFormat(str, enum.Enum):
    """How the answer is written."""

    table = "table"
    json = "json"
    html = "html"


def strategy(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET] [CURVES...]",
            help="train.py:job, a LightningCLI config, or a strategy.toml; and curves of pilots (.json)",
        ),
    ] = None,
    pilot: Annotated[
        list[str] | None,
        typer.Option(
            help="a curve that FareMeter(pilot=...) wrote, or lora=curve.json; without a TARGET they are ranked"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML with the same names as the flags")] = None,
    domain: Annotated[
        str | None, typer.Option(help="kind of data: vision-cls, vision-det, nlp-glue, llm-ift, llm-cpt, ...")
    ] = None,
    samples: Annotated[float | None, typer.Option(help="training samples; default: the job's own")] = None,
    tokens_per_sample: Annotated[float | None, typer.Option(help="default: the job's own")] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="pre-trained on none, same, related, distant or unknown data; default: related"),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="what the target is measured by, e.g. accuracy")] = None,
    direction: Annotated[
        str | None, typer.Option(help="max or min; default: read from the metric's name")
    ] = None,
    target_value: Annotated[
        float | None, typer.Option(help="value to reach; default: full fine-tuning's, less --within-pct")
    ] = None,
    within_pct: Annotated[
        float | None, typer.Option(help="how far below full fine-tuning will do; default: 1")
    ] = None,
    known_value: Annotated[float | None, typer.Option(help="what --known-strategy is known to reach")] = None,
    known_strategy: Annotated[str | None, typer.Option(help="default: full_finetune")] = None,
    strategies: Annotated[
        list[str] | None, typer.Option(help="to compare; may be repeated; default: all")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="of full fine-tuning; default: the job's plan")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="default: 16")] = None,
    head: Annotated[str | None, typer.Option(help="output layer; default: the last linear layer")] = None,
    cache_features: Annotated[
        bool | None, typer.Option("--cache-features", help="linear probe: run the backbone once")
    ] = None,
    learning_rate_trials: Annotated[
        int | None, typer.Option(help="full runs per strategy; default: 1")
    ] = None,
    max_usd: Annotated[float | None, typer.Option(help="budget of all runs of the strategy, USD")] = None,
    deadline: Deadline = None,
    confidence: Annotated[
        float | None, typer.Option(help="chance with which limits are kept; default: 0.9")
    ] = None,
    provider: Providers = None,
    region: Regions = None,
    purchase: Annotated[list[str] | None, typer.Option(help="default: on_demand and spot")] = None,
    max_nodes: Annotated[
        int | None, typer.Option(min=1, max=16, help="machines in one run; default: 4")
    ] = None,
    lock: Lock = None,
    own_prices: OwnPricesOption = None,
    allow_stale: AllowStale = False,  # noqa: FBT002 - typer reads flags so
    max_price_age_days: MaxPriceAge = None,
    on_stale: OnStaleOption = None,
    as_of: AsOf = None,
    output: Annotated[
        StrategyFormat, typer.Option("--format", help="table, json or html")
    ] = StrategyFormat.table,
    out: OutputFile = None,
) -> None:
    """Compare training from scratch, full fine-tuning, LoRA, QLoRA and a linear probe by cost to the target."""
    from trainfare.strategy.question_file import question_of, read_strategy_file

    check_free(out)
    target, curves = _split(targets or [], pilot or [])
    if target is None:
        told = _pilots(curves, metric, direction, target_value, samples)
        write_answer(told.to_json() if output is StrategyFormat.json else _pilot_text(told), out)
        return
    is_toml = target.endswith(".toml")
    if is_toml and config is not None:
        raise InputError(f"{target} and --config {config}: give one of them")
    choice = price_choice(
        lock=lock,
        own_prices=own_prices,
        allow_stale=allow_stale,
        max_price_age_days=max_price_age_days,
        on_stale=on_stale,
        as_of=as_of,
    )
    path = Path(target) if is_toml else config
    file = None if path is None else read_strategy_file(path)
    if is_toml:
        if file is None or file.target is None:
            raise InputError(f'{target}: names no job: add target = "train.py:job"')
        target = _beside(path, file.target)
    flags = {
        "domain": domain, "samples": samples, "tokens_per_sample": tokens_per_sample,
        "checkpoint": checkpoint, "metric": metric, "direction": direction, "target_value": target_value,
        "within_pct": within_pct, "known_value": known_value, "known_strategy": known_strategy,
        "strategies": strategies, "epochs": epochs, "lora_rank": lora_rank, "head": head,
        "cache_features": cache_features, "learning_rate_trials": learning_rate_trials, "max_usd": max_usd,
        "deadline_hours": hours_of(deadline), "confidence": confidence,
    }  # fmt: skip
    given = {key: value for key, value in flags.items() if value is not None}
    base = {} if file is None else dict(file.question)
    question = question_of({**base, **given}, "the flags" if path is None else str(path))
    names = {"providers": provider, "regions": region, "purchase": purchase, "max_nodes": max_nodes}
    market = {**({} if file is None else file.market), **{k: v for k, v in names.items() if v is not None}}
    answer, day = _answer(target, question, market, choice, curves)
    write_answer(_rendered(answer, output, day, to_file=out is not None), out)
    if answer.kind != "train":
        raise CannotTellError(answer.sentence)


def _beside(path: Path | None, target: str) -> str:
    """Return a target as written beside the TOML file that names it."""
    if path is None or ":" not in target or not target.partition(":")[0].endswith(".py"):
        return target
    return str(path.parent / target)


def _split(targets: list[str], pilots: list[str]) -> tuple[str | None, list[str]]:
    """Tell the TARGET from the curves: a shell writes `--pilot runs/*.json` out as one option and many arguments."""
    curves = [*pilots, *(one for one in targets if one.endswith(".json"))]
    rest = [one for one in targets if not one.endswith(".json")]
    if len(rest) > 1:
        raise InputError(f"{len(rest)} targets: {', '.join(rest)}: give one")
    if not rest and not curves:
        raise InputError("nothing to do: give a TARGET such as train.py:job, or --pilot runs/*.json")
    return (rest[0] if rest else None), curves


def _pilots(
    curves: list[str],
    metric: str | None,
    direction: str | None,
    target_value: float | None,
    samples: float | None,
) -> PilotReport:
    from trainfare.strategy.pilot_files import read_curves
    from trainfare.strategy.question_file import question_of
    from trainfare_core._version import __version__
    from trainfare_core.strategy.pilots import common_metric, read_pilots

    by_strategy = read_curves(curves)
    name = metric or common_metric(by_strategy)
    question = question_of(
        {"metric": name, "direction": direction, "target_value": target_value, "samples": samples},
        "the flags",
    )
    return read_pilots(
        by_strategy,
        metric=name,
        higher_is_better=question.higher_is_better,
        target_value=question.target_value,
        samples=question.samples,
        tool_version=__version__,
    )


def _pilot_text(report: PilotReport) -> str:
    from trainfare.report.strategy.pilots import render_pilots

    return render_pilots(report)


def _answer(
    target: str, question: Question, market: dict[str, Any], choice: PriceChoice, curves: list[str]
) -> tuple[StrategyAnswer, date]:
    from trainfare.job.target import load_job
    from trainfare.recommendation import age_warnings, load_prices
    from trainfare.strategy.plan import Market, prices_of, strategy_answer
    from trainfare_core.strategy.pilots import reached_by, sentences

    if curves:
        named = question.metric if "metric" in question.model_fields_set else None
        pilots = _pilots(curves, named, question.direction, question.target_value, question.samples)
        sys.stderr.write(_pilot_text(pilots))
        told = reached_by(pilots)
        question = question.model_copy(
            update={"metric": pilots.metric, "direction": "max" if pilots.higher_is_better else "min"}
        )
        notes = sentences(pilots)
    else:
        told, notes = {}, ()
    with contextlib.redirect_stdout(sys.stderr):
        job = load_job(target)
        loaded = load_prices(choice=choice)
        where: Market = Market(loaded.book, notes=(*loaded.problems, *loaded.notes), **market)
        warn(age_warnings(loaded, prices_of(where), choice))
        found = strategy_answer(job, question, where, pilots=told, pilot_notes=notes, say=_progress)
        return found, loaded.as_of


def _progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _rendered(answer: StrategyAnswer, output: StrategyFormat, as_of: date, *, to_file: bool) -> str | None:
    if output is StrategyFormat.json:
        return answer.to_json()
    if output is StrategyFormat.html:
        from trainfare.report.strategy.page import render_strategy_html

        return render_strategy_html(answer, as_of=as_of)
    from trainfare.report.strategy.terminal import print_strategy, render_strategy

    if to_file or not sys.stdout.isatty():
        return render_strategy(answer, as_of=as_of)
    print_strategy(answer, as_of=as_of)
    return None
