"""No code of the product finds a note or a reason again by its words: what decides is a kind or a field."""

from __future__ import annotations

import ast
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SEARCHES = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "find"}
SENTENCES = {"note", "notes", "because", "reason", "assumption", "sentence", "caveat"}
LEFT = {
    "plugin/trainfare/job/job_plan.py",
    "plugin/trainfare/ledger/profiles.py",
    "plugin/trainfare/report/first_screen_texts.py",
    "plugin/trainfare/plain_loop/script.py",
}
"""What ends a run early is a part of `steps_note`; notes of profiles from before the ledger, and of a script's loop."""


def list_searches(code: str) -> list[int]:
    """Return the lines that look into the words of what is named like a note or a reason."""
    lines: list[int] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            lines += [node.lineno] if node.func.attr in SEARCHES and name in SENTENCES else []
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
            names = {each.id for each in node.comparators if isinstance(each, ast.Name)}
            lines += [node.lineno] if names & (SENTENCES - {"notes"}) else []
    return lines


def test_no_note_is_found_again_by_its_words() -> None:
    """But in the files that are named, each of which has one."""
    roots = ("core", "providers", "plugin")
    files = [file for root in roots for file in (TOP / root).rglob("*.py")]
    assert len(files) > 400
    found = {
        file.relative_to(TOP).as_posix(): lines
        for file in files
        if (lines := list_searches(file.read_text(encoding="utf-8")))
    }
    assert set(found) == LEFT, found


def test_a_search_is_found() -> None:
    """By a prefix, a part, or the end of a sentence."""
    code = 'a = note.startswith("x")\nb = "y" in note\nc = option.because.removesuffix(".")\nd = note.kind == "quota"'
    assert sorted(list_searches(code)) == [1, 2, 3]
