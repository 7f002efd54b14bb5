"""
Write docs/accuracy.md from what the runners of the truth tables wrote.

    python -m benchmarks.pages.accuracy --results DIR [--note TEXT] [--out docs/accuracy.md]

DIR holds NAME.json, and NAME.csv of `--rows`, of each runner that was run: `make accuracy` fills one. A runner without
a file has no table, and the page says so. Scores of rows left out of a fit are those that the fit ships.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from benchmarks.fits import language_model_record, one_device_record
from benchmarks.pages.one_device import scored
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.memory.calibrated import memory_fit
from trainfare_core.prediction.roofline.coefficients import calibration

__all__ = ["document"]

HEAD = "| {} | rows | mean | median | p90 | worst | bias |\n|---|---|---|---|---|---|---|"
TITLES = {
    "step_time": ("Step time", "step_time_ms"),
    "time_to_train": ("Time to train", "time_to_train_min"),
    "memory": ("Peak memory", "peak_gib"),
    "kernels": ("Kernels timed alone", ""),
}
BARS = (
    ("unseen chip and model, every precision (bar: half)", "15 mean, 12 median", "one", "chip_and_workload_left_out"),
    ("the same, one step measured on another chip", "10 mean", "one", "chip_and_workload_left_out_one_measured_step"),
    ("unseen model, seen chip, every precision (bar: AMP)", "8 mean, 18 p90", "one", "workload_left_out"),
    ("language models, unseen accelerator, 8 or more devices, no vTrain", "15 mean, 10 median", "many",
     "device left out without the largest source, 8 or more devices"),
    ("language models, unseen size, 8 or more devices, no vTrain", "12 mean, 8 median", "many",
     "size left out without the largest source, 8 or more devices"),
    ("experts (MoE), unseen accelerator", "25 mean", "many", "device left out experts"),
    ("TPU, one generation left out", "12 mean, each 18", "many", "device left out TPU"),
    ("Trainium unseen", "30 mean", "many", "device left out Trainium"),
    ("peak memory, source left out", "12 mean", "memory", "source_left_out"),
    ("the same, one step of the job measured", "5 mean", "memory", "source_left_out_one_measured_step"),
)  # fmt: skip
PUBLISHED = """| tool | what | mean | worst | from |
|---|---|---|---|---|
| Habitat | five models, six GPUs, one of them measured | 11.8 % | - | abstract, arXiv 2102.00527 |
| NeuSight | fp32 transformers on H100, L4, A100-80, unseen | 8.1 % | 28.2 % | NeuSight@6945927d9afc, recomputed |
| NeuSight | 11 steps on 4 GPUs | 7.7 % | 13.1 % | the same, summary/distributed.csv |
| vTrain | 8 A100 / up to 512, the target profiled | 8.4 / 14.7 % | - | its authors' press page |
| Calculon | 8 points on A100, efficiencies given | 3.7 % | 8.9 % | its own validation, rerun |

