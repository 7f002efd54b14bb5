"""
Write the real output of a command into README.md, between its two markers.

    python scripts/update_readme.py            # with today's date for the ages
    python scripts/update_readme.py --check    # exit 1 if the table differs from what the command prints

The check counts ages to the date in the block, so that its result does not depend on the day.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
COMMAND = "trainfare recommend docs/examples/llama-7b.json"
BLOCK = re.compile(r"(<!-- output: [^\n]+ -->\n).*?(<!-- end -->)", re.DOTALL)
COUNTED_TO = re.compile(r"[Aa]ges (?:are )?counted to (\d{4}-\d{2}-\d{2})")


def block(as_of: str) -> str:
    """Return the command and its output, ages counted to `as_of` (YYYY-MM-DD)."""
    from trainfare import recommend
    from trainfare.fake_step import read_profile
    from trainfare.report import report_ranking

    profile = read_profile(str(TOP / "docs" / "examples" / "llama-7b.json"))
    day = datetime.strptime(as_of, "%Y-%m-%d").replace(tzinfo=timezone.utc).date()
    printed = report_ranking(recommend(profile), profile, day, details=False).as_terminal()
    return f"```console\n$ {COMMAND}\n{printed}```\n\nAges are counted to {as_of}.\n"


def main() -> None:
    """Rewrite the block, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    path = TOP / "README.md"
    text = path.read_text(encoding="utf-8")
    dated = COUNTED_TO.search(text)
    today = datetime.now(tz=timezone.utc).date().isoformat()
    as_of = dated[1] if arguments.check and dated else today
    fresh = BLOCK.sub(lambda match: match[1] + block(as_of) + match[2], text)
    if not arguments.check:
        path.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        sys.exit("README.md does not show what the command prints: run python scripts/update_readme.py")


if __name__ == "__main__":
    main()
