"""
Score the correction of a prediction by earlier runs of its project: on simulated projects, and on measured rows.

    python -m trainfare_research.runners.ledger_replay --residuals R.csv --out research/docs/earlier-runs.md
    python -m trainfare_research.runners.ledger_replay [--projects 1000] [--seed 62]

The second prints the simulated projects alone.
R.csv is of `fit_calibration.py --residuals`: ln(predicted / measured) of rows of one device, from fits without their
source, which is what a user's first run is to trainfare. The rows of a table are replayed in its order as the runs of a
user: those of one source, trainer or bare, on one die are a project, with one model or with all of them. Each row that
has three before it is predicted without a run, after the last one and after the last three. A job is a model, precision
and batch. Every prediction has the published width of its class.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.ledger.correction import MeasuredRun, Work, correct_step
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.source import narrow_interval
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.pages.markdown import render
from trainfare_research.truth_table import read_rows

RUNS = (0, 1, 3)
"""Earlier runs of a replayed prediction: as issue 51 asks."""
SIMULATED_RUNS = (0, 1, 3, 10)
"""As issue 62 asks."""
PROJECTS = 1000
SEED = 62
DIE, DEVICE = "AD102", "L40S-48GB"
"""Of simulated runs; a correction does not depend on them."""
STEPS = 100
"""Measured steps of a simulated run."""
OUTLIER = 2.0
"""How much longer a step takes beside another job on the same GPU."""

Jobs = Literal["job", "model", "other"]
"""What the runs of a simulated project have in common: the job, its model, or nothing but the project."""


@dataclass(frozen=True)
class Simulation:
    """Projects whose runs have ln(measured / predicted) = project + job + run, each a normal with mean 0."""

    name: str
    bias: float = 1.0
    """Of every project."""
    project: float = 0.0
    """Standard deviation, beside the bias."""
    job: float = 0.0
    run: float = 0.05
    jobs: Jobs = "job"
    within: float = 0.0
    """Standard deviation of ln(step) of the steps of one run."""
    outliers: float = 0.0
    """Share of the earlier runs that took `OUTLIER` times as long."""

    def draw(self, generator: np.random.Generator, runs: int) -> tuple[list[MeasuredRun], Work, float, float]:
        """Return runs, and the work, the whole bias and the error of the next one."""
        project = math.log(self.bias) + generator.normal(0, self.project)
        jobs = generator.normal(0, self.job, runs + 1)
        if self.jobs == "job":
            jobs[:] = jobs[0]
        errors = project + jobs + generator.normal(0, self.run, runs + 1)
        of_median = math.sqrt(math.pi / 2) * self.within / math.sqrt(STEPS)
        shown = errors[:-1] + generator.normal(0, of_median, runs)
        shown += math.log(OUTLIER) * (generator.random(runs) < self.outliers)
        works = [
            Work(
                "job" if self.jobs == "job" else f"job {index}",
                f"model {index}" if self.jobs == "other" else "model",
            )
            for index in range(runs + 1)
        ]
        published = calibration().sigma.base
        measured = [
            MeasuredRun(f"run {index}", works[index], DEVICE, float(shown[index]), published, of_median)
            for index in range(runs)
        ]
        return measured, works[-1], float(project + jobs[-1]), float(errors[-1])


@dataclass(frozen=True)
class Outcome:
    """Predictions after some runs: ln(measured / predicted) as it was, what was corrected, and the new widths."""

    bias: Array
    error: Array
    correction: Array
    log_sigma: Array

    @property
    def mean_error(self) -> float:
        """Mean of |predicted / measured - 1|."""
        return float(np.mean(np.abs(np.expm1(self.correction - self.error))))

    @property
    def median_error(self) -> float:
        """Median of the same."""
        return float(np.median(np.abs(np.expm1(self.correction - self.error))))

    @property
    def bias_left(self) -> float:
        """Of the bias, what the median correction leaves, as a share of the step."""
        return float(abs(math.expm1(np.median(self.correction - self.bias))))

    @property
    def held(self) -> float:
        """Share inside the 80 % interval."""
        return float(np.mean(np.abs(self.error - self.correction) <= Z80 * self.log_sigma))

    @property
    def width(self) -> float:
        """Median standard deviation of ln(step)."""
        return float(np.median(self.log_sigma))


def run_log_sigma() -> float:
    """Return the published scatter from run to run, as the product takes it."""
    return calibration().sigma.same_device


def list_simulations() -> tuple[Simulation, ...]:
    """Return the simulated projects, of which the bars of issue 62 and what a correction costs can be read."""
    known = run_log_sigma()
    bias = math.sqrt(calibration().sigma.base ** 2 - known**2)
    return (
        Simulation("bias 1.2, runs 5 %, one job", 1.2),
        Simulation("bias 1.2, runs 15 %, one job", 1.2, run=0.15),
        Simulation("bias 1.0, runs 30 %, one job", run=0.3),
        Simulation("bias 0.7, runs 30 %, one job", 0.7, run=0.3),
        Simulation("bias 1.5, runs 5 %, one job", 1.5),
        Simulation("bias 1.5, jobs of one model 10 % apart", 1.5, job=0.1, jobs="model"),
        Simulation("bias 1.5, other models 10 % apart", 1.5, job=0.1, jobs="other"),
        Simulation("bias 1.2, jobs of one model 10 % apart", 1.2, job=0.1, jobs="model"),
        Simulation("bias 1.2, other models 10 % apart", 1.2, job=0.1, jobs="other"),
        Simulation("no bias, jobs of one model 20 % apart", job=0.2, jobs="model"),
        Simulation("no bias, other models 20 % apart", job=0.2, jobs="other"),
        Simulation("as published, one job", project=bias, run=known),
        Simulation("bias 1.2, runs 8 %, a tenth are outliers", 1.2, run=0.08, outliers=0.1),
        Simulation("bias 1.3, runs 3 %, steps 20 % apart", 1.3, run=0.03, within=0.2),
        Simulation("bias 1.3, runs 3 %, steps 27 % apart", 1.3, run=0.03, within=0.27),
    )


def simulate(simulation: Simulation, projects: int = PROJECTS, seed: int = SEED) -> list[Outcome]:
    """Return the predictions of the next run of simulated projects after the last of `SIMULATED_RUNS` of each."""
    generator = np.random.default_rng(seed)
    rows: list[list[tuple[float, ...]]] = []
    for _ in range(projects):
        measured, work, bias, error = simulation.draw(generator, max(SIMULATED_RUNS))
        after = (_correct(measured[len(measured) - runs :], work) for runs in SIMULATED_RUNS)
        rows.append([(bias, error, *corrected) for corrected in after])
    return [Outcome(*column.T) for column in np.array(rows).transpose(1, 0, 2)]


def _correct(runs: Sequence[MeasuredRun], work: Work) -> tuple[float, float]:
    """Return ln(factor) and the width of the next prediction."""
    published = calibration().sigma.base
    if not runs:
        return 0.0, published
    earlier = correct_step(runs, work, DIE, run_log_sigma())
    return math.log(earlier.factor), float(narrow_interval(earlier, np.array([published]))[0])


Projects = dict[tuple[str, ...], list[tuple[Work, float]]]


def list_projects(rows: Iterable[dict[str, str]], *, by: tuple[str, ...], timed: str) -> Projects:
    """
    Return jobs, each with its die, and ln(measured / predicted) of the runs of each project, in the order of the rows.

    Args:
        rows: of residuals.
        by: columns that tell projects apart, beside "die".
        timed: rows of a trainer's loop or bare ones.
    """
    projects: Projects = defaultdict(list)
    for row in rows:
        try:
            die = accelerator(row["accelerator"]).silicon
        except UnknownNameError:
            continue
        error = float(row["source_left_out"])
        if (row["timed"] == "trainer") == (timed == "trainer") and math.isfinite(error):
            job = " ".join((*(row[name] for name in ("model", "precision", "batch_per_device")), die))
            key = tuple(die if name == "die" else row[name] for name in by)
            projects[key].append((Work(job, row["model"]), -error))
    return projects


def replay(projects: Projects, runs: int, *, first_on_die: bool = False) -> Outcome:
    """
    Return the predictions of each run with three before it, after the last `runs` of them.

    Args:
        projects: of users.
        runs: that are counted.
        first_on_die: of runs whose project has none on their die yet, after runs on others.
    """
    published, rows = calibration().sigma.base, []
    for project in projects.values():
        for index in range(max(RUNS), len(project)):
            work, error = project[index]
            before = project[:index]
            if first_on_die and any(_name_die(other) == _name_die(work) for other, _ in before):
                continue
            measured = [
                MeasuredRun(str(number), other, DEVICE, other_error, published)
                for number, (other, other_error) in enumerate(before[index - runs :])
            ]
            rows.append((math.nan, error, *_correct(measured, work)))
    return Outcome(*np.array(rows).T)


def _name_die(work: Work) -> str:
    return work.job.rpartition(" ")[2]


def measure_share(projects: Projects) -> float:
    """Return the share of the variance of ln(measured / predicted) that runs of one project share."""
    groups = [np.array([error for _, error in project]) for project in projects.values() if len(project) > 1]
    within = sum(float(group.var()) * len(group) for group in groups) / sum(len(g) - 1 for g in groups)
    between = np.mean([group.mean() ** 2 - within / len(group) for group in groups])
    return float(between / (between + within))


REPLAYS = (
    ("trainers, one model on one die", ("source", "model", "die"), "trainer"),
    ("trainers, every model on one die", ("source", "die"), "trainer"),
    ("bare steps, one model on one die", ("source", "model", "die"), "bare"),
    ("bare steps, every model on one die", ("source", "die"), "bare"),
)
"""What a user's project is, and how its rows were timed."""


