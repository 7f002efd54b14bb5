"""
Score predicted optimizer steps against measured ones, through the product's own path.

    python -m trainfare_research.runners.step_time --truth throughput_train.csv [--json OUT] [--rows OUT.csv]
        [--truth ...] --cache DIR

Rows of one device are traced by trainfare's own tracer (`workloads/`); --cache keeps the traces: those of
both tables take 40 of the 55 minutes that a first `make accuracy` takes of two cores, and a second run here takes under
a minute of one. Language models of any number of devices are described by `workloads/decoder_rows.py`. --leave-out
predicts each row from a fit without any row of its accelerator (chip, or for language models family), source or model
size; the fits are made here, from --data, and take minutes.
--several scores rows on several devices that are no language models, and makes no fit for any other.
--one-measured-step predicts each row of one device from a step that another GPU took with the same model, precision
and software, once for every such step; with --leave-out device, by a fit without the row's own chip.

Scores the shipped coefficients. `fitted_on` names the sources they were fitted on: rows of those are not held
out, the held-out scores are in `trainfare_research/fits` (one chip, generation or workload left out at a time). A row
is skipped, with its reason, where its model is not described here. The network of several machines is that of the row's
notes or of the machine type they name, else the usual one of its accelerator (`workloads/decoder_networks.csv`), else
unknown: those rows are skipped. --rows adds `measured_ms`, the step that a prediction is compared with,
where a table states a throughput alone.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.fitting.language_models_held_out import decoder_answers
from trainfare_research.fitting.launched_rows import read_launched_rows
from trainfare_research.fitting.one_device_held_out import FitsWithout, one_step_answers
from trainfare_research.fitting.one_plan import Answer
from trainfare_research.fitting.step_answers import step_answers
from trainfare_research.fitting.step_work import Work, job_of, work_of
from trainfare_research.fitting.table_lines import Line, is_suspect, is_trainer_time
from trainfare_research.scoring import Scored, print_table, reach, summary
from trainfare_research.truth_table import (
    answer_columns,
    or_reason,
    truth_parser,
    truths_of,
    write_json,
    write_rows,
)
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import is_decoder_row


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = truth_parser(__doc__, several=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--traced-only", action="store_true", help="trace nothing that the cache lacks")
    parser.add_argument(
        "--leave-out",
        choices=("device", "source", "size"),
        help="predict each row from a fit without its group (size: language models alone)",
    )
    parser.add_argument("--data", type=Path, help="with --leave-out: folder of the measurements to fit on")
    parser.add_argument(
        "--one-measured-step",
        action="store_true",
        help="rows of one device: predict each from one step that another GPU took with the same software",
    )
    parser.add_argument(
        "--several", action="store_true", help="score rows on several devices alone, and no language models"
    )
    parser.add_argument(
        "--trace-backwards",
        action="store_true",
        help="only trace what the cache lacks, from the last row to the first: beside a run from the first to the last",
    )
    run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> None:
    """Score the tables, print the scores and write the files that were asked for."""
    cache = ProfileCache(arguments.cache, only_held=arguments.traced_only)
    if arguments.trace_backwards:
        trace_backwards(
            [line for truth in truths_of(arguments) for line in read_launched_rows(truth.path)], cache
        )
        return
    traces = DecoderTraces(arguments.cache)
    fits = fits_of(arguments, cache)
    for truth in truths_of(arguments):
        lines = read_launched_rows(truth.path)
        if arguments.several:
            lines = [line for line in lines if line["devices"] != "1" and not is_decoder_row(line)]
        document = score_lines(lines, arguments, cache, traces, fits)
        print_table(document, ("by_scope", "by_source", "by_device"))
        write_json(truth.json, document)
        write_rows(truth.rows, lines)


def trace_backwards(lines: list[Line], cache: ProfileCache) -> None:
    """Trace the rows that are no language models from the last to the first, but for those that the cache has."""
    jobs = [or_reason(job_of, line) for line in lines if not is_decoder_row(line)]
    cache.trace_backwards(job for job in jobs if not isinstance(job, str))


def score_lines(
    lines: list[Line],
    arguments: argparse.Namespace,
    cache: ProfileCache,
    traces: DecoderTraces,
    fits: FitsWithout | None,
) -> dict[str, Any]:
    """
    Write a prediction into each line, and return the scores.

    Args:
        lines: of one table.
        arguments: of the command line: what is left out of fits, and whether one step is measured.
        cache: traces of models on one device.
        traces: of language models.
        fits: that leave a row's group out; None: the shipped one.
    """
    decoders = decoder_answers(lines, traces, arguments.leave_out, arguments.data)
    works = {
        i: line.get("skip_reason", "") or or_reason(work_of, line, cache)
        for i, line in enumerate(lines)
        if i not in decoders
    }
    answers_by_line: Mapping[int, list[Answer] | Answer | str]
    if arguments.one_measured_step:
        steps = {
            i: work for i, work in works.items() if isinstance(work, Work) and lines[i]["devices"] == "1"
        }
        answers_by_line = one_step_answers(lines, steps, fits)
    else:
        answers_by_line = {**decoders, **step_answers(lines, works, fits)}
    scored: list[Scored] = []
    skipped: Counter[str] = Counter()
    for index, line in enumerate(lines):
        line.update(predicted="", low_80="", high_80="", measured_ms="", skip_reason="")
        answer = answers_by_line.get(index, "no other GPU ran it with the same software")
        if isinstance(answer, str):
            line["skip_reason"] = answer
            skipped[answer] += 1
            continue
        answers = [answer] if isinstance(answer, Answer) else answer
        situation = _situation(line, index in decoders, arguments)
        _write(line, answers, situation)
        scope = "language model" if index in decoders else "single" if line["devices"] == "1" else "multi"
        groups = (line["accelerator"], line["model_family"], line["source"], scope)
        for scored_answer in answers:
            error = math.log(scored_answer.predicted_s / scored_answer.measured_s)
            reaches = scored_answer.reach or reach(situation, scored_answer.log_sigma)
            suspect = is_suspect(line)
            scored.append(Scored(error, scored_answer.log_sigma, *groups, reach=reaches, suspect=suspect))
    return summary(scored, skipped)


def fits_of(arguments: argparse.Namespace, cache: ProfileCache) -> FitsWithout | None:
    """Return the fits that leave a row's group out, where rows of one device have such groups."""
    if arguments.leave_out not in ("device", "source"):
        return None
    if arguments.data is None:
        msg = "--leave-out needs --data: the folder with throughput_train.csv and the other measurements"
        raise SystemExit(msg)
    return FitsWithout(arguments.data, cache, arguments.leave_out)


def _situation(line: Line, decoder: bool, arguments: argparse.Namespace) -> str:  # noqa: FBT001 - a column
    """
    Return the key of the interval's shape: what the row timed, and whether its device was measured.

    Bare steps of a source that no fit contains come no closer than a trainer's loop.
    """
    if arguments.one_measured_step:
        return "corrected:unseen"
    if decoder or line["devices"] != "1":
        return "trainer"
    fitted = line["source"] in calibration().fitted_on and arguments.leave_out != "source"
    what = "steps" if fitted and not is_trainer_time(line) else "trainer"
    seen = arguments.leave_out != "device" and calibration().is_known(accelerator(line["accelerator"]))
    return what if seen else f"{what}:unseen"


def _write(line: Line, answers: list[Answer], situation: str) -> None:
    """Write a row's prediction and 80 % interval in ms; of several answers the geometric mean."""
    step_s = math.exp(float(np.mean([math.log(answer.predicted_s) for answer in answers])))
    spread = math.exp(reach(situation, float(np.mean([answer.log_sigma for answer in answers])))[1])
    line.update(answer_columns(step_s, spread, scale=1e3))
    line["measured_ms"] = f"{answers[0].measured_s * 1e3:.6g}"


if __name__ == "__main__":
    main()
