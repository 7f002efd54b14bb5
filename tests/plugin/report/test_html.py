"""The report's page, parsed back."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser

import pytest
from markupsafe import escape

from builders.profiles import profile
from builders.recommendations import (
    HOSTILE_NAMES,
    hostile_recommendation,
    job,
    make_measured_step,
    no_answer,
    option,
    recommendation,
)
from builders.reports import render_html
from trainfare.report.escape import terminal_text
from trainfare.report.headline import headline
from trainfare_core.installation import write_install_line
from trainfare_core.recommendation import Recommendation

TODAY = date(2026, 11, 24)
_MEASURED = profile(measured=make_measured_step())


class _Page(HTMLParser):
    """Every element with its attributes, and all text; what is inside of charts is kept apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.drawn: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._depth = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._depth += tag == "svg"
        (self.drawn if self._depth else self.elements).append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        (self.drawn if self._depth else self.elements).append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "svg"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def tags(self) -> Counter[str]:
        return Counter(tag for tag, _ in self.elements if tag != "wbr")


def test_the_page_shows_the_whole_recommendation() -> None:
    """Sentence, every option, rejections, assumptions, price books with ages, and the profile's notes."""
    text = " ".join(
        "".join(_Page(render_html(recommendation(), profile=_MEASURED, as_of=TODAY)).texts).split()
    )
    for expected in (
        "Cheapest: $5.15 [$3.60 – $7.37] in 13.2 h [10.2 – 17.1 h] on 1 × g6.2xlarge",
        "Standard_NC40ads_H100_v5", "$66.60", "misses by 4.7 GiB", "egress is not priced", "8 months old",
        "oldest 37 months old, newest 4 days old", "Trace coverage: 99.9 %", "Not measured: transfer to the device, validation.",
        "10 optimizer steps measured on NVIDIA RTX A4000", "9 of 412 feasible options, cheapest first",
    ):  # fmt: skip
        assert expected in text


