"""
Draw the packages of the four roots into docs/packages.md, from the imports in the sources.

    python scripts/draw_packages.py            # writes the picture
    python scripts/draw_packages.py --check    # exits with 1 where the committed picture is out of date

The levels are those of the import-linter contracts in pyproject.toml; the arrows are the imports that grimp finds.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import grimp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parents[1]
PAGE = TOP / "docs" / "packages.md"
BEGIN, END = "<!-- packages: python scripts/draw_packages.py -->\n", "<!-- end -->\n"
WIDTH = 118
"""Characters of a line: as wide as a code block is shown without scrolling."""


def levels() -> dict[str, list[list[str]]]:
    """Return the levels of every root, both from the top downwards, as the contracts state them."""
    settings = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layered = [contract for contract in settings["contracts"] if contract["type"] == "layers"]
    roots = next(contract["layers"] for contract in layered if "containers" not in contract)
    inside = {
        contract["containers"][0]: contract["layers"] for contract in layered if "containers" in contract
    }
    return {
        root: [[name.strip(" ()") for name in level.split("|")] for level in inside[root]] for root in roots
    }


def packages_imported(graph: grimp.ImportGraph, package: str) -> set[str]:
    """Return the packages on the second level of names ("trainfare.cli") that a package imports directly."""
    packages: set[str] = set()
    for module in {package, *graph.find_descendants(package)}:
        packages |= {
            ".".join(name.split(".")[:2]) for name in graph.find_modules_directly_imported_by(module)
        }
    return packages - {package}


def drawing() -> Iterator[str]:
    """Yield the lines: each package on its level; after the arrow its imports, of lower roots the root's name only."""
    roots = levels()
    graph = grimp.build_graph(*roots, cache_dir=None)
    for root, inside in roots.items():
        yield root
        width = max(len(name) for level in inside for name in level)
        for number, level in zip(range(len(inside), 0, -1), inside, strict=True):
            for index, name in enumerate(level):
                imported = packages_imported(graph, f"{root}.{name}")
                names = [other for lower in inside for other in lower if f"{root}.{other}" in imported]
                names += [
                    f"[{other}]" for other in roots if other in {n.split(".")[0] for n in imported} - {root}
                ]
                head = f"{number if index == 0 else '':>4}  {name:<{width}}"
                text = f"{head} -> {', '.join(names)}" if names else head
                yield from textwrap.wrap(text, WIDTH, subsequent_indent=" " * (len(head) + 4))
        yield ""


def page() -> str:
    """Return docs/packages.md with the picture drawn anew."""
    before, marker, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not marker or not end:
        raise SystemExit(f"{PAGE.name} has no place for the picture: {BEGIN.strip()} ... {END.strip()}")
    picture = "\n".join(drawing()).rstrip()
    legend = "Levels from the bottom up; `->` is what a package imports, `[root]` anything of a lower root."
    return f"{before}{BEGIN}\n{legend}\n\n```\n{picture}\n```\n\n{END}{after}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where it would change"
    )
    arguments = parser.parse_args()
    text = page()
    if text == PAGE.read_text(encoding="utf-8"):
        return
    if arguments.check:
        raise SystemExit(
            f"{PAGE.name} does not show the packages as they are: run python scripts/draw_packages.py"
        )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
