"""No test sees the prices that whoever runs it has fetched, or their own rates, or how it was started."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

if os.environ.get("TRAINFARE_INTEGRITY") != "live":
    os.environ["TRAINFARE_PRICE_CACHE"] = str(
        Path(tempfile.gettempdir()) / f"trainfare-no-prices-{os.getpid()}"
    )
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start background jobs with Ctrl-C ignored; tests that press it need Python's own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("TRAINFARE_OWN_PRICES", "TRAINFARE_PRICE_BOOK"):
    os.environ.pop(name, None)
