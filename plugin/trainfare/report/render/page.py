"""Blocks as one self-contained HTML page without remote resources; its one script is named by its hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainfare.report.blocks import (
    Block,
    Chart,
    Details,
    Heading,
    Text,
    join_lines,
    select_blocks,
    split_cell,
    split_line,
)
from trainfare.report.escape import terminal_text
from trainfare_core.installation import write_install_line
from trainfare_core.number_format import percent


@dataclass(slots=True)
class _Section:
    """A heading and what stands under it."""

    heading: Heading
    blocks: list[Block] = field(default_factory=list[Block])

    @property
    def css_class(self) -> str:
        """Of a section that the page's script shows elsewhere, or that is not printed; "" of others."""
        if any(isinstance(block, Details) for block in self.blocks):
            return "plans screen"
        return "" if self.heading.on_paper else "screen"


def format_page(blocks: Iterable[Block], *, title: str = "") -> str:
    """
    Return the blocks as an HTML page: those before the first heading as its header, then a section for each heading.

    Without matplotlib the charts are left out, and the page says how to install it.

    Args:
        blocks: of the report.
        title: of the browser's window; "" takes the first heading.
    """
    header: list[Block] = []
    footer: list[Text] = []
    sections: list[_Section] = []
    for block in select_blocks(blocks, "page"):
        if isinstance(block, Heading) and block.level > 1:
            sections.append(_Section(block))
        elif isinstance(block, Text) and block.tone == "footer":
            footer.append(block)
        else:
            (sections[-1].blocks if sections else header).append(block)
    if not title and header and isinstance(header[0], Heading):
        title = join_lines((header[0].line,))
    script = files("trainfare.report.render").joinpath("templates/report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _make_environment().get_template("page.html.j2").render(
        title=title, header=header, sections=sections, footer=footer, script_hash=f"sha256-{digest}",
        script=Markup(script),  # noqa: S704 - ours
        install_line=write_install_line("report"),
    )  # fmt: skip


def _make_environment() -> Environment:
    """Return the jinja2 environment: values are cleaned of control and bidirectional characters, then escaped."""
    environment = Environment(
        loader=PackageLoader("trainfare.report.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    filters: dict[str, Any] = {
        "kind": _name_kind,
        "lines": split_cell,
        "spans": split_line,
        "draw": _draw,
        "percent": percent,
    }
    environment.filters.update(filters)
    return environment


def _name_kind(block: Block) -> str:
    return type(block).__name__


def _draw(chart: Chart) -> Markup | None:
    """Return a chart as markup, None without matplotlib."""
    try:
        return Markup(chart.draw())  # noqa: S704 - SVG made by svg.draw, whose texts are escaped by ElementTree
    except ImportError:
        return None


def _clean(value: Any) -> Any:
    return terminal_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
