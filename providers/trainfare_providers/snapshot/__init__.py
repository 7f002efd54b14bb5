"""The dated price snapshot in the wheel: no network and no credentials; README.md has its sources."""

from __future__ import annotations

from importlib.resources import files
from io import BytesIO

from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.book import PriceBook

__all__ = ["SnapshotProvider"]


class SnapshotProvider:
    """List prices of accelerator machines on AWS, SageMaker, Azure and Google Cloud, each with its date."""

    name = "snapshot"

    def load(self) -> PriceBook:
        """
        Return the snapshot, checked row by row like any other source.

        Raises:
            PricesUnavailableError: the file is missing or damaged: install trainfare again.
        """
        try:
            data = (files(__name__) / "offers.parquet").read_bytes()
        except OSError as error:
            msg = "snapshot: the file in the package is missing; install trainfare again"
            raise PricesUnavailableError(msg) from error
        return PriceBook.read_parquet(BytesIO(data), origin=self.name)
