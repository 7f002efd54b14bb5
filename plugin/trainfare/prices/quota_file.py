"""
Read and write the file of `--quota`: what your accounts may rent, as TOML.

    [[quota]]
    provider = "aws"
    region = "us-east-1"
    family = "p"
    vcpus = 384

    [[quota]]
    provider = "gcp"
    family = ["H100", "H200"]
    purchase = "spot"
    accelerators = 16

    [[quota]]
    provider = "aws"
    family = "ml.p5.48xlarge"
    machines = 2
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare_core.recommendation import QuotaLimit

_MAX_BYTES: Final = 2**20
"""Largest file that is read. A chosen value, against reading a wrong file."""

_LISTS: Final = ("family", "purchase")
"""Keys that take one name or several."""


def read_quotas(path: Path) -> tuple[QuotaLimit, ...]:
    """
    Read and check a file of quotas; names are kept as typed.

    Raises:
        InputError: it cannot be read, is not TOML, or has an unknown key or a bad value; the message names the table.
    """
    from trainfare_providers.disk.files import read_input
    from trainfare_providers.disk.toml_file import key_hint, parse_toml

    content = read_input(path, _MAX_BYTES, label="quota ", kind="a file of quotas")
    document = cast("dict[str, Any]", parse_toml(content, where=f"quota {path}"))
    for key in document:
        if key != "quota":
            raise InputError(f"quota {path}: unknown key {key!r}; {key_hint(key, ['quota'])}")
    tables = document.get("quota")
    if not (isinstance(tables, list) and tables):
        raise InputError(f"quota {path}: it has no [[quota]]")
    return tuple(
        _describe_quota(table, f"quota {path}: [[quota]] {number}: ")
        for number, table in enumerate(cast("list[object]", tables), start=1)
    )


def quota_text(quotas: Sequence[QuotaLimit], *, said: str) -> str:
    """
    Return the text of a file that `read_quotas` reads as these quotas.

    Args:
        quotas: at least one.
        said: first line, a comment.
    """
    lines = [f"# {said}"]
    for quota in quotas:
        # A JSON string or list of plain names is one of TOML too.
        stated = quota.model_dump(mode="json", exclude_none=True)
        lines += ["", "[[quota]]", *(f"{key} = {json.dumps(value)}" for key, value in stated.items())]
    return "\n".join(lines) + "\n"


def _describe_quota(table: object, where: str) -> QuotaLimit:
    from pydantic import ValidationError

    from trainfare_core.recommendation import QuotaLimit
    from trainfare_providers.disk.toml_file import describe_invalid

    if not isinstance(table, dict):
        raise InputError(f"{where}not a table")
    stated = cast("dict[str, object]", table)
    several = {key: [stated[key]] for key in _LISTS if isinstance(stated.get(key), str)}
    try:
        return QuotaLimit.model_validate_json(json.dumps(stated | several, default=str), strict=True)
    except ValidationError as error:
        raise InputError(f"{where}{describe_invalid(error, QuotaLimit)}") from error
