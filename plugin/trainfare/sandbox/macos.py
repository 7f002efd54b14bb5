"""The profile of `sandbox-exec` on macOS: reading anywhere, writing in a few folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PROGRAM: Final = Path("/usr/bin/sandbox-exec")


def wall_command(folders: Sequence[Path]) -> list[str]:
    """
    Return what stands before a command that may write in these folders and devices alone.

    >>> wall_command([Path("/private/tmp/x")])[2]
    '(version 1)(allow default)(deny file-write*)(allow file-write* (subpath "/dev") (subpath "/private/tmp/x"))'

    Args:
        folders: without links: the system compares real paths.
    """
    # A text of this language is written as one of JSON.
    allowed = " ".join(f"(subpath {json.dumps(str(folder))})" for folder in (Path("/dev"), *folders))
    return [str(PROGRAM), "-p", f"(version 1)(allow default)(deny file-write*)(allow file-write* {allowed})"]
