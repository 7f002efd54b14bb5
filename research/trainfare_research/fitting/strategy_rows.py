"""
Rows of published training runs in the schema of `transfer_results.csv`, as matched comparisons.

Rows of one `comparison_id` differ only in strategy and variant. A strategy's best row counts; rows of other
methods (prompt tuning, LP-then-FT, zero-shot) are left out, and so are comparisons with fewer than two
strategies.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainfare_core.methods.choice import Comparison
from trainfare_core.methods.methods import METHOD_NAMES, Method
from trainfare_core.methods.situation import task_of
from trainfare_research.truth_table import read_rows

Line = dict[str, str]
DETECTION_BATCH = 16
"""Images a step of the COCO schedules (He et al. 2019, detectron2), to read epochs from steps."""
LEAST = 1e-6
"""Counts in place of a score of zero, which has no logarithm; below any published score. Chosen."""


@dataclass(frozen=True)
class ComparisonCase:
    """One comparison with its published values and advantages."""

    comparison: Comparison
    values: dict[Method, float]
    higher_is_better: bool

    @property
    def best(self) -> float:
        return (max if self.higher_is_better else min)(self.values.values())

    def regret(self, strategy: Method) -> float:
        """Relative difference from the best value."""
        if self.best == 0:
            return 0.0 if self.values[strategy] == 0 else 1.0
        return abs(self.best - self.values[strategy]) / abs(self.best)


def read_cases(path: Path) -> tuple[list[ComparisonCase], Counter[str]]:
    """Return the comparisons of a file, in its order, and the counted reasons for rows left out."""
    groups: dict[str, list[Line]] = defaultdict(list)
    skipped: Counter[str] = Counter()
    for line in read_rows(path):
        reason = _explain_skip(line)
        if reason:
            skipped[reason] += 1
        else:
            groups[line["comparison_id"]].append(line)
    cases: list[ComparisonCase] = []
    for group in groups.values():
        case = case_of(group)
        if isinstance(case, str):
            skipped[case] += len(group)
        else:
            cases.append(case)
    return cases, skipped


def _explain_skip(line: Line) -> str:
    if line["method"] not in METHOD_NAMES:
        return f"method {line['method']}"
    if not line["comparison_id"]:
        return "no comparison_id"
    return "no value" if number(line["value"]) is None else ""


def case_of(lines: list[Line]) -> ComparisonCase | str:
    """Return one comparison from its rows, or the reason for which there is none."""
    names = [name for name in METHOD_NAMES if any(line["method"] == name for line in lines)]
    if len(names) < 2:
        return "only one strategy in its comparison"
    first = lines[0]
    if first["direction"] not in ("max", "min"):
        return f"direction {first['direction']!r}"
    higher = first["direction"] == "max"
    pick = max if higher else min
    values: dict[Method, float] = {
        name: pick(float(line["value"]) for line in lines if line["method"] == name) for name in names
    }
    samples = number(first["train_size"].split("-")[0])
    return ComparisonCase(
        comparison=Comparison(
            source=first["source_id"],
            domain=first["domain"],
            dataset=first["dataset"],
            model=first["model"],
            metric=first["metric"],
            samples=samples if samples and samples > 0 else None,
            scratch_epochs=_scratch_epochs(lines, first["domain"], samples),
            scratch_step_ratio=_step_ratio(lines),
            advantage_pct=_advantages(values, higher=higher),
            published_in=first["source"],
        ),
        values=values,
        higher_is_better=higher,
    )


def _advantages(values: dict[Method, float], *, higher: bool) -> dict[Method, float]:
    reference = values[reference_of(values)]
    sign = 1.0 if higher else -1.0
    return {
        name: round(100 * sign * (math.log(max(value, LEAST)) - math.log(max(reference, LEAST))), 3)
        for name, value in values.items()
    }


def reference_of(names: Iterable[Method]) -> Method:
    """Return the strategy that the others are compared with: full fine-tuning, else LoRA, else the first."""
    tried = list(names)
    return next((name for name in ("full_finetune", "lora") if name in tried), tried[0])


def _scratch_epochs(lines: list[Line], domain: str, samples: float | None) -> float | None:
    epochs = _longest(lines, "scratch", "epochs")
    if epochs is not None:
        return epochs
    steps = _longest(lines, "scratch", "steps")
    if steps is None or not samples or task_of(domain) != "vision-dense":
        return None
    return round(steps * DETECTION_BATCH / samples, 1)


def _step_ratio(lines: list[Line]) -> float | None:
    for column in ("steps", "epochs"):
        scratch, tuned = (_longest(lines, name, column) for name in ("scratch", "full_finetune"))
        if scratch and tuned:
            return round(scratch / tuned, 3)
    return None


def _longest(lines: list[Line], method: str, column: str) -> float | None:
    lengths = [number(line[column]) for line in lines if line["method"] == method]
    return max((value for value in lengths if value), default=None)


def number(cell: str) -> float | None:
    """Return a cell as a number; None where it is empty or not a number."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
