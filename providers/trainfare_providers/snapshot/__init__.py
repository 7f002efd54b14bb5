"""The dated price snapshot in the wheel: no network and no credentials; README.md has its sources."""

from __future__ import annotations

from importlib.resources import files
from io import BytesIO

from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.precedence import OTHER_CLOUDS, SNAPSHOT

__all__ = ["OtherClouds", "SnapshotProvider"]


class SnapshotProvider:
    """List prices of accelerator machines on AWS, SageMaker, Azure and Google Cloud, each with its date."""

    name = SNAPSHOT

    def load(self) -> PriceBook:
        """
        Return the snapshot, checked row by row like any other source.

        Raises:
            PricesUnavailableError: the file is missing or damaged: install trainfare again.
        """
        return _read("offers.parquet", self.name)


class OtherClouds:
    """Quotes of Oracle and of GPU clouds such as Lambda, RunPod and CoreWeave; ranked only when asked for."""

    name = OTHER_CLOUDS

    def load(self) -> PriceBook:
        """
        Return the quotes, checked row by row like any other source.

        Raises:
            PricesUnavailableError: the file is missing or damaged: install trainfare again.
        """
        return _read("other_clouds.parquet", self.name)


def _read(name: str, origin: str) -> PriceBook:
    try:
        data = (files(__name__) / name).read_bytes()
    except OSError as error:
        msg = f"{origin}: the file in the package is missing; install trainfare again"
        raise PricesUnavailableError(msg) from error
    return PriceBook.read_parquet(BytesIO(data), origin=origin)
