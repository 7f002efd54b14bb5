"""How pip installs this source tree in a test, and nothing else: no index is asked, the tests' packages stay as they are."""

from __future__ import annotations

PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_UPGRADE": "1",
    "PIP_QUIET": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # what pip reads as "no isolation": the value is that of `isolation`
}
