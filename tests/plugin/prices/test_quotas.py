"""What accounts may rent, from loopback servers to the file of `--quota`."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from builders.azure_usages import SUBSCRIPTION, USAGES, azure_prices, usages_page, usages_path
from faults.server import FaultServer, Script, json_script
from trainfare.prices.quotas import account_quotas, quota_text, read_quotas
from trainfare_core.errors import FetchError, InputError
from trainfare_providers.azure import AzurePrices
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.http.addresses import Secret

NOW = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NEEDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(NEEDS[0], SUBSCRIPTION)


def test_quotas_of_an_account_become_the_file_and_the_rest_is_said(tmp_path: Path) -> None:
    """A region that was not read has prices without a limit, which are counted and named."""
    with FaultServer() as server:
        server.script(usages_path("eastus"), json_script(usages_page(USAGES)))
        source = AzurePrices(manager=server.url(), token=lambda _: Secret("a-token"))
        quotas = account_quotas(
            [("azure", source), ("narnia", object())],
            book=azure_prices("eastus", "westus"),
            clock=lambda: NOW,
        )
    assert quotas.said == "Quotas of your account of azure, read 2026-11-27 12:00 UTC."
    assert quotas.left_out == (
        "narnia: its quotas cannot be read; state them by hand (docs/choosing.md)",
        "azure: the subscription has no quotas of westus",
        "azure: in one region or more, no quota was read of the family of Standard_NC144ds_xl_RTXPRO6000BSE_v6",
        (
            "azure: no quota was read of 8 of 16 prices of azure_vm, in 1 of 2 regions: the file does not limit them "
            "(A100-PCIE-80GB, H100-SXM-80GB, RTXPRO6000-96GB; on_demand, spot)"
        ),
    )
    path = tmp_path / "quotas.toml"
    path.write_text(quota_text(quotas.quotas, said=quotas.said))
    assert read_quotas(path) == quotas.quotas
    assert len(quotas.quotas) == 4


def test_an_account_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    """With exit code 3, and what to check."""
    with FaultServer() as server:
        server.everywhere(Script(status=403))
        source = AzurePrices(manager=server.url(), token=lambda _: Secret("a-token"))
        with pytest.raises(FetchError, match=r"answered 403.*docs/permissions.md") as caught:
            account_quotas([("azure", source)], book=azure_prices("eastus"))
    assert caught.value.exit_code == 3


def test_clouds_without_such_an_account_are_an_error_of_usage() -> None:
    with pytest.raises(InputError, match="narnia: its quotas cannot be read; state them by hand") as caught:
        account_quotas([("narnia", object())])
    assert caught.value.exit_code == 2