None of them publishes mixed precision on an unseen device, minutes to a quality target, or an interval."""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _measured_rows(path: Path, column: str) -> list[tuple[float, str]]:
    """Return predicted over measured minus one, and a name, of every row that states its measured value."""
    if not column or not path.exists():
        return []
    found = []
    with path.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            if line.get("predicted") and line.get(column):
                parts = [
                    line.get(k, "") for k in ("source", "system_name", "model", "benchmark", "precision")
                ]
                count = line.get("accelerators_total") or line.get("devices") or "1"
                name = ", ".join(
                    part for part in (*parts, f"{count} x {line.get('accelerator', '')}") if part
                )
                found.append((float(line["predicted"]) / float(line[column]) - 1, _plain(name)))
    return sorted(found, key=lambda pair: abs(pair[0]))


def _runner(name: str, results: Path) -> str:
    title, column = TITLES[name]
    path = results / f"{name}.json"
    if not path.exists():
        return f"## {title}\n\nNot run: there is no {name}.json.\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    text = [f"## {title}", "", f"{found['n']} rows scored, {sum(found['skipped'].values())} skipped.", ""]
    for label, group in (("scope", "by_scope"), ("family", "by_family"), ("source", "by_source"),
                         ("device", "by_device")):  # fmt: skip
        text.append(HEAD.format(label))
        text += [scored(_plain(key), e) for key, e in found[group].items()]
        if group == "by_scope":
            sound = {
                "multi_not_suspect": "multi, not marked suspect",
                "not_suspect": "all, not marked suspect",
            }
            text += [scored(label, found[key]) for key, label in sound.items() if key in found]
        text += [scored("**overall**", found["overall"]), ""]
    inside = ", ".join(f"{_percent(v)} in {k} %" for k, v in found["overall"]["coverage"].items())
    text += [f"Intervals hold: {inside}.", ""]
    rows = _measured_rows(results / f"{name}.csv", column)
    if rows:
        text += [f"Best and worst of the {len(rows)} rows that state the measured value:", ""]
        text += [f"- {_percent(error)}: {what}" for error, what in (*rows[:5], *rows[-8:])] + [""]
    if found["skipped"]:
        text += ["Without an answer:", ""]
        order = sorted(found["skipped"].items(), key=lambda pair: (-pair[1], pair[0]))
        text += [f"- {count}: {_plain(reason)}" for reason, count in order[:20]]
        rest = sum(count for _, count in order[20:])
        text += [*([f"- {rest}: {len(order) - 20} more reasons"] if rest else []), ""]
    return "\n".join(text)


def _strategy(results: Path) -> str:
    path = results / "strategy.json"
    if not path.exists():
        return "## Strategies\n\nNot run.\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    text = ["## Strategies", "", f"{found['n']} comparisons, {found['left_out']} left out.", "",
            "| rule | comparisons | picks the winner | mean regret |", "|---|---|---|---|"]  # fmt: skip
    lines = {"trainfare": found, "trainfare, where it answers": found["of_answered"], **found["baselines"]}
    for name, e in lines.items():
        label = name.replace("_", " ")
        text.append(f"| {label} | {e['n']} | {_percent(e['winner'])} | {_percent(e['mean_regret'])} |")
    inside = ", ".join(f"{_percent(v)} in {k} %" for k, v in found["coverage"].items())
    misses = (
        "What is missed (the fixed rules pick more winners where every source counts once) and why: "
        "[strategy.md](strategy.md)."
    )
    return "\n".join([*text, "", f"Intervals hold: {inside}.", "", misses, ""])


def _cheapest(results: Path) -> str:
    path = results / "pick_cheapest.json"
    if not path.exists():
        return "## Picking the cheapest accelerator\n\nNot run: there is no pick_cheapest.json.\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    how = (
        "of a fit without the chip and the model where one device ran it"
        if found["held_out"]
        else "of the shipped fit, which has seen many of these rows"
    )
    text = [
        "## Picking the cheapest accelerator",
        "",
        f"{found['n']} workloads were measured with one software on several accelerators of the price snapshot.",
        f"Predictions are {how}. Regret is the measured cost of the pick over",
        "that of the cheapest; the bar is 3 % mean, 10 % worst.",
        "",
        "| picked by | workloads | mean regret | p90 | worst | picks the cheapest |",
        "|---|---|---|---|---|---|",
    ]
    for rule, parts in found["rules"].items():
        for part, e in parts.items():
            figures = " | ".join(_percent(e[key]) for key in ("mean", "p90", "worst", "picks_cheapest"))
            text.append(f"| {rule}, {part} | {e['n']} | {figures} |")
    text += ["", "Worst:", ""]
    text += [
        f"- {_percent(w['regret'])}: {_plain(w['workload'])}: picked {w['picked']}, cheapest {w['cheapest']}"
        for w in found["worst"]
    ]
    text += [
        "",
        "One suite's A100 SXM 40 GB leads the worst: its runs on 4 and 8 devices take 2 to 3.4 times its runs on one,",
        "as no other machine of its kind does, and its price for a step is close to a tie with the H100.",
    ]
    return "\n".join([*text, ""])


def _decline(results: Path) -> str:
    path = results / "decline_hindcast.json"
    if not path.exists():
        return "## Falling cost\n\nNot run.\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    text = ["## Falling cost", "", "Hindcasts of technologies; each knows only the years before its origin.", "",
            HEAD.format("source")]  # fmt: skip
    text += [scored(name, e) for name, e in found["by_source"].items()]
    return "\n".join([*text, scored("**overall**", found["overall"]), ""])


def _bars() -> str:
    scores = {
        "one": one_device_record().scores, "many": language_model_record().scores, "memory": memory_fit().scores
    }  # fmt: skip
    text = [
        "| what, left out of the fit | bar, % | | rows | mean | median | p90 | worst | bias |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for what, bar, where, key in BARS:
        e = scores[where][key]
        text.append(scored(f"{what} | {bar} | {_met(bar, e)}", {**e, "n": int(e["n"])}))
    return "\n".join(text)


def _met(bar: str, e: dict[str, float]) -> str:
    """Return whether a score keeps a bar such as "15 mean, 12 median", as far as the score tells."""
    keys = {"mean": "mape", "median": "median_ape", "p90": "p90_ape"}
    parts = [part.split() for part in bar.split(", ")]
    kept = [100 * e[keys[name]] <= float(number) for number, name in parts if name in keys]
    return "met" if all(kept) else "**missed**"


def _unseen() -> str:
    fit = sorted(calibration().fitted_on)
    return (
        "Fitted on, for one device: " + ", ".join(fit) + ". For language models on many devices: "
        + ", ".join(sorted(decoder_calibration().fitted_on)) + "."
    )  # fmt: skip


def document(results: Path, note: str = "") -> str:
    """Return the page, from the runners' files in `results`."""
    parts = {name: _runner(name, results) for name in TITLES}
    return TEXT.format(
        date=calibration().fitted_at, note=f"\n{note}\n" if note else "", bars=_bars(), published=PUBLISHED,
        fitted=_unseen(), cheapest=_cheapest(results), strategy=_strategy(results), decline=_decline(results), **parts,
    )  # fmt: skip


