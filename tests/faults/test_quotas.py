"""Every network fault against the quotas of every cloud that is asked by our own client; AWS has `test_aws.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builders.azure_usages import SUBSCRIPTION, azure_prices
from builders.gcp_quotas import PROJECT, gcp_prices
from faults.canary import CANARY, witness
from faults.table import FAULT_CASES, FaultCase, faulty_client
from trainfare_core.errors import FetchError
from trainfare_core.prices.book import PriceBook
from trainfare_providers.azure import AzurePrices
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.gcp import GcpPrices
from trainfare_providers.gcp.quotas import QuotaSites
from trainfare_providers.gcp.sign_in import SignIn
from trainfare_providers.http.addresses import Secret
from trainfare_providers.refresh import QuotaSource

SOURCES: dict[str, tuple[Callable[[str], QuotaSource], PriceBook]] = {
    "azure": (lambda url: AzurePrices(manager=url, token=lambda _: Secret(CANARY)), azure_prices("eastus")),
    "gcp": (
        lambda url: GcpPrices(
            sites=QuotaSites(url, url), sign_in=lambda _: SignIn(PROJECT, {"authorization": Secret(CANARY)})
        ),
        gcp_prices("us-east5"),
    ),
}


@pytest.mark.parametrize("cloud", SOURCES)
@pytest.mark.parametrize("case", FAULT_CASES, ids=str)
def test_fault_is_one_sentence_without_the_token(
    case: FaultCase, cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what happened; the token is in no message, traceback, log or file."""
    make, prices = SOURCES[cloud]
    monkeypatch.setenv(NEEDS[0], SUBSCRIPTION)
    with witness(monkeypatch, tmp_path) as seen, faulty_client(case, cloud) as (out, url, _, _):
        with pytest.raises(FetchError) as caught:
            make(url).quotas(out, prices)
        seen.text(caught.value)
    assert str(caught.value).startswith(cloud)
    assert case.says in str(caught.value)
