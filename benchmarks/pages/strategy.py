"""
Write the accuracy tables of `docs/strategy.md` from the results of `benchmarks/strategy.py`.

    python -m benchmarks.strategy --truth transfer_results.csv --json strategy.json
    python -m benchmarks.pages.strategy strategy.json [curves.json]

`curves.json` is the same runner's result on learning curves; without it that table is left unchanged.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "strategy.md"
NAMES = {
    "always_full_finetune": "always full fine-tuning",
    "lora_when_offered": "LoRA when offered",
    "rule_r": "fixed rules (tuned on these rows)",
    "prior": "what won most elsewhere",
}


def choice_table(out: dict[str, Any]) -> str:
    """Return the table of picks as Markdown."""
    lines = [
        "| | n | winner | within 1 % | mean regret | macro winner | macro regret |",
        "|---|---|---|---|---|---|---|",
        row("**trainfare strategy**", out),
        row(f"of the {out['answered']} answered", out["of_answered"]),
        *(row(NAMES[name], one) for name, one in out["baselines"].items()),
        *(row(f"*{name}*", one) for name, one in out["by_domain"].items()),
    ]
    coverage = ", ".join(f"{name} %: {value:.1%}" for name, value in out["coverage"].items())
    risk = ", ".join(f"{one['answered']:.0%}: {one['winner']:.1%}" for one in out["risk_coverage"])
    lines += [
        "",
        f"Intervals that contain the outcome: {coverage}. Right winners among the most certain share: {risk}.",
    ]
    return "\n".join(lines)


def row(name: str, one: dict[str, Any]) -> str:
    """Return one line of the table."""
    shares = " | ".join(f"{one[key]:.1%}" for key in ("winner", "within_1pct"))
    regret, macro = f"{one['mean_regret']:.2%}", f"{one['macro_winner']:.1%} | {one['macro_regret']:.2%}"
    return f"| {name} | {one['n']} | {shares} | {regret} | {macro} |"


def curve_table(out: dict[str, Any]) -> str:
    """Return the table of pilots as Markdown."""
    lines = [
        "| schedule seen | Spearman, last value | pairs in order | MAE, last value | MAE, mean drop | inside 80 % |",
        "|---|---|---|---|---|---|",
    ]
    for seen, one in out["by_seen"].items():
        lines.append(
            f"| {seen} % | {one['spearman']:.2f} | {one['pairs_in_order']:.1%} | {one['mae_last_value']:.3f} | "
            f"{one['mae_usual_drop']:.3f} | {one['coverage']['80']:.1%} |"
        )
    return "\n".join(lines)


def with_section(text: str, name: str, content: str) -> str:
    """Replace the text between a section's two markers."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{PAGE.name} has no section {name!r}")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("choice", type=Path)
    parser.add_argument("curves", type=Path, nargs="?")
    arguments = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    text = with_section(
        text, "accuracy", choice_table(json.loads(arguments.choice.read_text(encoding="utf-8")))
    )
    if arguments.curves:
        text = with_section(
            text, "pilots", curve_table(json.loads(arguments.curves.read_text(encoding="utf-8")))
        )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