TEXT = """# How wrong trainfare is

Generated by `make accuracy DATA=DIR` (`benchmarks/pages/accuracy.py`), never typed. Coefficients of {date}.
Errors are predicted over measured minus one; bias keeps the sign.
{note}
{fitted} The tables of step time and kernels below contain such rows: they say how well the fit describes what it
knows. What it does not know is in the next table. No row of time to train was fitted on.

## Bars

Scores that the fits ship, of rows whose group was left out. [accuracy-one-device.md](accuracy-one-device.md) splits one
device further and says where the misses come from; [prediction.md](prediction.md) does for language models.

{bars}

## Published figures of others

{published}

{step_time}
Worst are NCF's readings on several H100: their table counts 40 million samples in 3 ms, of which one H100 does 8
million in 120 ms, as if an epoch of two or three steps was timed without waiting for the device. Readings that their
own table marks as suspect are scored all the same; the scope table has the rest of the rows apart.

{time_to_train}
Minutes are the row's samples times the predicted step; evaluation is the row's, or beside training where its benchmark
runs it so; start-up is outside the clock. A machine whose description names no network, or only one for management (1
Gbit/s Ethernet), has no answer on several nodes.

Descriptions of MLPerf's models were changed after scores were seen: Mask R-CNN and the others became channels-last and
compiled; then optimizers, frozen normalisations, focal loss, attention and gradients' type became those of the
submissions' launch scripts. Each change is a fact about the submissions, none was fitted, but rows that nobody has
seen are the better test. What remains is mostly work that submissions tune by hand.

{cheapest}
{memory}
One number a class (what peaks hold beyond their parts) and the intervals are fitted on this table; above, each row is
scored by a fit without its source. The parts are traced, not fitted. How stacks keep gradients, take the loss and
recompute was described with these rows in view. What is missed and why: [prediction.md](prediction.md).

{kernels}
{strategy}
{decline}
## Outside the calibrated range

- A chip, a data type or a stack that no fitted row has: `trainfare predict` says "unseen", and the interval is wider.
- Spatial and sample-splitting plans, and networks that are not stated: no answer.
- Libraries' versions, hand-written kernels and CUDA graphs are not features; rows of MLPerf are described as compiled.
- Mean lengths of text and audio are assumed where a table does not state them.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument(
        "--note", default="", help="what the page must say about this run, as a subset of rows"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy.md"))
    arguments = parser.parse_args()
    arguments.out.write_text(document(arguments.results, arguments.note), encoding="utf-8")


if __name__ == "__main__":
    main()
