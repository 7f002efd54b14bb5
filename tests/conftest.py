"""
No test sees the prices that whoever runs it has fetched, their own rates, their traces, or how it was started.

Traces are shared by the tests of one process: a test that must trace afresh says so.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

if os.environ.get("TRAINFARE_INTEGRITY") != "live":
    os.environ["TRAINFARE_PRICE_CACHE"] = str(
        Path(tempfile.gettempdir()) / f"trainfare-no-prices-{os.getpid()}"
    )
traces = tempfile.mkdtemp(prefix="trainfare-traces-")
atexit.register(shutil.rmtree, traces, ignore_errors=True)
os.environ["TRAINFARE_TRACE_CACHE"] = traces
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start background jobs with Ctrl-C ignored; tests that press it need Python's own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("TRAINFARE_OWN_PRICES", "TRAINFARE_PRICE_BOOK"):
    os.environ.pop(name, None)
