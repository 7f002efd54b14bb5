"""Settings of the documentation's site: `make docs` writes it into build/docs."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
sys.path.insert(0, str(TOP))

from typer import Context  # noqa: E402
from typer.cli import get_docs_for_click  # noqa: E402
from typer.main import get_command  # noqa: E402

from scripts.write_address import read_address  # noqa: E402
from trainfare import __version__  # noqa: E402
from trainfare.cli import app_of  # noqa: E402

project = "trainfare"
author = "the authors of trainfare"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["schema", "examples"]
html_theme = "furo"
html_title = f"trainfare {__version__}"
html_show_copyright = False
myst_heading_anchors = 4
myst_enable_extensions = ["linkify"]
myst_linkify_fuzzy_links = False
suppress_warnings = ["myst.strikethrough"]
smartquotes = False  # it makes a dash of the two of an option
# Types of signatures are of packages without pages here; every other kind of link must lead somewhere.
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_member_order = "bysource"

REPOSITORY, REF = read_address((TOP / "pyproject.toml").read_text(encoding="utf-8"))
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
PART = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
PAGE = re.compile(r"^- \[[^\]]+\]\(([^)]+)\.md\)", re.MULTILINE)


def rewrite_links(text: str, folder: str) -> str:
    """Let links to files that are no pages of the site lead to the repository."""

    def replace(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        page = path.startswith("docs/") and path.endswith((".md", ".png", ".svg"))
        if page or not (TOP / path).exists():  # the builder warns of a link that leads nowhere
            return match[0]
        kind = "tree" if (TOP / path).is_dir() else "blob"
        return f"https://github.com/{REPOSITORY}/{kind}/{REF}/{path}{match[2] or ''}"

    return LINK.sub(replace, text)


def add_contents(index: str) -> str:
    """Let the lists of pages of the index be the contents of the site, a part for each heading."""
    for heading, lines in PART.findall(index):
        pages = "\n".join(PAGE.findall(lines))
        index += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"
    return index


def describe_commands() -> str:
    """Return what each command prints with --help; sphinx-click knows no commands of Typer's own Click."""
    root = get_command(app_of())
    text = get_docs_for_click(obj=root, ctx=Context(root, info_name="trainfare"), name="trainfare")
    lists = re.compile(
        r"\*\*Commands\*\*:\n\n(\* .*\n)+"
    )  # cut at some 45 characters; the sections say it in full
    examples = re.compile(r"^Examples:\n((?: *trainfare .*\n)+)", re.MULTILINE)
    sections = lists.sub("", text[text.index("\n## ") :])
    return examples.sub(
        lambda match: f"**Examples**:\n\n```console\n{_list_lines(match[1])}```\n\n", sections
    )


def _list_lines(text: str) -> str:
    return "".join(f"$ {line.strip()}\n" for line in text.splitlines())


def read_source(app: Any, name: str, source: list[str]) -> None:
    """Prepare a page before it is parsed."""
    del app
    text = rewrite_links(source[0], posixpath.dirname(name))
    if name == "index":
        text = add_contents(text)
    elif name == "reference/commands":
        text += describe_commands()
    source[0] = text


def setup(app: Any) -> None:
    """Connect what prepares a page."""
    app.connect("source-read", read_source)
