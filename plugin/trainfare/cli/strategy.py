"""`trainfare strategy`: training strategies compared by the cost to reach a target."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainfare.cli.limit_options import StrategyLimits, hours_of, option_of, with_options_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import DecisionPriceOptions, Force, OutputFile
from trainfare.cli.output import check_writable, warn, write_answer, write_report
from trainfare.cli.target import TargetOptions
from trainfare.job import script_of
from trainfare_core.errors import CannotTellError, InputError
from trainfare_core.methods.question import Question

if TYPE_CHECKING:
    from trainfare.methods.request import MethodsRequest
    from trainfare.prices.sources import PriceChoice
    from trainfare_core.methods.answer import MethodsAnswer
    from trainfare_core.methods.draws import ReachedBy
    from trainfare_core.methods.methods import Method
    from trainfare_core.methods.pilots import PilotReport


@group_options
@with_options_of(Question, leave_out=("deadline_hours",))
def strategy(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET] [CURVES...]",
            help="a script with its arguments after --, train.py:job, a LightningCLI config, or a strategy.toml; "
            "and curves of pilots (.json)",
        ),
    ] = None,
    *,
    deadline: Annotated[str | None, option_of("deadline_hours")] = None,
    pilot: Annotated[
        list[str] | None,
        typer.Option(
            help="a curve that FareMeter(pilot=...) wrote, or lora=curve.json; without a TARGET they are ranked"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML with the same names as the flags")] = None,
    limits: StrategyLimits,
    prices: DecisionPriceOptions,
    target: TargetOptions,
    output: Format = "table",
    out: OutputFile = None,
    force: Force = False,
    **fields: Any,
) -> None:
    """Compare training strategies, from a linear probe to training from scratch, by cost to the target."""
    from trainfare.methods.request import read_strategy_file, request_of
    from trainfare.report.strategy import render_pilots

    check_writable(out, force=force)
    job, curves = _split(targets or [], pilot or [], target)
    if job is None:
        ranked = _pilots(curves, request_of(fields, "the flags").question)
        write_answer(ranked.to_json() if output == "json" else render_pilots(ranked), out)
        return
    is_toml = job.endswith(".toml")
    if is_toml and config is not None:
        raise InputError(f"{job} and --config {config}: give one of them")
    choice = prices.choice()
    path = Path(job) if is_toml else config
    flags = {
        **fields,
        **limits.keywords(),
        "deadline_hours": hours_of(deadline),
        "max_nodes": limits.max_nodes,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    base = {} if path is None else read_strategy_file(path)
    request = request_of({**base, **given}, "the flags" if path is None else str(path))
    if path is not None and is_toml:
        if request.target is None:
            raise InputError(f'{job}: names no job: add target = "train.py:job"')
        job = _beside(path, request.target)
    answer, day = _answer(job, request, choice, curves, target)
    if output == "json":
        write_answer(answer.to_json(), out)
    else:
        from trainfare.report.strategy import report_strategy

        write_report(report_strategy(answer, day), output, out)
    if answer.kind != "train":
        raise CannotTellError(answer.sentence)


def _beside(path: Path, target: str) -> str:
    """Return a target that is relative to the folder of the TOML file that names it."""
    script = script_of(target)
    is_file = not script.is_module if script is not None else target.partition(":")[0].endswith(".py")
    return str(path.parent / target) if is_file else target


def _split(targets: list[str], pilots: list[str], target: TargetOptions) -> tuple[str | None, list[str]]:
    """Separate TARGET from curves: a shell expands `--pilot runs/*.json` to one option and many arguments."""
    curves = [*pilots, *(target for target in targets if target.endswith(".json"))]
    rest = [target for target in targets if not target.endswith(".json")]
    if len(rest) > 1:
        raise InputError(f"{len(rest)} targets: {', '.join(rest)}: give one")
    job = target.find_target(rest[0] if rest else None)
    if job is None and not curves:
        raise InputError("nothing to do: give a TARGET such as train.py:job, or --pilot runs/*.json")
    return job, curves


def _pilots(curves: list[str], question: Question) -> PilotReport:
    from trainfare.methods.request import read_curves
    from trainfare_core.installation import __version__
    from trainfare_core.methods.pilots import common_metric, read_pilots

    by_method = read_curves(curves)
    metric = question.metric if "metric" in question.model_fields_set else common_metric(by_method)
    question = question.model_copy(update={"metric": metric})
    return read_pilots(by_method, question, tool_version=__version__)


def _answer(
    target: str, request: MethodsRequest, choice: PriceChoice, curves: list[str], limits: TargetOptions
) -> tuple[MethodsAnswer, date]:
    from trainfare.methods.plan import answer_methods, prices_of
    from trainfare.prices.sources import age_warnings, load_prices
    from trainfare.report.strategy import render_pilots
    from trainfare_core.methods.pilots import predict_reached, sentences

    reached: dict[Method, ReachedBy] = {}
    notes: tuple[str, ...] = ()
    if curves:
        pilots = _pilots(curves, request.question)
        sys.stderr.write(render_pilots(pilots))
        reached = predict_reached(pilots)
        notes = tuple(f"pilots: {text}" for text in sentences(pilots))
        request = request.model_copy(
            update={"metric": pilots.metric, "direction": "max" if pilots.higher_is_better else "min"}
        )
    with limits.open_traced(target) as process:
        loaded = load_prices(choice=choice)
        warn(age_warnings(loaded, prices_of(request, loaded.book), choice))
        answer = answer_methods(
            process.job,
            request,
            loaded.book,
            trace=process.profile,
            notes=(*loaded.problems, *loaded.notes),
            as_of=loaded.as_of,
            pilots=reached,
            pilot_notes=notes,
            say=lambda text: typer.echo(text, err=True),
        )
        return answer, loaded.as_of
