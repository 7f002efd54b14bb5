"""The table of clouds is complete, and every cloud that we register has its entry."""

from __future__ import annotations

from importlib.metadata import entry_points, metadata

import pytest

from trainfare_core.clouds import (
    CLOUDS,
    OTHER_STARTUP_S,
    SERVICES,
    Cloud,
    pip_extra,
    service_label,
    service_startup_s,
)


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=list(CLOUDS))
def test_each_entry_is_complete(cloud: Cloud) -> None:
    """Every name and label is filled in, every figure is above 0, and the extra exists."""
    assert cloud.name == cloud.name.lower().strip()
    assert cloud.label
    assert cloud.extra in (metadata("trainfare").get_all("Provides-Extra") or [])
    assert cloud.services
    for service in cloud.services:
        assert service.name
        assert service.label.startswith(cloud.label)
        assert 0 < service.startup_s < 3600


def test_service_names_are_unique() -> None:
    """Start-up is looked up by the service alone, so no two clouds may share a name."""
    assert len(SERVICES) == sum(len(cloud.services) for cloud in CLOUDS.values())


def test_each_registered_cloud_has_an_entry() -> None:
    """The plug-ins that fetch prices are the clouds of the table; the other three read prices of any cloud."""
    registered = {
        entry.name
        for entry in entry_points(group="trainfare.providers")
        if entry.dist is not None and entry.dist.name == "trainfare"
    }
    assert registered - {"shared", "snapshot", "other_clouds"} == set(CLOUDS)


def test_the_snapshot_names_only_listed_services() -> None:
    """Each price that the package ships has a label and a start-up time of its own."""
    from trainfare_providers.snapshot import SnapshotProvider

    rows = SnapshotProvider().load().frame.select("provider", "service").unique().rows()
    assert rows
    assert all(
        service in {service.name for service in CLOUDS[provider].services} for provider, service in rows
    )


def test_an_unlisted_cloud_keeps_its_own_name_and_gets_cautious_figures() -> None:
    """Prices of a plug-in work without an entry in the table."""
    assert service_label("example", "example") == "example"
    assert service_label("example", "gpu") == "example gpu"
    assert service_startup_s("gpu") == OTHER_STARTUP_S
    assert pip_extra("example") == "all"
    assert [pip_extra(name) for name in ("aws", "azure", "gcp")] == ["aws", "azure", "gcp"]


def test_one_cloud_counts_accelerators_in_its_quotas() -> None:
    """Google's are of a model in a region; the others' are of vCPUs or machines of a type."""
    assert [name for name, cloud in CLOUDS.items() if cloud.quota_by_accelerator] == ["gcp"]
