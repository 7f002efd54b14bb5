"""The version of the distribution, which the build reads here, and the command that installs its extras."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from typing import Any

__version__ = "0.2.0"


def write_install_line(*extras: str, origin: str | None = None) -> str:
    """
    Return the command that installs extras from the folder, archive or repository that this installation came from.

    Example:
        >>> write_install_line("aws", origin='{"url": "file:///src/trainfare", "dir_info": {"editable": true}}')
        "pip install --editable 'file:///src/trainfare[aws]'"

    Args:
        extras: their names.
        origin: text of the distribution's `direct_url.json`, "" where it came from an index; None reads it.
    """
    extra = f"[{','.join(extras)}]"
    text = _read_origin() if origin is None else origin
    source: dict[str, Any] = json.loads(text) if text else {}
    url = str(source.get("url", ""))
    if source.get("dir_info", {}).get("editable"):
        return f"pip install --editable {shlex.quote(url + extra)}"
    if vcs := source.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs.get('requested_revision') or vcs['commit_id']}"
    return f"pip install {shlex.quote(f'trainfare{extra} @ {url}' if url else f'trainfare{extra}')}"


def _read_origin() -> str:
    try:
        return metadata.distribution("trainfare").read_text("direct_url.json") or ""
    except metadata.PackageNotFoundError:
        return ""
