"""The text of a comment: its hidden mark, the report, the commit, and a cut where the host's limit asks for one."""

from __future__ import annotations

import re
from typing import Final

from trainfare.report.escape import markdown_text
from trainfare_core.errors import InputError

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ERROR: Final = re.compile(r"^error: (.+)$", re.MULTILINE)

_OUTCOMES: Final = {
    "0": "passed",
    "1": "failed",
    "2": "bad usage or input",
    "3": "cannot tell",
    "4": "a defect of trainfare",
}


def mark_of(key: str) -> str:
    """
    Return the hidden first line by which the comment of a key is found again.

    Args:
        key: letters, digits, dots, dashes and underscores, at most 64.

    Raises:
        InputError: it is something else.
    """
    if not _KEY.fullmatch(key) or "--" in key:  # "--" would end an HTML comment in some parsers
        raise InputError(
            f"--key {key!r}: use at most 64 letters, digits, dots, underscores and single dashes, "
            "and begin with a letter or digit"
        )
    return f"<!-- trainfare comment: {key} -->"


def error_report(exit_code: str, log: str) -> str:
    """
    Return the report of a check that ended before it had an answer.

    Args:
        exit_code: of the check, as the shell has it.
        log: its standard error; the last line that begins with `error: ` is the reason.
    """
    outcome = _OUTCOMES.get(exit_code, "failed")
    errors = _ERROR.findall(log)
    reason = errors[-1] if errors else "the check ended without an answer; its log has the reason"
    return (
        f"## trainfare check: {outcome}\n\n{markdown_text(reason)}\n\nexit code {markdown_text(exit_code)}\n"
    )


def comment_text(mark: str, report: str, *, commit: str, longest: int, whole_report: str) -> str:
    """
    Return the text of a comment, at most `longest` characters.

    Args:
        mark: its first line.
        report: Markdown.
        commit: that was checked; "" leaves the line out.
        longest: the host's limit, characters.
        whole_report: where the uncut report is, as a sentence; used where the report is cut.
    """
    shown = f"\n<sub>checked at {commit[:10]}</sub>\n" if commit else ""
    room = longest - len(mark) - len(shown) - len("\n\n")
    return f"{mark}\n\n{cut_text(report, room, whole_report)}{shown}"


def cut_text(report: str, longest: int, whole_report: str) -> str:
    """Return a report of at most `longest` characters: whole lines, and where the rest is."""
    if len(report) <= longest:
        return report
    notice = f"\n\n**The report is cut here: it is longer than a comment may be.** {whole_report}\n"
    text = report[: longest - len(notice)]
    return (text[: text.rfind("\n")] if "\n" in text else text) + notice
