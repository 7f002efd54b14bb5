"""The table of `run_strange`: one line a script, what `trainfare profile` said where it was not equal, and the counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trainfare_core.job_profile import JobProfile
from wild.both_paths import is_inside

EQUAL = 0.002
"""FLOPs are taken for equal within 0.2 %: above it lies any operation that is left out or counted twice in these scripts."""
FIRST_BATCHES = 4
"""What is done once, as in a first batch, is no part of a long run: the mean is taken without these batches, too."""
HEADER = "| script | harmless | files left | metered / counter | before launch / metered | before launch |\n|---|---|---|---|---|---|"


def write_table(folder: Path, last: str) -> str:
    """Write table.md and table.json of all rows in a folder, and return the line of the last script."""
    rows = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
        if path.name != "table.json"
    ]
    present = [row for row in rows if "absent" not in row]
    lines = [show_row(row) for row in present]
    said = [f"- **{row['name']}**: {show_said(row)}" for row in present if not is_before_right(row)]
    absent = [
        f"- {row['name']}: not installed: {', '.join(row['absent'])}" for row in rows if "absent" in row
    ]
    text = "\n".join([HEADER, *lines, "", *said, "", *absent, "", count_rows(present), ""])
    (folder / "table.md").write_text(text, encoding="utf-8")
    (folder / "table.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return next((line for line in lines if line.startswith(f"| {last} ")), f"| {last} | no row |")


def list_differences(plain: dict[str, Any], meter: dict[str, Any]) -> list[str]:
    """Return in what two runs differ; nothing where FareMeter changed nothing."""
    differences = [name for name, digest in plain["hashes"].items() if meter["hashes"].get(name) != digest]
    calls = {
        name: (plain["calls"].get(name, 0), meter["calls"].get(name, 0))
        for name in plain["calls"] | meter["calls"]
    }
    differences += [
        f"{name} called {ran} times, not {asked}" for name, (asked, ran) in calls.items() if asked != ran
    ]
    if plain["error"] != meter["error"]:
        differences.append(f"error: {meter['error']}")
    return differences


def compare_work(meter: dict[str, Any], counter: dict[str, Any], out: Path) -> dict[str, Any]:
    """Compare the FLOPs of both profiles with the counter's, as means of an optimizer step."""
    metered, before = (_read_profile(out / name) for name in ("trainfare-profile.json", "before.json"))
    fit = counter["fits"][-1] if counter["fits"] else {"steps": 0, "batches": []}
    counted = sum(fit["batches"])
    row: dict[str, Any] = {
        "fits": len(counter["fits"]),
        "counted_flops": counted,
        "counted_batches": fit["batches"],
    }
    if metered is not None:
        steps = min(
            metered.plan.optimizer_steps or fit["steps"], fit["steps"]
        )  # fewer where the run ended early
        row |= {"metered_flops": metered.step_flops, "metered_steps": steps, "metered_on": metered.source.how}
        row |= {
            "meter_notes": [*metered.notes, metered.work_note],
            "meter_inside": is_inside(metered, counted / max(steps, 1)),
        }
        row["ratio"] = (
            metered.step_flops * steps / counted if counted else 1.0 if not metered.step_flops else None
        )
        late = sum(fit["batches"][FIRST_BATCHES:])
        share = len(fit["batches"]) / max(len(fit["batches"]) - FIRST_BATCHES, 1)
        row["late_ratio"] = metered.step_flops * steps / (late * share) if late else row["ratio"]
    if before is not None:
        row |= {
            "before_flops": before.step_flops,
            "before_steps": before.plan.optimizer_steps,
            "before_on": before.source.how,
        }
        row |= {
            "unknown_because": before.plan.unknown_because,
            "before_notes": [*before.notes, before.work_note],
        }
    if metered is not None and before is not None:
        same = metered.parameters == before.parameters and before.plan.optimizer_steps in (
            None,
            metered.plan.optimizer_steps,
        )
        row["same_parameters_and_steps"] = same
        row["equal"] = same and metered.step_flops == before.step_flops
        row["inside"] = same and is_inside(before, metered.step_flops)
    return row


def _read_profile(path: Path) -> JobProfile | None:
    return JobProfile.from_json(path.read_text(encoding="utf-8"), where=path.name) if path.is_file() else None


