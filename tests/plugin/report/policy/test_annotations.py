"""Workflow commands of GitHub Actions."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from builders.policies import check_small_job, make_mixed_answer
from trainfare.report.escape import terminal_text
from trainfare.report.policy import github_annotations
from trainfare_core.policy.check import SourcePlace, policy_check

OVER = check_small_job(max_usd=0.01)
LINE = re.compile(r"::(error|warning|notice) ([^:]*)::(.*)")
_NASTY = st.text(alphabet=":,%\r\n=a0DA2C3 \x1b\u2028é", max_size=30) | st.text(max_size=30)


def unescape(text: str, *more: tuple[str, str]) -> str:
    """Return what GitHub's runner makes of escaped text."""
    for code, char in (*more, ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_each_rule_that_is_not_kept_is_one_command() -> None:
    """Broken and unchecked are errors, waived and not applied are notices, kept ones are silent."""
    lines = github_annotations(make_mixed_answer()).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::notice", "::notice", "::error"]
    assert lines[0].startswith("::error file=train.py,line=7,title=TF001 max_usd%3A small::")
    assert lines[3] == "::error title=TF008 not_checked%3A small::train.py: no such file"


def test_nothing_is_printed_where_all_is_kept() -> None:
    """No annotation says that there is none."""
    assert github_annotations(policy_check([check_small_job(max_usd=1e6)])) == ""


@given(message=_NASTY, path=_NASTY.filter(lambda text: text.isprintable() and text))
def test_no_text_ends_a_command_or_a_property(message: str, path: str) -> None:
    """Whatever a message or a path holds, there is one line, its properties are ours, and the runner reads the text back."""
    job = OVER.model_copy(update={"place": SourcePlace(path=path, line=3)})
    finding = job.findings[0].model_copy(update={"message": f"m{message}"})
    text = github_annotations(policy_check([job.model_copy(update={"findings": (finding,)})]))
    assert text.count("\n") == 1
    assert "\r" not in text
    match = LINE.fullmatch(text.removesuffix("\n"))
    assert match is not None
    properties = dict(part.split("=", 1) for part in match[2].split(","))
    assert list(properties) == ["file", "line", "title"]
    assert unescape(properties["file"], ("%3A", ":"), ("%2C", ",")) == path
    shown = unescape(match[3])
    assert terminal_text(shown) == shown == terminal_text(f"m{message}")


def test_the_percent_sign_is_escaped_once() -> None:
    """100 % arrives as 100 %, and a text that looks escaped arrives as it was."""
    job = OVER
    finding = job.findings[0].model_copy(update={"message": "100% of %0A, a:b"})
    text = github_annotations(policy_check([job.model_copy(update={"findings": (finding,)})]))
    assert text.endswith("::100%25 of %250A, a:b\n")
