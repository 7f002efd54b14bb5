"""The report's page in a real headless Chromium."""

from __future__ import annotations

import functools
import io
import re
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from builders.batches import make_eight, make_scaled_answer
from builders.exports import small_answer
from builders.profiles import profile
from builders.recommendations import hostile_recommendation, make_measured_step, no_answer, recommendation
from builders.reports import LEDGER_PAGES
from trainfare.export import export_named_plans, export_plan
from trainfare.report import report_ranking
from trainfare.report.files import write_reports
from trainfare_core.recommendation import Recommendation, TrainerArguments

CHROMIUM = Path("/usr/bin/chromium")
TODAY = date(2026, 11, 24)
_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
_WATCH = (
    "window.violations = []; document.addEventListener('securitypolicyviolation', "
    "event => window.violations.push(event.effectiveDirective + ' ' + event.blockedURI))"
)

if not CHROMIUM.exists():
    pytest.skip(f"no {CHROMIUM}: scripts/install_chromium.sh installs it on Debian", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@dataclass
class _Opened:
    page: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        return self.page.evaluate("window.violations")


@dataclass
class _Browser:
    chromium: Any
    folder: Path
    pages: dict[str, Path] = field(default_factory=dict)

    def page_of(self, answer: str) -> Path:
        """Return the report of an answer, written once."""
        if answer in _PAGES and answer not in self.pages:
            self.pages[answer] = self.folder / f"{answer}.html"
            self.pages[answer].write_text(_PAGES[answer](), encoding="utf-8")
        if answer not in self.pages:
            facts = profile(measured=make_measured_step())
            self.pages[answer], _ = write_reports(
                _ANSWERS[answer](), facts, self.folder / answer, as_of=TODAY
            )
        return self.pages[answer]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Browser]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=_ARGUMENTS)
        yield _Browser(chromium, tmp_path_factory.mktemp("reports"))
        chromium.close()


def _open(browser: _Browser, answer: str, *, width: int = 1280, scheme: str = "light") -> _Opened:
    page_path = browser.page_of(answer)
    for context in browser.chromium.contexts:  # of the tests before
        context.close()
    context = browser.chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    opened = _Opened(page)
    page.on("request", lambda request: opened.requests.append(request.url))
    page.on("console", lambda message: opened.messages.append(message.text))
    page.on("pageerror", lambda error: opened.messages.append(str(error)))
    page.on("dialog", lambda dialog: opened.messages.append(f"dialog {dialog.message}"))
    page.add_init_script(_WATCH)
    page.goto(page_path.as_uri())
    assert [url for url in opened.requests if not url.startswith("data:")] == [page_path.as_uri()]
    return opened


def _with_plans() -> Recommendation:
    """Return the whole answer with a plan in the Trainer's words for each option."""
    plan = TrainerArguments(
        devices=1,
        num_nodes=1,
        strategy="auto",
        precision="bf16-mixed",
        accumulate_grad_batches=1,
        batch_size=8,
    )
    answer = recommendation()
    options = tuple(option.model_copy(update={"trainer": plan}) for option in answer.options)
    return answer.model_copy(update={"options": options})


ANSWERS = {"whole": recommendation, "none": no_answer, "hostile": hostile_recommendation}
"""What a page may be of, for the tests that look at all of them."""
_ANSWERS = ANSWERS | {"traced": _with_plans}


def _draw_files() -> str:
    """Return the page of a plan of SageMaker, with its files."""
    answer = small_answer(service="sagemaker", instance_type="ml.g6.12xlarge")
    return report_ranking(answer, None, TODAY, files=tuple(export_named_plans(answer))).as_page()


