"""The command that installs an extra: from where this installation came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trainfare_core.errors import MissingExtraError
from trainfare_core.installation import write_install_line


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({"url": "file:///a%20b", "dir_info": {"editable": True}}, "--editable 'file:///a%20b[aws,gcp]'"),
        ({"url": "file:///src", "dir_info": {}}, "'trainfare[aws,gcp] @ file:///src'"),
        ({"url": "file:///t-1-py3-none-any.whl", "archive_info": {}}, "'trainfare[aws,gcp] @ file:///t-1-py3-none-any.whl'"),
        (
            {
                "url": "https://example.com/a/trainfare",
                "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": "0a"},
            },
            "'trainfare[aws,gcp] @ git+https://example.com/a/trainfare@v1'",
        ),
        (
            {"url": "https://example.com/a/trainfare", "vcs_info": {"vcs": "git", "commit_id": "0a"}},
            "'trainfare[aws,gcp] @ git+https://example.com/a/trainfare@0a'",
        ),
        (None, "'trainfare[aws,gcp]'"),
    ],
    ids=["editable", "folder", "wheel", "tag", "commit", "index"],
)  # fmt: skip
def test_an_extra_comes_from_where_trainfare_came(origin: dict[str, Any] | None, line: str) -> None:
    """As pip writes `direct_url.json` (the specification of direct URLs), and as pip reads requirements."""
    text = json.dumps(origin) if origin else ""
    assert write_install_line("aws", "gcp", origin=text) == f"pip install {line}"


def test_an_error_prints_that_command() -> None:
    assert str(MissingExtraError("boto3", "aws")).endswith(f"with: {write_install_line('aws')}")