def write_page(rows: list[dict[str, str]], projects: int = PROJECTS, seed: int = SEED) -> str:
    """Return the page of both tables; without rows, that of simulated projects alone."""
    simulated = [(simulation.name, simulate(simulation, projects, seed)) for simulation in list_simulations()]
    replayed = []
    for name, by, timed in REPLAYS if rows else ():
        users = list_projects(rows, by=by, timed=timed)
        replayed.append((name, measure_share(users), [replay(users, runs) for runs in RUNS]))
    if rows:
        users = list_projects(rows, by=("source", "model"), timed="trainer")
        elsewhere = [replay(users, runs, first_on_die=True) for runs in RUNS]
        replayed.append(
            ("trainers, first run on a die after runs on others", measure_share(users), elsewhere)
        )
    sources = sorted({row["source"] for row in rows})
    return render("earlier_runs", simulated=simulated, replayed=replayed, projects=projects, sources=sources)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--residuals", type=Path, help="of fit_calibration.py; else simulated projects alone")
    parser.add_argument("--projects", type=int, default=PROJECTS, help="simulated ones of a line")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="the page to write; else it is printed")
    arguments = parser.parse_args()
    rows = read_rows(arguments.residuals) if arguments.residuals else []
    page = write_page(rows, arguments.projects, arguments.seed)
    if arguments.out:
        arguments.out.write_text(page, encoding="utf-8")
    else:
        print(page)


if __name__ == "__main__":
    main()
