"""
Write the accuracy tables of `docs/strategy.md` from the results of `research/trainfare_research/runners/strategy.py`.

    python -m trainfare_research.runners.strategy --truth transfer_results.csv --json strategy.json
    python -m trainfare_research.pages.strategy strategy.json [curves.json] [--beside NAME=FILE ...]

`curves.json` is the same runner's result on learning curves; without it that table is left unchanged. Each `--beside`
adds one line with the result of another protocol.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from trainfare_research.pages.markdown import render

PAGE = Path(__file__).parents[3] / "docs" / "strategy.md"


def with_section(text: str, name: str, content: str) -> str:
    """Replace the text between a section's two markers."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{PAGE.name} has no section {name!r}")
    return pattern.sub(lambda match: f"{match[1]}{content}{match[2]}", text)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("choice", type=Path)
    parser.add_argument("curves", type=Path, nargs="?")
    parser.add_argument("--beside", metavar="NAME=FILE", action="append", default=[])
    arguments = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    beside = {
        name: json.loads(Path(path).read_text(encoding="utf-8"))
        for name, _, path in (pair.rpartition("=") for pair in arguments.beside)
    }
    sections = {
        "accuracy": ("strategy_choice", arguments.choice),
        "pilots": ("strategy_curves", arguments.curves),
    }
    for section, (template, path) in sections.items():
        if path:
            out = json.loads(path.read_text(encoding="utf-8"))
            text = with_section(text, section, render(template, out=out, beside=beside))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