def test_nothing_is_loaded_and_nothing_can_run(record_property: Callable[[str, object], None]) -> None:
    """No frame or remote address, one script of at most 15 KB; the content security policy forbids all others."""
    page = _Page(render_html(recommendation(), profile=_MEASURED, as_of=TODAY))
    tags = {tag for tag, _ in page.elements + page.drawn}
    record_property("{} elements of a page, none a script or a remote load", len(page.elements + page.drawn))
    assert not tags & {
        "iframe",
        "object",
        "embed",
        "img",
        "image",
        "a",
        "base",
        "foreignobject",
    }
    policy = next(
        attrs for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    text = render_html(recommendation(), profile=_MEASURED, as_of=TODAY)
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["content"] == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert len(script.encode()) <= 15_000
    assert len(text.encode()) <= 2_000_000
    for _, attrs in page.elements + page.drawn:
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert "//" not in (value or "")
            if name in {"href", "xlink:href", "src"}:
                assert value == "data:," or (value or "").startswith("#")
    assert sum(tag == "svg" for tag, _ in page.drawn) == 1


def test_hostile_names_add_no_element_and_no_attribute(
    record_property: Callable[[str, object], None],
) -> None:
    """The page of hostile names has the elements of the same page with harmless ones, and shows the names."""
    hostile = hostile_recommendation()
    harmless = hostile.model_validate_json(_harmless(hostile.to_json()))
    page = _Page(render_html(hostile, profile=_MEASURED, as_of=TODAY))
    twin = _Page(render_html(harmless, profile=_MEASURED, as_of=TODAY))
    record_property("{} elements of a page of hostile names", page.tags().total())
    record_property("{} more than with harmless ones, 0 allowed", (page.tags() - twin.tags()).total())
    assert page.tags() == twin.tags()
    assert [sorted(attrs) for tag, attrs in page.elements if tag != "wbr"] == [
        sorted(attrs) for tag, attrs in twin.elements if tag != "wbr"
    ]
    assert {tag for tag, _ in page.drawn} <= {tag for tag, _ in twin.drawn}
    assert {name for _, attrs in page.drawn for name in attrs} <= {
        name for _, attrs in twin.drawn for name in attrs
    }
    for _, attrs in page.elements + page.drawn:
        assert not any(
            mark in (value or "") for value in attrs.values() for mark in ("alert", "evil", "cmd", "raw")
        )
    shown = " ".join("".join(page.texts).split())
    for name in HOSTILE_NAMES:
        assert " ".join(terminal_text(name).split()) in shown


def _harmless(text: str) -> str:
    """Return the JSON with every hostile name swapped for a plain one."""
    import json

    plain = {name: f"name{index}" for index, name in enumerate(HOSTILE_NAMES)}

    def swap(value: object) -> object:
        if isinstance(value, dict):
            return {key: swap(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [swap(inner) for inner in value]
        return plain.get(value, value) if isinstance(value, str) else value

    return json.dumps(swap(json.loads(text)))


def test_hostile_names_add_no_control_byte(record_property: Callable[[str, object], None]) -> None:
    """Control bytes and marks that turn text around do not reach the page."""
    text = render_html(hostile_recommendation(), profile=profile(name="\x1b[2Jx\u202e"), as_of=TODAY)
    control = {*map(chr, range(9)), "\x0b", "\x0c", "\x1b", "\x9b", "\u202e", "\u2066", "\u200f", "\ufeff"}
    record_property(
        "{} control characters in a page of hostile names, 0 allowed", sum(map(text.count, control))
    )
    assert not set(text) & control


def test_without_matplotlib_only_the_charts_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says how to get the charts, and every table is still there."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = render_html(recommendation(), profile=_MEASURED, as_of=TODAY)
    assert "<svg" not in text
    line = write_install_line("report")
    assert text.count(str(escape(line))) + text.count(line) == 1
    assert _Page(text).tags()["tr"] > 20


def test_a_page_without_options() -> None:
    """Why there is none on top, what was rejected below, no empty table and no empty chart."""
    page = _Page(render_html(no_answer(), as_of=TODAY))
    assert "No answer, because no machine can hold the job" in "".join(page.texts)
    assert page.drawn == []
    assert not any(attrs.get("id") == "ranking" for _, attrs in page.elements)


def test_an_unknown_length_is_noted_above_the_table() -> None:
    """The note about 1,000 steps comes before the first row."""
    result = recommendation(basis="per_1000_steps", job=job(optimizer_steps=None))
    text = render_html(result, as_of=TODAY)
    assert 0 < text.index("not for the whole run") < text.index('id="ranking"')
    assert "cost of 1,000 steps" in text


def test_tables_and_charts_are_accessible() -> None:
    """Every table has a caption and header cells with a scope, every chart a title and a description."""
    page = _Page(render_html(recommendation(), profile=_MEASURED, as_of=TODAY))
    assert page.tags()["caption"] == page.tags()["table"]
    assert all(attrs.get("scope") in {"col", "row"} for tag, attrs in page.elements if tag == "th")
    ids = [attrs["id"] for _, attrs in page.elements + page.drawn if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.drawn:
        if tag == "svg":
            assert attrs["role"] == "img"
            assert set((attrs["aria-labelledby"] or "").split()) <= set(ids)


def test_the_title_of_the_page_is_one_line() -> None:
    """What the answer costs and takes, and on what; the machines below it have the rest."""
    text = render_html(recommendation(), as_of=TODAY)
    title = text[text.index("<h1>") + 4 : text.index("</h1>")].removeprefix("<bdi>").removesuffix("</bdi>")
    assert title == "Cheapest: $5.15 [$3.60 – $7.37] in 13.2 h [10.2 – 17.1 h] on 1 × g6.2xlarge"


def test_a_mark_that_every_row_has_is_in_the_legend_alone() -> None:
    """Stale prices everywhere are noise; where some are fresh, the others are marked."""

    def count_marks(answer: Recommendation) -> int:
        text = render_html(answer, as_of=TODAY)
        return text[text.index("Ranked machines") : text.index("What it costs later")].count(
            'class="mark stale"'
        )

    answer = recommendation()
    old = tuple(
        option.model_copy(
            update={"price_observed_on": "2026-03", "price_by_contract": False, "price_fetched_at": None}
        )
        for option in answer.options
    )
    assert count_marks(answer.model_copy(update={"options": old})) == 0
    first = old[0].model_copy(update={"price_by_contract": True})
    assert count_marks(answer.model_copy(update={"options": (first, *old[1:])})) == len(old) - 1


def test_a_part_that_costs_nothing_takes_no_column() -> None:
    """The table of costs fits on a page: the examples have neither transfer nor object storage."""
    text = render_html(recommendation(), as_of=TODAY)
    costs = text[text.index("What the cost consists of") :]
    assert ">disks<" in costs
    assert ">object storage<" not in costs


def test_a_long_ranking_is_cut_in_the_page() -> None:
    """Of 1,000 options a page has the best 200 and those of the headline, in less than 2 MB, and says where the rest is."""
    answer = recommendation()
    first = answer.options[0]
    options = tuple(first.model_copy(update={"rank": rank}) for rank in range(1, 1001))
    long = answer.model_copy(
        update={"options": options, "options_total": 1000, "fastest_rank": 900, "best_value_rank": None}
    )
    text = render_html(long, profile=_MEASURED, as_of=TODAY)
    assert len(text.encode()) < 2_000_000
    assert text.count("<details data-key=") == text.count('<tr role="row" data-key=') + text.count(
        '<tr role="row" class="named" data-key='
    )
    assert text.count("<details data-key=") == 201
    assert "799 more are in the JSON output" in text


def test_a_page_without_a_named_option_says_why() -> None:
    """Options after porting whose software was never measured are listed, and none of them is named."""
    only = option(accelerator="TPU-v5e", needs_porting=True, unmeasured_software=True)
    answer = recommendation(options=(only,), cheapest_rank=None, fastest_rank=None, best_value_rank=None)
    page = render_html(answer, as_of=TODAY)
    assert headline(answer, TODAY).startswith("No answer")
    assert "No answer" in page
