"""
Write the real output of commands into README.md and the tutorial, each between its two markers.

    python scripts/update_readme.py            # with today's date for the ages
    python scripts/update_readme.py --check    # exit 1 if a table differs from what the command prints

The check ranks and counts ages as of the date in the block, so that its result does not depend on the day.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "docs/examples/llama-7b.json", "docs/start/tutorial.md": "docs/start/tutorial.json"}
"""Each page with the profile of the job that its commands rank."""
BLOCK = re.compile(
    r"(<!-- output: [^\n]+ -->\n```console\n\$ trainfare recommend \S+"
    r"(?: --deadline (?P<hours>\d+)h)?(?: --max-usd (?P<usd>\d+))?\n).*?(<!-- end -->)",
    re.DOTALL,
)
COUNTED_TO = re.compile(r"[Aa]ges (?:are )?counted to (\d{4}-\d{2}-\d{2})")


def print_answer(profile_path: Path, max_usd: str | None, deadline_hours: str | None, as_of: str) -> str:
    """Return what the command prints on a day, `as_of` (YYYY-MM-DD), by which it ranks and counts ages."""
    from trainfare import recommend
    from trainfare.fake_step import read_profile
    from trainfare.report import report_ranking

    profile = read_profile(str(profile_path))
    now = datetime.strptime(as_of, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    limits = {
        "max_usd": float(max_usd) if max_usd else None,
        "deadline_hours": float(deadline_hours) if deadline_hours else None,
    }
    answer = recommend(profile, now=now, **limits)  # the doubt about a price grows with its age
    return report_ranking(answer, profile, now.date(), details=False).as_terminal()


def update_blocks(text: str, profile_path: Path, *, keep_date: bool) -> str:
    """Return a page with the output of its commands."""
    dated = COUNTED_TO.search(text)
    as_of = dated[1] if keep_date and dated else datetime.now(tz=timezone.utc).date().isoformat()

    def replace(match: re.Match[str]) -> str:
        printed = print_answer(profile_path, match["usd"], match["hours"], as_of)
        return f"{match[1]}{printed}```\n\nAges are counted to {as_of}.\n{match[4]}"

    return BLOCK.sub(replace, text)


def main() -> None:
    """Rewrite the blocks, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for page, profile in PAGES.items():
        path = TOP / page
        text = path.read_text(encoding="utf-8")
        fresh = update_blocks(text, TOP / profile, keep_date=arguments.check)
        if not arguments.check:
            path.write_text(fresh, encoding="utf-8")
        elif fresh != text:
            sys.exit(f"{page} does not show what the command prints: run python scripts/update_readme.py")


if __name__ == "__main__":
    main()
