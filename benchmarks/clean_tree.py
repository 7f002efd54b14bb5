"""
Count how often `trainfare check` says that an edit without a cost changes the cost, for a job with much chance in it.

    python -m benchmarks.clean_tree [--times 20] [--json OUT]

The job shuffles its texts and pads them, cuts each at random, drops out, and leaves out a layer now and then, all
without a seed. Each edit leaves the training as it is and makes another tree, so that both commits are traced. The
limit is 0: all of them read "no change in cost".
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.cases import WORKLOADS, Case, case_parser, write_cases

SCRIPT: str = WORKLOADS["random texts"]

EDITS: dict[str, Callable[[str], str]] = {
    "comment at the end": lambda text: text + "# the end\n",
    "comment at the top": lambda text: "# Two lines,\n# which move all others.\n" + text,
    "other name": lambda text: text.replace("hidden", "state"),
    "unused function": lambda text: text.replace(
        "\n\ndef collate", "\n\ndef unused():\n    pass\n\n\ndef collate"
    ),
    "another module": lambda text: text.replace("import random", "import json\nimport random"),
    "docstring": lambda text: text.replace("on texts.", "a small network on texts of many lengths."),
    "number written in another way": lambda text: text.replace("texts, 8,", "texts, 2 * 4,"),
    "type annotation": lambda text: text.replace("(rows):", "(rows: list):"),
    "parentheses": lambda text: text.replace("random.random() > 0.1", "(random.random() > 0.1)"),
    "blank lines": lambda text: text.replace("\n\n", "\n\n\n"),
}
"""Edits that leave the training as it is, by what they do."""


def list_edits(times: int) -> Iterator[tuple[str, str]]:
    """Yield that many scripts that cost the same as `SCRIPT`, no two of them equal, with what was done."""
    for number in range(times):
        name = list(EDITS)[number % len(EDITS)]
        again = number // len(EDITS)
        yield name, EDITS[name](SCRIPT) + "".join(f"# line {line}\n" for line in range(again))


def check_edit(folder: Path, text: str) -> str:
    """Return the sentence on the change that an edit makes to the cost, in a repository of that folder."""
    (folder / "train.py").write_text(text, encoding="utf-8")
    options = ("train.py", "--max-usd", "100000", "--compare-to", "HEAD")
    done = subprocess.run(
        [sys.executable, "-m", "trainfare", "check", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("CHANGE")]
    return lines[0] if lines else f"exit code {done.returncode}: {done.stderr[-500:]}"


def _make_repository(folder: Path) -> None:
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    name = ("-c", "user.name=A", "-c", "user.email=a@example.invalid")
    for command in (("init", "-q"), ("add", "-A"), (*name, "commit", "-q", "-m", "a job")):
        subprocess.run(["git", *command], cwd=folder, check=True)


def main() -> None:
    """Run from the command line."""
    parser = case_parser(__doc__)
    parser.add_argument("--times", type=int, default=20, help="edits to check [default: 20]")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_repository(folder)
        for number, (edit, text) in enumerate(list_edits(options.times), start=1):
            sentence = check_edit(folder, text)
            wrong += "no change in cost" not in sentence
            print(f"{number:3d} {edit}: {sentence}", flush=True)
    print(f"{options.times - wrong} of {options.times} say no change in cost")
    write_cases(options.json, {"edits that read as a change": Case(wrong, 0, None, "edits")})


if __name__ == "__main__":
    main()