_PAGES: dict[str, Callable[[], str]] = {
    "files": _draw_files,
    "batches": lambda: report_ranking(make_scaled_answer(make_eight()), None, TODAY).as_page(),
    **{name: functools.partial(draw, "vision") for name, draw in LEDGER_PAGES.items()},
}
"""Pages that are not of `write_reports`."""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("page_name", _PAGES)
def test_pages_of_files_and_of_a_ledger_are_like_the_others(
    browser: _Browser, page_name: str, width: int, scheme: str
) -> None:
    """One request, nothing on the console, no sideways scrolling, enough contrast, nothing serious for axe; also opened."""
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    opened = _open(browser, page_name, width=width, scheme=scheme)
    page = opened.page
    page.evaluate("document.querySelectorAll('details.file').forEach(file => { file.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert (opened.messages, opened.violations()) == ([], [])
    assert page.evaluate(_CONTRAST) == []
    page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(results => results.violations)")
    assert [finding["id"] for finding in found if finding["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_cost_of_a_larger_batch_is_seen_beside_the_answer_and_in_its_plan(
    browser: _Browser, width: int
) -> None:
    """Both batches in the cards, what the larger one costs below them, and again where its option is opened."""
    page = _open(browser, "batches", width=width).page
    cards = page.locator(".answer")
    assert ["batch 128" in cards.nth(0).inner_text(), "batch 1,024" in cards.nth(1).inner_text()] == [
        True
    ] * 2
    sentence = "To the quality of 128 it needs 1.03 to 1.7 times the samples, $148 to $243"
    beside = page.locator(".panel", has_text=sentence)
    box = beside.bounding_box()
    assert beside.is_visible()
    assert 0 <= box["x"] < box["x"] + box["width"] <= width
    _open_plan(page, 2)
    plan = " ".join(page.locator("#plan").inner_text().split())
    assert "global batch 1,024" in plan
    assert sentence in plan


def test_a_copied_file_is_the_one_that_export_writes(browser: _Browser) -> None:
    """Closed at first; the button copies every byte, also the last line break."""
    opened = _open(browser, "files")
    page = opened.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    files = page.locator("details.file")
    labels = [files.nth(index).locator("summary").inner_text() for index in range(files.count())]
    assert labels == ["sagemaker: FILE.md", "sagemaker: FILE", "torchrun: FILE"]
    answer = small_answer(service="sagemaker", instance_type="ml.g6.12xlarge")
    written = export_plan(answer, "sagemaker", "cheapest")
    for index, text in enumerate(
        (written.beside[".md"], written.text, export_plan(answer, "torchrun", "cheapest").text)
    ):
        assert not files.nth(index).locator("code").is_visible()
        files.nth(index).locator("summary").click()
        files.nth(index).locator("button").click()
        files.nth(index).locator("button", has_text="copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == text
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", page.pdf(format="A4"))) <= 2
    assert opened.messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700, 400])
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_page_opens_offline_without_console_messages(
    browser: _Browser, answer: str, width: int, scheme: str, record_property: Callable[[str, object], None]
) -> None:
    """From disk: one request (itself), nothing on the console, no violation, and no sideways scrolling."""
    opened = _open(browser, answer, width=width, scheme=scheme)
    record_property("{} pages opened in a browser", len(opened.page.context.pages))
    record_property(
        "{} messages and violations of them, 0 allowed", len(opened.messages + opened.violations())
    )
    assert opened.messages == []
    assert opened.violations() == []
    assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [1280, 1200, 1190, 1100, 800])
def test_no_column_of_the_ranking_is_cut_off(browser: _Browser, width: int) -> None:
    """Between a desktop and a telephone the marks stay in sight: what does not fit becomes cards."""
    page = _open(browser, "whole", width=width).page
    assert page.evaluate(
        "(box => box.scrollWidth <= box.clientWidth)(document.querySelector('#ranking').parentElement)"
    )


def test_rows_and_charts_are_visible(browser: _Browser) -> None:
    """Every option is a visible row, and every chart has a size on the screen."""
    page = _open(browser, "whole").page
    rows = page.locator("#ranking tbody tr")
    assert rows.count() == len(recommendation().options)
    assert all(rows.nth(index).is_visible() for index in range(rows.count()))
    assert "$5.15" in rows.nth(0).inner_text()
    for drawings, number in ((page.locator("svg.chart"), 1), (page.locator("figure.bars"), 4)):
        assert drawings.count() == number
        for index in range(number):
            box = drawings.nth(index).bounding_box()
            assert box["width"] > 500
            assert box["height"] > 50


