"""
Take the screenshots of README.md and docs/ci.md: a real report, and real checks of examples/small_gpt.py in Markdown,
drawn in Chromium.

    python scripts/screenshot_comment.py docs

The base is the example as it is; each picture is a change of it, checked with `--compare-to` in a temporary
repository, and the text is what `trainfare comment` would write. Needs /usr/bin/chromium
(scripts/install_chromium.sh), playwright, markdown-it-py and Pillow.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
WIDTH = 880
"""Pixels of a comment on GitHub, on a wide screen."""

COLOURS = 256
"""Of a picture, which more would make larger than a clone should carry and no clearer. Chosen by eye."""

REPORT_WIDTH, REPORT_HEIGHT = 1000, 1215
"""Pixels of the report's picture: down to the chart, with the tip of the answer's point."""

AS_OF = "--as-of=2026-11-26"
DEEPER = {"layers: int = 12": "layers: int = 18", "max_steps=19_073": "max_steps=25_000"}
FOLDER = Path(__file__).parent
"""Has a policy for each picture, and the look of a comment on GitHub, drawn without its style sheet."""


def comment(folder: Path, policy: str) -> str:
    """Return the comment on a change of the example, under a policy."""
    from trainfare.pull_request.comment import comment_text, mark_of

    example = (TOP / "examples" / "small_gpt.py").read_text(encoding="utf-8")
    changed = example
    for before, after in DEEPER.items():
        if before not in changed:
            sys.exit(f"examples/small_gpt.py has no {before!r} any more: adapt DEEPER in this script")
        changed = changed.replace(before, after)
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "trainfare.toml").write_text(policy, encoding="utf-8")
    for text in (example, changed):
        (folder / "small_gpt.py").write_text(text, encoding="utf-8")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", "a commit")
    report = folder / "comment.md"
    command = [sys.executable, "-m", "trainfare", "check", AS_OF, "--compare-to", "HEAD^1"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, "--output", f"markdown={report}"], cwd=folder, check=False, stdout=subprocess.DEVNULL
    )
    if not report.exists():
        sys.exit(f"trainfare check ended with {done.returncode} and wrote no report")
    head = git(folder, "rev-parse", "HEAD").strip()
    text = report.read_text(encoding="utf-8")
    return comment_text(mark_of("check"), text, commit=head, longest=65_536, whole_report="")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as nobody and at one time, so that the commits are the same each time."""
    day = "2026-11-26T00:00:00Z"
    settings = ("user.name=nobody", "user.email=nobody@example.invalid", "commit.gpgsign=false")
    options = [word for setting in settings for word in ("-c", setting)]
    environment = {"GIT_AUTHOR_DATE": day, "GIT_COMMITTER_DATE": day, "PATH": "/usr/bin:/bin:/usr/local/bin"}
    done = subprocess.run(  # noqa: S603 - git, with arguments of ours
        ["git", *options, *arguments],  # noqa: S607 - the git that is first on PATH
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stdout


def draw(texts: dict[Path, str], report: Path, folder: Path) -> None:
    """Draw each comment, and the top of the report, as a picture."""
    from markdown_it import MarkdownIt
    from PIL import Image
    from playwright.sync_api import sync_playwright

    renderer = MarkdownIt("gfm-like", {"html": True})
    template = (FOLDER / "comment.html").read_text(encoding="utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 200})
        for path, text in texts.items():
            page.set_content(template.replace("{body}", renderer.render(text)))
            page.screenshot(path=path, full_page=True)
        page.set_viewport_size({"width": REPORT_WIDTH, "height": REPORT_HEIGHT})
        page.goto(report.as_uri())
        page.locator("tr.named").first.evaluate(
            "row => document.querySelector(`[id$='-point-${row.dataset.key}']`).focus()"
        )
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / "report.png")
        browser.close()
    for path in (*texts, folder / "report.png"):
        Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
        sys.stdout.write(f"wrote {path}, {path.stat().st_size:,} bytes\n")


def write_report(path: Path) -> Path:
    """Write the page of the 7B example and return its path."""
    profile = TOP / "docs" / "examples" / "llama-7b.json"
    command = [sys.executable, "-m", "trainfare", "recommend", str(profile), AS_OF]
    subprocess.run([*command, "--format", "html", "-o", str(path)], check=True)  # noqa: S603 - our own command
    return path


def main() -> None:
    """Check each case and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as work:
        texts = {
            folder / f"{policy.stem}.png": comment(
                Path(work, policy.stem), policy.read_text(encoding="utf-8")
            )
            for policy in sorted(FOLDER.glob("comment-*.toml"))
        }
        draw(texts, write_report(Path(work, "report.html")), folder)


if __name__ == "__main__":
    main()
