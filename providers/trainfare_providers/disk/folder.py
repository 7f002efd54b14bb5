"""Where the price files of this user are; light, so that a look whether there is one costs no import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "TRAINFARE_PRICE_CACHE"
PRICE_FILE_ENDING: Final = ".parquet"


def default_folder(variable: str = CACHE_VARIABLE, name: str = "prices") -> Path:
    """Return the folder of the price files, or of others: that which a variable names, or the user's cache folder."""
    folder = os.environ.get(variable)
    if folder:
        return Path(folder)
    import platformdirs

    return platformdirs.user_cache_path("trainfare", appauthor=False) / name


def price_file(name: str, folder: Path | None = None) -> Path:
    """Return the path of the last good prices that are kept under a name, in `default_folder()` or another."""
    return (default_folder() if folder is None else folder) / f"{name}{PRICE_FILE_ENDING}"