def test_the_answer_is_on_the_first_screen(browser: _Browser) -> None:
    """Without scrolling one sees the sentence and the dollars of the cheapest and the fastest, also on a telephone."""
    for width, tall in ((1280, 900), (400, 900)):
        page = _open(browser, "whole", width=width).page
        for index in range(2):
            box = page.locator(".answer .big").nth(index).bounding_box()
            assert box["y"] + box["height"] < tall


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_screenshot_shows_a_page_in_the_asked_scheme(browser: _Browser, scheme: str) -> None:
    """The picture has many colours, and its background is light or dark as asked."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    page = _open(browser, "whole", scheme=scheme).page
    picture = image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    colours = picture.getcolors(maxcolors=1 << 24)
    assert len(colours) > 200
    brightness = sum(count * sum(colour) / 3 for count, colour in colours) / (picture.width * picture.height)
    assert brightness > 200 if scheme == "light" else brightness < 60


_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d');
  const rgb = text => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const back = node => { for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor; if (rgb(colour)[3] === 255) return rgb(colour); } return [255, 255, 255, 255]; };
  const low = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || walk.currentNode.parentElement.tagName === 'SCRIPT' || ['TITLE', 'DESC', 'title', 'desc', 'style'].includes(node.tagName)) continue;
    const chart = node.closest('svg'), style = getComputedStyle(node);
    if (chart && node.getAttribute('style').includes('--on-part')) continue;
    const pair = [light(rgb(chart ? style.fill : style.color)), light(back(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    if (ratio < 4.5) low.push(node.textContent.trim() + ' ' + ratio.toFixed(2));
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("answer", ["whole", "none"])
def test_every_text_has_enough_contrast(browser: _Browser, answer: str, scheme: str) -> None:
    """At least 4.5 to 1 against what is behind it (WCAG 2.2 AA), in both schemes, charts included."""
    assert _open(browser, answer, scheme=scheme).page.evaluate(_CONTRAST) == []


_INJECT = """address => {
  for (const [tag, key, value] of [['img', 'src', address + 'x.png'], ['script', 'src', address + 'x.js'],
      ['script', 'textContent', 'window.ran = true']]) {
    const node = document.createElement(tag); node[key] = value; document.body.append(node);
  }
  const sheet = document.createElement('link'); sheet.rel = 'stylesheet'; sheet.href = address + 'x.css';
  document.head.append(sheet);
}"""


def test_the_content_security_policy_blocks_injected_elements(
    browser: _Browser, record_property: Callable[[str, object], None]
) -> None:
    """A script, a remote picture or a style sheet put into the page is refused before anything connects."""
    page = _open(browser, "whole").page
    with socket.create_server(("127.0.0.1", 0)) as server:
        page.evaluate(_INJECT, f"http://127.0.0.1:{server.getsockname()[1]}/")
        page.wait_for_function("window.violations.length >= 4")
        record_property("{} injected elements blocked", page.evaluate("window.violations.length"))
        assert page.evaluate("window.ran") is None
        assert select.select([server], [], [], 0.0)[0] == []


def test_hostile_names_are_text_for_a_browser_too(
    browser: _Browser, record_property: Callable[[str, object], None]
) -> None:
    """The browser finds no element of theirs, and the names are on the screen as they are."""
    page = _open(browser, "hostile").page
    found = page.locator(
        "script:not(body > script), iframe, img, a, object, embed, form:not(.filters), svg style, body style"
    ).count()
    record_property("{} elements of hostile names that a browser finds, 0 allowed", found)
    assert found == 0
    assert "<script>alert(1)</script>" in page.locator("#ranking tbody tr").nth(0).inner_text()


def _open_plan(page: Any, key: int) -> None:
    """Open what there is to say of an option, by its row."""
    page.locator(f"tr[data-key='{key}'] button.open").click()


def test_hovering_a_point_names_its_option(browser: _Browser) -> None:
    """The tip has machine, dollars, hours and place of the point under the pointer; away from points there is none."""
    page = _open(browser, "whole").page
    page.locator("#cost-time-point-3").scroll_into_view_if_needed()
    box = page.locator("#cost-time-point-3").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#tip")
    assert tip.is_visible()
    for text in ("#3 1 × g6.2xlarge", "$12.90", "13.2 h", "AWS, us-east-1, on demand"):
        assert text in tip.inner_text()
    assert "hot" in page.locator("tr[data-key='3']").get_attribute("class")
    page.mouse.move(2, 2)
    assert not tip.is_visible()


def test_clicking_a_point_or_a_row_opens_its_plan(browser: _Browser) -> None:
    """Plan in words, why, what if and the export commands of that option, and Escape closes them again."""
    page = _open(browser, "whole").page
    page.locator("#cost-time-point-8").scroll_into_view_if_needed()
    box = page.locator("#cost-time-point-8").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    plan = page.locator("#plan")
    assert "#8 2 × p5.48xlarge" in plan.inner_text()
    page.keyboard.press("Escape")
    assert not plan.is_visible()
    _open_plan(page, 3)
    text = " ".join(plan.inner_text().split())
    # 12.90 over 5.15 dollars is 150 % more; both take 13.2 hours.
    for words in (
        "#3 1 × g6.2xlarge",
        "Why: Beside 1 × g6.2xlarge, the cheapest: It costs 150 % more and takes the same",
    ):
        assert words in text
    page.keyboard.press("ArrowRight")
    assert "#4 1 × Standard_NC24ads_A100_v4" in plan.inner_text()


def test_a_copied_command_is_in_the_clipboard(browser: _Browser) -> None:
    """The button copies the text beside it and says so, also to a screen reader."""
    opened = _open(browser, "traced")
    page = opened.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    _open_plan(page, 3)
    command = page.locator("#plan .copy", has_text="torchrun")
    command.locator("button").click()
    page.locator("#status", has_text="copied").wait_for(state="attached")
    assert (
        page.evaluate("navigator.clipboard.readText()")
        == "trainfare export answer.json --to torchrun --plan 3"
    )
    assert opened.messages == []


def test_filters_drive_chart_and_table(browser: _Browser) -> None:
    """A cloud, and what runs unchanged, leave the same options in both; the number is said, and shown again all are."""
    page = _open(browser, "whole").page
    answer = recommendation()

    def count() -> tuple[int, int]:
        in_chart = "!document.querySelector(`#cost-time-point-${row.dataset.key}`).classList.contains('off')"
        rows = f"[...document.querySelectorAll('#ranking tr[data-key]')].filter(row => !row.hidden && {in_chart})"
        points = "document.querySelectorAll('#cost-time-figure_1 .point:not(.off), .chart .point:not(.off)').length"
        return page.evaluate(f"{rows}.length"), page.evaluate(points)

    total = len(answer.options)
    assert count() == (total, total)
    page.locator("select[name=cloud]").select_option("Azure")
    azure = sum(option.provider == "azure" for option in answer.options)
    assert count() == (azure, azure)
    assert page.locator("form output").inner_text() == f"{azure} of {total} options shown"
    page.locator("button[type=reset]").click()
    page.locator("form output:empty").wait_for(state="attached")
    page.locator("input[name=ready]").check()
    ready = sum(not option.needs_porting for option in answer.options)
    assert count() == (ready, ready)
    page.locator("input[name=demand]").check()
    both = sum(
        not option.needs_porting and option.purchase_option == "on_demand" for option in answer.options
    )
    assert count() == (both, both)


def test_the_table_is_sorted_by_its_numbers(browser: _Browser) -> None:
    """By dollars and by hours as numbers, up and down, which aria-sort and the live region say."""
    page = _open(browser, "whole").page
    options = recommendation().options
    for name, read in (
        ("run cost", lambda option: option.run_usd.mid),
        ("run time", lambda option: option.run_hours.mid),
    ):
        head = page.locator("#ranking th", has_text=name)
        for direction, falls in (("ascending", False), ("descending", True)):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == direction
            keys = page.evaluate(
                "[...document.querySelectorAll('#ranking tr[data-key]')].map(row => +row.dataset.key)"
            )
            values = [read(options[key - 1]) for key in keys]
            assert values == sorted(values, reverse=falls)
            said = page.locator("#status", has_text=f"sorted by {name}, {direction}")
            said.wait_for(state="attached")
    assert page.locator("#ranking th[aria-sort]").count() == 1


def test_the_chart_is_used_by_keyboard_alone(browser: _Browser) -> None:
    """One stop of the tab key; arrows go to the next point in time and cost, Enter opens it, Escape comes back."""
    page = _open(browser, "whole").page
    options = sorted(recommendation().options, key=lambda option: option.run_hours.mid)
    assert page.locator("svg .point[tabindex='0']").count() == 1
    page.locator(f"#cost-time-point-{options[0].rank}").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == f"cost-time-point-{options[1].rank}"
    assert f"#{options[1].rank} " in page.locator("#tip").inner_text()
    page.keyboard.press("Enter")
    assert page.locator("#plan-title").inner_text().startswith(f"#{options[1].rank} ")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == f"cost-time-point-{options[1].rank}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("answer", ["whole", "none", "hostile"])
def test_axe_finds_nothing_serious(browser: _Browser, answer: str, width: int, scheme: str) -> None:
    """axe-core has no serious or critical finding, with a plan open and with none."""
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    page = _open(browser, answer, width=width, scheme=scheme).page
    page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))
    for opens in (False, True):
        if opens and answer != "none":
            _open_plan(page, 1)
        found = page.evaluate("axe.run().then(results => results.violations)")
        serious = [
            (finding["id"], [node["html"] for node in finding["nodes"]])
            for finding in found
            if finding["impact"] in ("serious", "critical")
        ]
        assert serious == []


def test_without_its_script_the_page_has_every_plan(browser: _Browser) -> None:
    """As in a mail: no control that does nothing, every row, and the plans to open at the end of the ranking."""
    page_path = browser.page_of("whole")
    page = browser.chromium.new_context(java_script_enabled=False).new_page()
    page.goto(page_path.as_uri())
    assert (
        page.locator("form.filters, #tip, #plan, th button, .copy button").filter(visible=True).count() == 0
    )
    assert page.locator("#ranking tr[data-key]").count() == len(recommendation().options)
    plan = page.locator("details[data-key='3']")
    plan.locator("summary").click()
    assert "Why: Beside" in plan.inner_text()


def test_the_page_prints_on_two_pages(browser: _Browser) -> None:
    """A4, with the answer, the chart and the best options on them."""
    page = _open(browser, "whole").page
    printed = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 2
