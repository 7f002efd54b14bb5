"""
The part of SARIF 2.1.0 that trainfare writes, as a strict JSON schema.

Written from the text of the standard (OASIS, SARIF 2.1.0 errata 01), section numbers beside each part; narrower than the official
schema: nothing is allowed that we do not write. `TRAINFARE_SARIF_SCHEMA` names a file of the official schema to test against as well.
"""

from __future__ import annotations

from typing import Any

TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1}},
    "required": ["text"],
    "additionalProperties": False,
}
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


RULE = _object(  # 3.49
    ("id", "name", "shortDescription", "help"),
    id={"type": "string", "pattern": "^TF[0-9]{3}$"},
    name={"type": "string"},
    shortDescription=TEXT,
    fullDescription=TEXT,
    help=TEXT,
    defaultConfiguration=_object((), level=LEVEL),
)
LOCATION = _object(  # 3.28, 3.29, 3.4, 3.30
    ("physicalLocation",),
    physicalLocation=_object(
        ("artifactLocation", "region"),
        artifactLocation=_object(
            ("uri",),
            uri={"type": "string", "format": "uri-reference", "pattern": r"^[^\s\\]+$"},
            uriBaseId={"const": "%SRCROOT%"},
        ),
        region=_object(("startLine",), startLine={"type": "integer", "minimum": 1}),
    ),
)
SUPPRESSION = _object(  # 3.35
    ("kind",),
    kind={"enum": ["inSource", "external"]},
    status={"enum": ["accepted", "underReview", "rejected"]},
    justification={"type": "string"},
)
RESULT = _object(  # 3.27
    ("ruleId", "ruleIndex", "level", "message", "locations"),
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=TEXT,
    locations={"type": "array", "items": LOCATION, "maxItems": 1},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    suppressions={"type": "array", "items": SUPPRESSION, "minItems": 1, "uniqueItems": True},
)
RUN = _object(  # 3.14
    ("tool", "results"),
    tool=_object(  # 3.18, 3.19
        ("driver",),
        driver=_object(
            ("name", "version", "rules"),
            name={"const": "trainfare"},
            version={"type": "string", "minLength": 1},
            rules={"type": "array", "items": RULE, "uniqueItems": True},
        ),
    ),
    invocations={  # 3.20
        "type": "array",
        "items": _object(
            ("executionSuccessful",),
            executionSuccessful={"type": "boolean"},
            exitCode={"type": "integer"},
        ),
    },
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
SARIF_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(  # 3.13
        ("version", "runs"),
        **{"$schema": {"type": "string", "format": "uri"}},
        version={"const": "2.1.0"},
        runs={"type": "array", "items": RUN, "minItems": 1, "maxItems": 1},
    ),
}