def is_harmless(row: dict[str, Any]) -> bool:
    """Return whether FareMeter ended and changed nothing."""
    return not row["differs"]


def judge_meter(row: dict[str, Any]) -> bool | None:
    """Return whether the metered FLOPs are right; None where the counter cannot tell."""
    if row["counter_error"] != row["plain_error"] or not row.get("ratio"):
        return None
    if (
        min(abs(row["ratio"] - 1), abs(row.get("late_ratio", row["ratio"]) - 1)) <= EQUAL
        or row["meter_inside"]
    ):
        return True
    return None if row["blind"] else False


def is_before_right(row: dict[str, Any]) -> bool:
    """Return whether the profile before launch is the metered one, or the metered one lies inside its spread."""
    return bool(row.get("equal") or row.get("inside"))


def names_line(row: dict[str, Any]) -> bool:
    """Return whether the profile failed with a sentence that names a line of the script."""
    return (
        row["before"]["exit"] != 0
        and re.search(rf"{re.escape(row['name'])}\.py:\d+", show_said(row)) is not None
    )


def show_row(row: dict[str, Any]) -> str:
    """Return a row as a line of the table."""
    harmless = "yes" if is_harmless(row) else "**no**: " + "; ".join(row["differs"])[:200]
    if row.get("varies_without"):
        harmless += f" ({', '.join(row['varies_without'])} differ between plain runs as well)"
    left = ", ".join(row["before"]["left"]) or "none"
    if row["broken_after_profile"]:
        left += f"; the run afterwards ended: {row['broken_after_profile'][:120]}"
    ratio = f"{row['ratio']:.4f}" if row.get("ratio") else "-"
    late = row.get("late_ratio", 1.0)
    equal = abs((row.get("ratio") or 1) - 1) <= EQUAL
    right = (
        "" if equal else " inside" if row.get("meter_inside") else f" ({late:.4f} after the first batches)"
    )
    verdict = {True: right, False: " **wrong**", None: " not judged"}
    blind = f" (not counted: {', '.join(row['blind'])})" if row["blind"] else ""
    cells = [
        row["name"],
        harmless,
        left,
        f"{ratio}{verdict[judge_meter(row)]}{blind}",
        show_before(row),
        row.get("before_on", "-"),
    ]
    return f"| {' | '.join(cells)} |"


def show_before(row: dict[str, Any]) -> str:
    """Return how the profile before launch compares with the metered one."""
    if row["before"]["exit"] != 0:
        return f"**exit {row['before']['exit']}**"
    if "metered_flops" not in row:
        return "no metered profile"
    if row.get("equal"):
        return "=" if row["before_steps"] is not None else "=, steps unknown"
    ratio = row["before_flops"] / row["metered_flops"] - 1 if row["metered_flops"] else float("nan")
    steps = (
        ""
        if row["same_parameters_and_steps"]
        else f", steps {row['before_steps']} / {row['metered_steps']} or parameters"
    )
    return f"{ratio:+.2%}{' inside' if row['inside'] else ''}{steps}"


def show_said(row: dict[str, Any]) -> str:
    """Return the last sentence on standard error where the profile failed, else its notes."""
    lines = [line for line in row["before"]["said"].splitlines() if line.strip()]
    notes = [line for line in lines if line.startswith(("note", "steps"))]
    said = notes if row["before"]["exit"] == 0 else lines[-1:]
    return " / ".join(" ".join(line.split()) for line in said)


def count_rows(rows: list[dict[str, Any]]) -> str:
    """Return the counts against the bar."""
    judged = [row for row in rows if judge_meter(row) is not None]
    wrong_before = [row for row in rows if not is_before_right(row)]
    counts = {
        "scripts": len(rows),
        "harmless": sum(map(is_harmless, rows)),
        "no file left": sum(not row["before"]["left"] for row in rows),
        f"metered right of {len(judged)} judged": sum(bool(judge_meter(row)) for row in judged),
        "before launch equal or inside": len(rows) - len(wrong_before),
        "of the others, line named": sum(map(names_line, wrong_before)),
    }
    return "; ".join(f"{name}: {count}" for name, count in counts.items())
