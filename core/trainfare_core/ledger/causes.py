"""
Split the difference between a run's dollars and its prediction into causes that add up to it.

The run's cost is rate x (steps x (step + wait) + validation + checkpoints + start-up + interruptions + other time) +
storage + other dollars. It is reached from the prediction by replacing one term at a time with what was measured, in
the order of `RunCauseName`; a cause is the difference that its replacement makes. What the prediction keeps of no term
is other time and other dollars, so that the first cost is the predicted one; what the last cost lacks of the measured
one is the rest. A term that is not known on both sides is not replaced: its cause is None, its dollars are in the rest.

`changes/explain_change.py` prices each job between two profiles anew, on whatever machine is then the best, and
averages two orders; a record has no profile to price and its machine is given, so only the idea of the walk is shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Answer, Finite, Interval, Record, Signed
from trainfare_core.ledger.run_record import RunRecord, RunState, TimeParts
from trainfare_core.number_format import cents, duration

RunCauseName: TypeAlias = Literal[
    "plan", "price", "steps", "step_time", "data_wait", "validation", "checkpoints", "startup", "interruptions",
    "storage", "rest",
]  # fmt: skip
_TIMED: Final = ("validation_s", "checkpoint_s", "startup_s", "interruption_s")
"""Times of a whole run beside its steps, in the order of their causes."""
_HOUR_S: Final = 3600.0
_DIGITS: Final = 9
"""Decimals of dollars that are kept, as in `changes`."""
_NOT_MEASURED: Final = {
    "running": "the run has not ended",
    "died": "the run died, and its end was not recorded",
}


class RunCause(Record):
    """One cause of the difference; those that are known add up to it, with the rest."""

    cause: RunCauseName
    usd: Signed | None = Field(description="positive: the run cost more; None: not known, and in the rest")
    detail: str = Field(description="what was priced and what was measured, or why it is not known")


class RunExplanation(Answer):
    """Why a run did not cost what was predicted."""

    run_id: str
    prediction_id: str
    state: RunState
    predicted_usd: Interval | None
    measured_usd: Finite | None
    difference_usd: Signed | None = Field(description="measured less predicted median; None: not known")
    causes: tuple[RunCause, ...] = Field(description="all of them in order; empty: not known")
    unknown_because: str = ""


def join_sessions(sessions: Sequence[RunRecord]) -> RunRecord:
    """
    Return the record of a whole run: the last of its sessions, with the times by cause of all of them where known.

    Args:
        sessions: of the run, oldest first.
    """
    last = sessions[-1]
    run_s = last.run_s.measured
    own_s = sum((session.run_s.measured or 0.0) - session.earlier_s for session in sessions)
    # Chosen: what differs by less than 1 % of the run is far below a prediction's error.
    is_whole = run_s is not None and abs(own_s - run_s) <= 0.01 * run_s
    at_one_price = len({session.usd_per_hour for session in sessions}) == 1
    if not (is_whole and at_one_price and all(session.ended_at for session in sessions)):
        return last
    times = {name: [getattr(session.parts, name) for session in sessions] for name in TimeParts.model_fields}
    parts = {name: None if None in values else sum(values) for name, values in times.items()}
    return last.model_copy(update={"parts": TimeParts(**parts), "earlier_s": 0.0})


def explain_run(record: RunRecord) -> RunExplanation:
    """
    Split measured less predicted dollars of a run.

    Args:
        record: of a run that may have ended early.
    """
    predicted, measured = record.usd.predicted, record.usd.measured
    because, difference, causes = "", None, list[RunCause]()
    if predicted is None:
        because = "the run has no predicted dollars: start it from an exported plan"
    elif measured is None or record.state in _NOT_MEASURED:
        because = _NOT_MEASURED.get(record.state, "its machine's price is not known")
    else:
        difference = round(measured - predicted.mid, _DIGITS)
        terms = _find_predicted_terms(record, predicted.mid)
        for name, new, detail in _list_changes(record, terms):
            before_usd, terms = _cost(terms), terms | (new or {})
            usd = None if new is None else round(_cost(terms) - before_usd, _DIGITS)
            causes.append(RunCause(cause=name, usd=usd, detail=detail))
        unknown = "".join(f", {cause.cause.replace('_', ' ')}" for cause in causes if cause.usd is None)
        detail = "what nothing above explains" + (f"; in it{unknown[1:]}" if unknown else "")
        rest_usd = round(difference - sum(cause.usd or 0.0 for cause in causes), _DIGITS)
        causes.append(RunCause(cause="rest", usd=rest_usd, detail=detail))
    return RunExplanation(
        run_id=record.run_id,
        prediction_id=record.prediction.id,
        state=record.state,
        predicted_usd=predicted,
        measured_usd=measured,
        difference_usd=difference,
        causes=tuple(causes),
        unknown_because=because,
    )


def _cost(terms: dict[str, float]) -> float:
    """Return dollars: the rate is in USD an hour, the step and its wait in seconds of one step."""
    steps_s = terms["steps"] * (terms["step_s"] + terms["wait_s"])
    run_s = steps_s + sum(terms[name] for name in _TIMED) + terms["other_s"]
    return terms["rate"] * run_s / _HOUR_S + terms["storage_usd"] + terms["other_usd"]


def _list_changes(
    record: RunRecord, priced: dict[str, float]
) -> Iterator[tuple[RunCauseName, dict[str, float] | None, str]]:
    """Yield each cause but the rest, the terms that it replaces or None where they are not known, and its detail."""
    prediction, parts, times = record.prediction, record.prediction.parts, record.parts
    moved = _name_other_machine(record)
    changed = "; ".join((*prediction.differences, *moved))
    nodes = {prediction.nodes, record.plan.nodes} - {None}
    machines = bool(moved) or len(nodes) > 1
    rate = None if prediction.usd_per_hour is None else record.usd_per_hour
    step_s, wait_s = _measure_step(record)
    if not changed:
        yield "plan", {}, "as priced"
    elif step_s is None or (machines and rate is None):
        yield "plan", None, f"{changed}: its price or step time is not known"
    else:
        yield "plan", {"step_s": step_s} | ({"rate": rate} if machines and rate is not None else {}), changed
    if machines or rate is None or record.run_s.predicted is None:
        because = "the price or the hours of the prediction are not known"
        yield "price", None, "with another machine" if machines else because
    else:
        yield "price", {"rate": rate}, f"${cents(priced['rate'])} -> ${cents(rate)} an hour"
    done = record.steps_done
    if prediction.steps is None or done is None or record.step_s.predicted is None:
        yield "steps", None, "the prediction keeps no steps or step time"
    else:
        yield "steps", {"steps": done}, f"{prediction.steps:,} -> {done:,} optimizer steps"
    no_parts = "" if parts is not None and prediction.usd_per_hour else "the prediction keeps no parts"
    untimed = no_parts or ("not all sessions of the resumed run were timed" if record.earlier_s else "")
    unsplit = "with another plan or machine" if changed else "not predicted or not measured"
    interrupted = no_parts or "how often the run was interrupted, or what that cost, is not known"
    interruption_s = None if no_parts or record.interruptions != 0 else 0.0
    replaced: tuple[tuple[RunCauseName, str, float | None, str], ...] = (
        ("step_time", "step_s", None if changed else step_s, unsplit),
        ("data_wait", "wait_s", wait_s, "in the step time"),
        ("validation", "validation_s", None if untimed else times.validation_s, untimed),
        ("checkpoints", "checkpoint_s", None if untimed else times.checkpoint_s, untimed),
        ("startup", "startup_s", None if untimed else _measure_startup(record), untimed),
        ("interruptions", "interruption_s", interruption_s, interrupted),
    )  # fmt: skip
    for name, term, value, because in replaced:
        if value is None:
            yield name, None, because or "it was not measured"
        else:
            unit = "" if term in _TIMED else " a step"
            yield name, {term: value}, f"{duration(priced[term])} -> {duration(value)}{unit}"
    if parts is None:
        yield "storage", None, no_parts
    else:
        words = f"${cents(parts.storage_usd)} priced; the measured dollars are of machine hours alone"
        yield "storage", {"storage_usd": 0.0}, words


def _measure_step(record: RunRecord) -> tuple[float | None, float | None]:
    """Return the measured step and its wait for data; the step is with its wait where that is None."""
    step_s, wait_s = record.step_s.measured, record.parts.data_wait_s
    if step_s is None or record.step_s.predicted is None:
        return None, None
    # Of a resumed run the wait is of the last session, whose steps the record does not count alone.
    if wait_s is None or record.prediction.parts is None or record.earlier_s or not record.steps_done:
        return step_s, None
    return step_s - wait_s / record.steps_done, wait_s / record.steps_done


def _measure_startup(record: RunRecord) -> float | None:
    """Return the start-up, with what the cloud billed before and after the meter ran."""
    usd, run_s, rate = record.usd.measured, record.run_s.measured, record.usd_per_hour
    if usd is None or run_s is None or not rate or record.parts.startup_s is None:
        return record.parts.startup_s
    return max(0.0, record.parts.startup_s + usd / rate * _HOUR_S - run_s)


def _find_predicted_terms(record: RunRecord, predicted_usd: float) -> dict[str, float]:
    """Return terms whose cost is the predicted one; what is not predicted is as it was measured, or 0."""
    prediction, parts, step = record.prediction, record.prediction.parts, record.step_s.predicted
    rate = prediction.usd_per_hour
    terms = dict.fromkeys((*_TIMED, "wait_s", "storage_usd", "other_s", "other_usd"), 0.0) | {
        "rate": (record.usd_per_hour or 0.0) if rate is None else rate,
        "steps": (record.steps_done or 0) if prediction.steps is None else prediction.steps,
        "step_s": (record.step_s.measured or 0.0) if step is None else step.mid,
    }
    if parts is not None:
        terms["storage_usd"] = parts.storage_usd
        if _measure_step(record)[1] is not None:
            terms |= {"step_s": terms["step_s"] - parts.input_s, "wait_s": parts.input_s}
        usd = parts.validation_usd, parts.checkpoint_usd, parts.startup_usd, parts.interruption_usd
        terms |= {name: part / rate * _HOUR_S for name, part in zip(_TIMED, usd, strict=True)} if rate else {}
    if record.run_s.predicted is not None:
        steps_s = terms["steps"] * (terms["step_s"] + terms["wait_s"])
        terms["other_s"] = record.run_s.predicted.mid - steps_s - sum(terms[name] for name in _TIMED)
    return terms | {"other_usd": predicted_usd - _cost(terms)}


def _name_other_machine(record: RunRecord) -> tuple[str, ...]:
    """Return the run's machine and the one that was priced; nothing where they are the same or one is not known."""
    name, priced = record.machine.name, record.prediction.machine
    return (f"{name}, priced {priced}",) if name and priced and name != priced else ()
