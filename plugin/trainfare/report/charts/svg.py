"""
A matplotlib figure as inline SVG: the same bytes for the same input, colours from the page's style sheet.

Uses matplotlib's object-oriented API: pyplot is not imported, no backend is chosen, and the user's rcParams neither
change nor apply.
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

Figure: TypeAlias = Any
Axes: TypeAlias = Any
"""matplotlib's own types are only partly known to strict type checkers."""

_VARIABLES: Final = (
    *("ink", "muted", "grid", "front", "on-part", "surface"),
    *(f"{kind}-{number}" for kind in ("cloud", "part") for number in range(1, 7)),
)
COLOURS: Final = {name: f"#{index:02x}fe{index:02x}" for index, name in enumerate(_VARIABLES, start=1)}
"""A placeholder colour for each CSS variable of the page: `draw` writes the variable in its place, so that one
chart serves the light and the dark page."""

_VARIABLE_OF: Final = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
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
    **{f"{axis}tick.{part}": COLOURS["muted"] for axis in "xy" for part in ("color", "labelcolor")},
    "text.color": COLOURS["ink"],
    "grid.color": COLOURS["grid"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.columnspacing": 1.2,
}


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
        fill: draws on the empty figure.
        name: short ASCII word, unique in the page: prefix of every id.
        title: what the chart is, for screen readers.
        description: what it shows, in a sentence.
        size_inches: width and height; the page may scale it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    style: Any = import_module("matplotlib.style")
    canvas: Any = import_module("matplotlib.backends.backend_svg").FigureCanvasSVG
    written = io.StringIO()
    with warnings.catch_warnings(), style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks: the browser has its own
        figure = import_module("matplotlib.figure").Figure(figsize=size_inches, layout="constrained")
        fill(figure)
        canvas(figure).print_svg(written, metadata={"Date": None})
    return _inline(written.getvalue(), name, title, description)


def _inline(text: str, name: str, title: str, description: str) -> str:
    """Return a whole SVG document as one element: no namespaces, metadata or styles, ids prefixed by `name`."""
    root = ET.fromstring(text)  # noqa: S314 - written by matplotlib just now
    root.attrib = {"viewBox": root.get("viewBox", ""), "class": "chart", "role": "img"}
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for element in root.iter():
        for child in list(element):
            if _local(child.tag) in {"metadata", "style"}:
                element.remove(child)
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _attribute(_local(key), value, name) for key, value in element.items()}
        element.tail = None
        if element.tag not in {"text", "tspan"}:
            element.text = None
    for index, (tag, content) in enumerate((("title", title), ("desc", description))):
        label = ET.Element(tag, {"id": f"{name}-{tag}"})
        label.text = terminal_text(content)
        root.insert(index, label)
    return ET.tostring(root, encoding="unicode")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "style":
        return _HEX.sub(lambda match: _VARIABLE_OF.get(match[0], match[0]), value)
    return value.replace("url(#", f"url(#{name}-")
