"""
Score the correction of a prediction by earlier runs of its project: on simulated projects, and on measured rows.

    python -m trainfare_research.runners.ledger_replay --residuals R.csv --out research/docs/earlier-runs.md

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.ledger.correction import PROJECT_SHARE, MeasuredRun, correct_step
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.source import narrow_interval
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.pages.markdown import render
from trainfare_research.truth_table import read_rows

RUNS = (0, 1, 3)
"""Earlier runs of a replayed prediction: as issue 51 asks."""
SIMULATED_RUNS = (0, 1, 3, 5)
PROJECTS = 4000
SEED = 51
BIAS = 1.2
DIE, DEVICE = "AD102", "L40S-48GB"
"""Of simulated runs; a correction does not depend on them."""


@dataclass(frozen=True)
class Simulation:
    """Projects whose runs have ln(measured / predicted) = project + job + run, each a normal with mean 0."""

    name: str
    project: float | Callable[[np.random.Generator], float]
    """Standard deviation, or a draw."""
    job: float
    run: float
    published: float
    """Width of their predictions."""
    same_job: bool
    steadiness_known: bool = True
    """The percentiles of a run's steps show the scatter from run to run."""

    def draw(self, generator: np.random.Generator, runs: int) -> tuple[list[MeasuredRun], str, float, float]:
        """Return runs, and the job, the whole bias and the error of the next one."""
        project = self.project(generator) if callable(self.project) else generator.normal(0, self.project)
        jobs = generator.normal(0, self.job, runs + 1) if self.job else np.zeros(runs + 1)
        if self.same_job:
            jobs[:] = jobs[0]
        errors = project + jobs + generator.normal(0, self.run, runs + 1)
        names = ["job" if self.same_job else f"job {index}" for index in range(runs + 1)]
        spread = self.run if self.steadiness_known else 0.0
        measured = [
            MeasuredRun(f"run {index}", names[index], DEVICE, float(errors[index]), self.published, spread)
            for index in range(runs)
        ]
        return measured, names[-1], float(project + jobs[-1]), float(errors[-1])


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
    """Return the simulated projects, of which the bars of issue 51 and what a correction costs can be read."""
    known, base = run_log_sigma(), calibration().sigma.base
    shared = base**2 - known**2
    tau, jobs = math.sqrt(PROJECT_SHARE * shared), math.sqrt((1 - PROJECT_SHARE) * shared)
    biased = lambda _: math.log(BIAS)  # noqa: E731 - a constant draw
    return (
        Simulation("bias 1.2, runs 10 % apart, one job", biased, 0.0, 0.1, base, same_job=True),
        Simulation("bias 1.2, runs 10 % apart, other jobs", biased, 0.0, 0.1, base, same_job=False),
        Simulation("as published, one job", tau, jobs, known, base, same_job=True),
        Simulation("as published, other jobs", tau, jobs, known, base, same_job=False),
        Simulation("noise: project 10 %, runs 20 %, one job", 0.1, 0.0, 0.2, math.hypot(0.1, 0.2), same_job=True),
        Simulation("noise: project 10 %, jobs 20 %, other jobs", 0.1, 0.2, 0.0, math.hypot(0.1, 0.2), same_job=False),
        Simulation("no bias at all, runs 20 %, one job", 0.0, 0.0, 0.2, base, same_job=True),
        Simulation("no bias at all, jobs 20 %, other jobs", 0.0, 0.2, 0.0, base, same_job=False),
    )  # fmt: skip


def simulate(simulation: Simulation, projects: int = PROJECTS) -> list[Outcome]:
    """Return the predictions of the next run of simulated projects after the last of `SIMULATED_RUNS` of each."""
    generator = np.random.default_rng(SEED)
    rows: list[list[tuple[float, ...]]] = []
    for _ in range(projects):
        measured, job, bias, error = simulation.draw(generator, max(SIMULATED_RUNS))
        after = (
            _correct(measured[len(measured) - runs :], job, simulation.published) for runs in SIMULATED_RUNS
        )
        rows.append([(bias, error, *corrected) for corrected in after])
    return [Outcome(*column.T) for column in np.array(rows).transpose(1, 0, 2)]


def _correct(runs: Sequence[MeasuredRun], job: str, published: float) -> tuple[float, float]:
    """Return ln(factor) and the width of the next prediction."""
    if not runs:
        return 0.0, published
    earlier = correct_step(runs, job, DIE, run_log_sigma())
    return math.log(earlier.factor), float(narrow_interval(earlier, np.array([published]))[0])


Projects = dict[tuple[str, ...], list[tuple[str, float]]]


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
            job = " ".join(row[name] for name in ("model", "precision", "batch_per_device"))
            key = tuple(die if name == "die" else row[name] for name in by)
            projects[key].append((f"{job} {die}", -error))
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
            job, error = project[index]
            before = project[:index]
            if first_on_die and any(_name_die(other) == _name_die(job) for other, _ in before):
                continue
            measured = [
                MeasuredRun(str(number), other, DEVICE, other_error, published, 0.0)
                for number, (other, other_error) in enumerate(before[index - runs :])
            ]
            rows.append((math.nan, error, *_correct(measured, job, published)))
    return Outcome(*np.array(rows).T)


def _name_die(job: str) -> str:
    return job.rpartition(" ")[2]


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


def write_page(rows: list[dict[str, str]], projects: int = PROJECTS) -> str:
    """Return the page of both tables."""
    simulated = [(simulation.name, simulate(simulation, projects)) for simulation in list_simulations()]
    replayed = []
    for name, by, timed in REPLAYS:
        users = list_projects(rows, by=by, timed=timed)
        replayed.append((name, measure_share(users), [replay(users, runs) for runs in RUNS]))
    users = list_projects(rows, by=("source", "model"), timed="trainer")
    elsewhere = [replay(users, runs, first_on_die=True) for runs in RUNS]
    replayed.append(("trainers, first run on a die after runs on others", measure_share(users), elsewhere))
    return render("earlier_runs", simulated=simulated, replayed=replayed, projects=projects)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--residuals", type=Path, required=True, help="of fit_calibration.py")
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    arguments = parser.parse_args()
    arguments.out.write_text(write_page(read_rows(arguments.residuals)), encoding="utf-8")


if __name__ == "__main__":
    main()
