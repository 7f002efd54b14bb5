"""No test sees the prices that whoever runs it has fetched, or their own rates."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

if os.environ.get("TRAINFARE_INTEGRITY") != "live":
    os.environ["TRAINFARE_PRICE_CACHE"] = str(
        Path(tempfile.gettempdir()) / f"trainfare-no-prices-{os.getpid()}"
    )
for name in ("TRAINFARE_OWN_PRICES", "TRAINFARE_PRICE_BOOK"):
    os.environ.pop(name, None)
