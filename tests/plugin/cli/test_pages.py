"""Every answer that has a page has it from the same renderer: one script by its hash, nothing loaded, its own numbers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from builders.bills import RUN, focus_line, write_csv
from builders.cli import capture_main
from builders.exports import EXAMPLES
from builders.reports import LEDGER_PAGES
from builders.runs import build_compared, run
from trainfare.export import TARGETS
from trainfare.ledger.store import write_run

_TINY = str(EXAMPLES / "tiny.json")
_ANSWERS = {
    "recommend": (("recommend", _TINY, "--as-of", "2026-11-26"), "Ranked machines"),
    "check": (("check", _TINY, "--max-usd", "5", "--as-of", "2026-11-26"), "trainfare check: within"),
    "claims": (("decline", "claims"), "$4,672,619"),
    "forecast": (
        ("decline", "forecast", "--cost", "100", "--date", "2026-01", "--until", "2030-01"),
        "cheaper than now",
    ),
    "wait": (("decline", "wait", "--cost", "5000", "--value-per-month", "200"), "Train now."),
    "decompose": (
        (
            "decline",
            "decompose",
            "--from",
            "2022-09-29,1.1e23,2.0,312,0.43",
            "--to",
            "2024-09-29,1e23,1.5,989,0.4",
        ),
        "utilisation: systems software",
    ),
    "list": (("ledger", "list", "--ledger", "runs"), "1 run: $20.00 in all."),
    "score": (
        ("ledger", "score", "--ledger", "runs"),
        "the prediction of dollars was off by 40.0 % or less",
    ),
    "score by": (("ledger", "score", "--by", "project", "--ledger", "runs"), "1 run, by project."),
    "ledger why": (("ledger", "why", "000000", "--ledger", "runs"), "measured $20.00: +8.00 USD"),
    "reconcile": (("reconcile", "bill.csv", "--ledger", "runs"), "19.00 USD billed for 1 run."),
}


@pytest.mark.parametrize("name", _ANSWERS)
def test_each_answer_has_a_page_of_the_one_renderer(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Title, policy and script are the renderer's, and what the answer says is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINFARE_LEDGER", "off")
    write_run(run(usd=build_compared(12.0, 20.0), run_s=build_compared(3600.0, 3600.0)), tmp_path / "runs")
    write_csv(tmp_path / "bill.csv", [focus_line("19", run=RUN), focus_line("1")])
    arguments, words = _ANSWERS[name]
    page = capture_main(capsys, *arguments, "--format", "html").stdout
    assert page.startswith("<!doctype html>")
    assert words in page
    assert re.search(r"<title>.+</title>", page)
    assert len(re.findall(r"<script>", page)) == 1
    assert "default-src 'none'; script-src 'sha256-" in page


class _Files(HTMLParser):
    """Label and text of every closed file of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._inside = ""
        self._texts = {"summary": "", "code": ""}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "details":
            self._is_file = dict(attrs).get("class") == "file"
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "details" and self._is_file:
            self.found.append((self._texts["summary"], self._texts["code"]))
            self._texts = {"summary": "", "code": ""}
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self._texts and self._is_file:
            self._texts[self._inside] += data

    _is_file = False


@pytest.mark.parametrize(
    "limits",
    [
        (),
        ("--service", "sagemaker", "--service", "azure_ml"),
        ("--purchase", "spot", "--purchase", "on_demand"),
    ],
)
def test_a_page_has_each_file_that_export_writes_byte_for_byte(
    limits: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of every named plan and every target that starts it, with the settings of the folder; and no other file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINFARE_LEDGER", "off")
    Path("trainfare.toml").write_text(
        '[export]\ncommand = "train.py --name \'a<b>&c\'"\nsetup = "pip install x"\n'
    )
    asked = ("recommend", _TINY, "--as-of", "2026-11-26", *limits)
    Path("answer.json").write_text(capture_main(capsys, *asked, "--format", "json").stdout)
    page = capture_main(capsys, *asked, "--format", "html").stdout
    expected = set[tuple[str, str]]()
    for name in ("cheapest", "runner-up", "best-value", "fastest", "spot"):
        for target in TARGETS:
            folder = tmp_path / name / target
            folder.mkdir(parents=True)
            options = ("--to", target, "--plan", name, "--output", folder / "FILE")
            capture_main(capsys, "export", "answer.json", *options)
            expected |= {(f"{target}: {file.name}", file.read_text()) for file in folder.iterdir()}
    files = _Files(page).found
    assert set(files) == expected
    assert len(files) == len(expected)
    assert len(page.encode()) < 2_000_000
    labels = [label for label, _ in files]
    if "sagemaker: FILE" in labels:  # what to fill in a request is said before it
        assert labels.index("sagemaker: FILE.md") == labels.index("sagemaker: FILE") - 1
        assert {"azureml: FILE", "azureml: FILE-compute.yml"} <= set(labels)
    else:
        assert {"skypilot: FILE", "torchrun: FILE"} == set(labels)


@pytest.mark.parametrize("name", LEDGER_PAGES)
def test_a_page_of_a_ledger_shows_the_names_of_others_as_text(name: str) -> None:
    """A team's ledger and a bill have names that others chose: no element, no control character, the same bytes."""
    hostile = "</td></table><script>alert(1)</script>\x1b[31m\u202e"
    page = LEDGER_PAGES[name](hostile)
    assert page == LEDGER_PAGES[name](hostile)
    assert "<script>alert" not in page
    assert not set(page) & {"\x1b", "\u202e"}
    assert page.count("<script>") == 1
