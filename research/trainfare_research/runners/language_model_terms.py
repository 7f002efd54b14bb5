"""
Score the fit of language models without each of its terms, every time with whole groups left out.

    python -m trainfare_research.runners.language_model_terms --data DIR --cache DIR [--out FILE]

A term that is taken away is held where it changes nothing: an efficiency, a factor or an exposed share at 1, a cost at
0. The table's first line is the whole model; a line whose errors are not larger is of a term that the fit could do
without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_research.fitting.command_line import table_command
from trainfare_research.fitting.language_model_sums import KINDS, Rows, empty_fit, read_rows, solve
from trainfare_research.fitting.language_models import LARGEST_SOURCE, measure_held_out
from trainfare_research.fitting.table_lines import Line
from trainfare_research.scoring import error_summary
from trainfare_research.workloads.language.decoder_profile import DecoderTraces

_WHOLE: Final = 15.0
"""A share of 1 on the scale of its fit, but for 3e-7."""
TERMS: Final[dict[str, dict[str, float]]] = {
    "host of Megatron of 2021": {"unfused_host_factor": 0.0},
    "DeepSpeed's engine": {"deepspeed_factor": 0.0},
    "PyTorch on faster chips": {"framework_slope": 0.0},
    "width of products": {"narrow_slope": 0.0},
    "sides of experts": {"expert_slope": 0.0},
    "efficiency of experts' products": {"grouped_efficiency": _WHOLE},
    "heads that 8 does not divide": {"misaligned_efficiency": _WHOLE},
    "products of integers": {"integer_efficiency": _WHOLE},
    "fused casts to 8 bits": {"cast_bytes_share": _WHOLE},
    "tensor exchanges that libraries hide": {"tensor_exposed": _WHOLE},
    "expert exchanges that are hidden": {"expert_exposed": _WHOLE},
    "gradients exposed whatever hides them": {"data_exposed": -_WHOLE},
    "cost of a sharded block": {"shard_unit_s": math.log(1e-9)},
    "TPU, Trainium and Gaudi": dict.fromkeys(KINDS, 0.0),
}
"""What each term's coefficients are held at, on the scale that they are fitted on (`PARAMETERS`)."""
_GROUPS: Final = ("device", "size", "source")


def scores_without(
    rows: Rows, fit: DecoderFit, terms: Mapping[str, Mapping[str, float]] = TERMS
) -> Iterator[Line]:
    """Yield one line for the whole model and one without each term: errors of rows whose group is left out."""
    large = rows.source == LARGEST_SOURCE
    many = ~large & rows.column(lambda run: run.plan.devices >= 8)
    experts = rows.column(lambda run: run.experts)
    for name, held_terms in {"(none)": {}, **terms}.items():
        start = solve(rows, fit, held=held_terms).theta
        line: Line = {"term left out": name}
        for group in _GROUPS:
            errors = measure_held_out(rows, group, fit, start, held_terms).errors
            known = np.isfinite(errors)
            for part, chosen in (("all", known), ("8_or_more", known & many), ("experts", known & experts)):
                error_text = f"{100 * error_summary(errors[chosen])['mape']:.1f}" if chosen.any() else ""
                line[f"{group}_{part}_mape_pct"] = error_text
        yield line


def _read_lines(data: Path, cache: Path) -> Iterator[Line]:
    fit = empty_fit(data, "")
    rows, _ = read_rows(data, DecoderTraces(cache), fit)
    yield from scores_without(rows, fit)


if __name__ == "__main__":
    table_command(__doc__.strip().splitlines()[0], _read_lines)
