"""The report's page in a real headless Chromium."""

from __future__ import annotations

import io
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from builders.profiles import profile
from builders.recommendations import hostile_recommendation, make_measured_step, no_answer, recommendation
from trainfare.report.files import write_reports

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
        if answer not in self.pages:
            facts = profile(measured=make_measured_step())
            self.pages[answer], _ = write_reports(ANSWERS[answer](), facts, self.folder / answer, as_of=TODAY)
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


ANSWERS = {"whole": recommendation, "none": no_answer, "hostile": hostile_recommendation}


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
    """Every option is a visible row, and all four charts have a size on the screen."""
    page = _open(browser, "whole").page
    rows = page.locator("#ranking tbody tr")
    assert rows.count() == len(recommendation().options)
    assert all(rows.nth(index).is_visible() for index in range(rows.count()))
    assert "$5.15" in rows.nth(0).inner_text()
    charts = page.locator("svg.chart")
    assert charts.count() == 4
    for index in range(4):
        box = charts.nth(index).bounding_box()
        assert box["width"] > 500
        assert box["height"] > 80


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
    if (!walk.currentNode.data.trim() || ['TITLE', 'DESC', 'title', 'desc', 'style'].includes(node.tagName)) continue;
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
    found = page.locator("script, iframe, img, a, object, embed, form, svg style, body style").count()
    record_property("{} elements of hostile names that a browser finds, 0 allowed", found)
    assert found == 0
    assert "<script>alert(1)</script>" in page.locator("#ranking tbody tr").nth(0).inner_text()
