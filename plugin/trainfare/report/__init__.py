"""
A recommendation as a terminal table, Markdown, a self-contained HTML page, and JSON.

Importing this package loads no renderer: each name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainfare.report.files import ReportPaths, write_reports
    from trainfare.report.html import render_html
    from trainfare.report.markdown import render_markdown
    from trainfare.report.terminal import print_terminal, render_terminal

__all__ = [
    "ReportPaths",
    "print_terminal",
    "render_html",
    "render_markdown",
    "render_terminal",
    "write_reports",
]

_MODULES = {
    "ReportPaths": "files",
    "print_terminal": "terminal",
    "render_html": "html",
    "render_markdown": "markdown",
    "render_terminal": "terminal",
    "write_reports": "files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'trainfare.report' has no attribute {name!r}")
    return getattr(import_module(f"trainfare.report.{_MODULES[name]}"), name)
