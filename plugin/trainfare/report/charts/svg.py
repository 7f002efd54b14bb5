"""
A matplotlib figure as inline SVG: the same bytes each time, colours from the page's style sheet.

Drawn with the object-oriented API: no pyplot, no backend chosen, the user's style and rcParams left alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeAlias
from xml.etree import ElementTree as ET

from trainfare.report.escape import terminal_text

__all__ = ["COLOURS", "Axes", "Figure", "draw", "part_of_matplotlib", "short"]

Figure: TypeAlias = Any
Axes: TypeAlias = Any
"""matplotlib's own types are only partly known to strict type checkers."""


COLOURS: Final = {
    name: f"#{index:02x}fe{index:02x}"
    for index, name in enumerate(
        (
            "ink",
            "muted",
            "grid",
            "front",
            *(f"cloud-{number}" for number in range(1, 7)),
            *(f"part-{number}" for number in range(1, 7)),
            "on-part",
            "surface",
        ),
        start=1,
    )
}
"""Stand-in colours by the name of the page's CSS variable: `draw` puts the variable in their place, so that
one chart serves the light and the dark page."""

_VARIABLES: Final = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_STYLE: Final = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "text.color": COLOURS["ink"],
    "grid.color": COLOURS["grid"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_LABEL_CHARS: Final = 30
_DROPPED = frozenset({"metadata", "style"})


def draw(
    fill: Callable[[Figure], None],
    *,
    name: str,
    title: str,
    description: str,
    size_inches: tuple[float, float],
) -> str:
    """
    Draw a figure and return it as an `<svg>` element for an HTML page.

    Args:
        fill: puts the axes on the empty figure.
        name: short ASCII word, unique in the page: prefix of every id.
        title: what the chart is, for screen readers.
        description: what it shows, in a sentence.
        size_inches: width and height; the page may scale it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    mpl, style = part_of_matplotlib("matplotlib"), part_of_matplotlib("matplotlib.style")
    canvas = part_of_matplotlib("matplotlib.backends.backend_svg").FigureCanvasSVG
    written = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks: the browser has its own
        with style.context("default"), mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
            figure = part_of_matplotlib("matplotlib.figure").Figure(figsize=size_inches, layout="constrained")
            figure.patch.set_alpha(0.0)
            fill(figure)
            canvas(figure).print_svg(written, metadata={"Date": None, "Creator": None})
    return _inline(written.getvalue(), name, title, description)


def part_of_matplotlib(name: str) -> Any:
    """Return a module of matplotlib, loaded on first use."""
    return import_module(name)


def short(text: str) -> str:
    """Return `text`, cut to what a chart has room for."""
    return text if len(text) <= _LABEL_CHARS else f"{text[: _LABEL_CHARS - 1]}…"


def _inline(text: str, name: str, title: str, description: str) -> str:
    root = ET.fromstring(text)  # noqa: S314 - what matplotlib has just written
    view_box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update(
        {"viewBox": view_box, "class": "chart", "role": "img", "aria-labelledby": f"{name}-title {name}-text"}
    )
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in _DROPPED:
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _attribute(key, value, name) for key, value in element.attrib.items()}
        element.tail = None
        if element.tag not in {"text", "tspan"}:
            element.text = None
    for place, (tag, content) in enumerate((("title", title), ("desc", description))):
        label = ET.Element(tag, {"id": f"{name}-{'title' if tag == 'title' else 'text'}"})
        label.text = terminal_text(content)
        root.insert(place, label)
    return ET.tostring(root, encoding="unicode")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    key = _local(key)
    if key == "id":
        return value if value.startswith(f"{name}-") else f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "style":
        return _HEX.sub(lambda found: _VARIABLES.get(found[0], found[0]), value)
    return value.replace("url(#", f"url(#{name}-")
