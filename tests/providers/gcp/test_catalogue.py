"""Google's catalogue: which SKU is a part of what, sums that are whole or not at all, chips and cores of TPUs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from builders.azure_wire import csv_of, golden
from builders.gcp_wire import COMPUTE, TPU, page, ram, sku, ssd
from trainfare_core.prices.accept import accept
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.sanity import LastPrices
from trainfare_providers.gcp import catalogue_rows
from trainfare_providers.gcp.machines import PartIndex, known_generations, machine_rows, machines, slice_rows
from trainfare_providers.gcp.skus import Part, read_sku
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.refresh import FetchedRows
from trainfare_providers.source_rows import Refused

RECORDED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "prices" / "recorded"
TODAY = "2026-11-24"


def off_the_wire(skus: Sequence[Any]) -> list[Any]:
    parsed = parse_json(page(skus))
    assert isinstance(parsed, dict)
    return parsed["skus"]


def fetch_rows(compute: Sequence[Any] = COMPUTE, tpu: Sequence[Any] = TPU) -> tuple[FetchedRows, FetchedRows]:
    sinks = catalogue_rows(off_the_wire(compute), off_the_wire(tpu), source="x", today=TODAY)
    return sinks[0].finish(), sinks[1].finish()


def book(compute: Sequence[Any] = COMPUTE, tpu: Sequence[Any] = TPU) -> PriceBook:
    return PriceBook.concat(
        [PriceBook.from_rows(part.rows, origin="gcp") for part in fetch_rows(compute, tpu)]
    )


def price(machine: str, option: str = "on_demand") -> float:
    name, _, region = machine.partition("@")
    frame = book().frame
    data_frame = frame.filter(
        (frame["instance_type"] == name) & (frame["region"] == region) & (frame["purchase_option"] == option)
    )
    (usd,) = set(data_frame["usd_per_hour"])
    return usd


def reasons(found: FetchedRows) -> dict[str, int]:
    return {tally.reason: tally.rows for tally in (*found.filtered, *found.quarantined)}


def read(description: str, usd: str = "1", usage: str = "OnDemand", **changes: Any) -> Part | Refused:
    (one,) = off_the_wire([sku(description, usd, usage, **changes)])
    return read_sku(one, today=TODAY)


def test_rows_are_the_golden_ones() -> None:
    """The whole fixture: `TRAINFARE_UPDATE_GOLDEN=1` rewrites tests/golden/gcp_rows.csv."""
    frame = book().frame
    assert csv_of(frame) == golden(
        frame, "gcp_rows.csv", update=os.environ.get("TRAINFARE_UPDATE_GOLDEN") == "1"
    )


@pytest.mark.parametrize(
    ("machine", "option", "usd_per_hour"),
    [
        ("a2-highgpu-1g@us-central1", "on_demand", 3.673385),  # 12 cores + 85 GiB + one A100
        ("a2-megagpu-16g@us-central1", "on_demand", 55.739504),
        ("a2-highgpu-1g@us-central1", "spot", 1.92802),
        ("a2-highgpu-1g@us-central1", "reserved_1y", 2.31420704),
        ("a2-megagpu-16g@us-central1", "reserved_1y", 35.11547264),
        ("a2-ultragpu-1g@us-central1", "on_demand", 5.06879789),  # with 375 GiB of local SSD
        ("a2-ultragpu-8g@us-central1", "on_demand", 40.55038312),
        ("a3-highgpu-8g@us-central1", "on_demand", 88.49),  # with 6,000 GiB of local SSD; 87.83 without
        ("a3-highgpu-1g@us-central1", "on_demand", 11.06125),
        ("a3-megagpu-8g@us-central1", "on_demand", 93.40),
        ("a4-highgpu-8g@us-central1", "spot", 39.6336),
        ("a4-highgpu-8g@us-central1", "reserved_1y", 88.9272),
        ("a4-highgpu-8g@us-central1", "reserved_3y", 56.7072),
        ("g2-standard-4@us-central1", "on_demand", 0.70683226),
        ("g2-standard-48@us-central1", "on_demand", 4.00166515),
        ("g4-standard-384@us-central1", "on_demand", 35.99944),
        ("n1-standard-8+nvidia-tesla-t4x1@us-central1", "on_demand", 0.729998),
        ("v2-8@us-central1", "on_demand", 4.5),  # a device of 4 chips
        ("v2-32@us-central1", "on_demand", 24.0),  # a pod: 16 chips of 1.50, not of 1.125
        ("v2-8@us-central1", "spot", 1.35),
        ("v3-8@us-central1", "on_demand", 8.0),
        ("v4-8@us-central2", "on_demand", 12.88),  # 4 chips of 3.22
        ("v4-8@us-central2", "spot", 3.686),
        ("v5litepod-8@us-west4", "on_demand", 9.6),  # 8 chips of 1.20
        ("v5litepod-8@us-west4", "spot", 3.84),
        ("v5p-8@us-east5", "on_demand", 16.8),  # 4 chips of 4.20
        ("v6e-8@us-east5", "on_demand", 21.6),
        ("v6e-8@us-east5", "spot", 11.2264),
        ("tpu7x-8@us-central1", "on_demand", 48.0),
    ],
)
def test_published_prices_come_out_to_the_cent(machine: str, option: str, usd_per_hour: float) -> None:
    assert price(machine, option) == pytest.approx(usd_per_hour, abs=0.005)


def test_shares_of_a_g4_gpu_have_no_price_by_the_whole_gpu() -> None:
    """
    An eighth of g4-standard-48 would be 0.562 and Google's own script has 0.646860625 for g4-standard-6.

    GoogleCloudPlatform/accelerated-platforms, run_benchmark.sh of the inference reference architecture, "prices as of
    April 2026": rtx-pro-6000 4.4999, 1-2 2.5874425, 1-4 1.29372125, 1-8 0.646860625. No SKU that is read gives these.
    """
    types = set(book().frame["instance_type"])
    assert {"g4-standard-48", "g4-standard-96", "g4-standard-192", "g4-standard-384"} <= types
    assert not types & {"g4-standard-6", "g4-standard-12", "g4-standard-24"}


def test_a2_price_is_exact() -> None:
    """12 x 0.031611 + 85 x 0.004237 + 2.933908, without a rounding anywhere."""
    rows = fetch_rows()[0].rows
    row = rows.filter(
        (rows["instance_type"] == "a2-highgpu-1g")
        & (rows["region"] == "us-central1")
        & (rows["purchase_option"] == "on_demand")
    )
    assert Decimal(row["usd_per_hour"].item()) == Decimal("3.673385")
    assert row["sku"].item().count("+") == 2  # the three SKUs it is made of
    assert row["observed_on"].item() == "2026-07-01"


def test_every_sku_and_every_sum_is_counted_once() -> None:
    """Nothing is lost: SKUs end as parts or are left out, sums are rows or are not."""
    gce, tpu = fetch_rows()
    assert reasons(gce)["a part of the machine's price is missing: ram"] == 4  # the A2 machines of Tokyo
    assert reasons(gce)["region in which this machine is not known to exist"] > 0
    assert reasons(gce)["machine that is not offered on demand although it has a SKU"] == 2  # A4, A3 Ultra
    # g4-standard-6, -12 and -24
    assert reasons(gce)["share of a G4's GPU, billed under a vGPU SKU of its own that is not known"] == 3
    read_parts = [read_sku(one, today=TODAY) for one in off_the_wire([*COMPUTE, *TPU])]
    index = PartIndex([part for part in read_parts if isinstance(part, Part)])
    sums = [*machine_rows(index, source="x"), *slice_rows(index, source="x")]
    counted = sum(rows.rows.height + sum(reasons(rows).values()) for rows in (gce, tpu))
    assert counted == len(COMPUTE) + len(TPU) + len(sums)
    for rows in (gce, tpu):
        (intake,) = accept(rows.rows, origin="gcp").intakes
        assert intake.accepted == rows.rows.height


def test_sanity_checks_accept_every_row() -> None:
    """Spot below on demand, more GPUs never cheaper, memory as the makers say."""
    for rows in fetch_rows():
        judged = accept(rows.rows, origin="gcp", last=LastPrices())
        assert [intake.quarantined for intake in judged.intakes] == [()]


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("Reserved Nvidia H100 80GB Mega GPU in Americas in Calendar Mode", "reserved capacity"),
        ("Nvidia H100 80GB GPU running in Americas in Calendar Mode", "DWS calendar mode"),
        (
            "Nvidia H100 Mega 80GB GPU attached to DWS Defined Duration VMs running in Americas",
            "DWS defined duration (flex-start)",
        ),
        ("DWS Flex Start H4D Core running in Americas", "DWS"),
        ("Nvidia Tesla T4 GPU attached to Sole Tenancy VMs running in Americas", "sole tenancy"),
        ("G2 Custom Instance Core running in Americas", "custom machine"),
        ("Custom Instance Core running in Americas", "custom machine"),
        ("Sole Tenancy Premium for A2 Instance running in Americas", "sole tenancy"),
        (
            "Committed Use Discount Premium for A2 Instance Core running in Americas",
            "premium upon another price",
        ),
        ("Capacity Optimized TpuV6e running in Columbus", "capacity optimized"),
        ("Commitment v1: A2 Cpu in Americas for 5 Years", "commitment of another term"),
        (
            "Licensing Fee for A2 Instance Core running in Americas",
            "not a part of a machine with accelerators",
        ),
        ("Commitment: Tpu-v4 Pod for 1 Year", "not a part of a machine with accelerators"),
        ("Tpu-v4 Pod CUD 1 Year", "commitment for an old TPU"),
        ("Z3 Instance Local SSD running in Americas", "not a part of a machine with accelerators"),
        ("TpuV5e running in Delhi for 1 Year", "term without a commitment"),
    ],
)
def test_sku_that_only_contains_a_parts_name_is_not_a_part(description: str, reason: str) -> None:
    """A catalogue that took these for the plain price has H100 at 4.20 instead of 9.80."""
    part = read(description)
    assert isinstance(part, Refused)
    assert part.reason == reason


def test_spot_is_read_from_the_description_not_the_usage_type() -> None:
    """B200's spot SKU says OnDemand; a plain SKU that says Preemptible is quarantined."""
    spot = read("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Americas", "4.9542", "OnDemand")
    assert isinstance(spot, Part)
    assert (spot.kind, spot.of, spot.option) == ("gpu", "A4-SLICE", "spot")
    for description, usage in (
        ("Nvidia L4 GPU running in Americas", "Preemptible"),
        ("Nvidia L4 GPU running in Americas", "Commit1Yr"),
        ("Commitment v1: Nvidia L4 GPU running in Americas for 3 Years", "Commit1Yr"),
    ):
        part = read(description, "1", usage)
        assert isinstance(part, Refused)
        assert (part.reason, part.quarantined) == ("usage type and description disagree", True)


@pytest.mark.parametrize(
    ("units", "nanos", "usd"),
    [
        ("2", 933908000, "2.933908"),
        ("0", 4237000, "0.004237"),  # nanos are billionths: 4237000 is 0.004237, not 0.4237
        ("2", 5, "2.000000005"),
        (3, 0, "3"),
        ("3", None, None),
        ("two", 0, None),
        ("-1", 0, None),
        ("1", -5, None),
        ("1", 1_000_000_000, None),
        ("1_0", 0, None),
        ("\u0661", 0, None),
        ("9999999999", 0, None),
        (True, 0, None),
        (2.5, 0, None),
        ("1", 0.5, None),
    ],
)
def test_money_is_units_and_billionths(units: object, nanos: object, usd: str | None) -> None:
    fields = sku("Nvidia L4 GPU running in Americas", "1")
    fields["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"] |= {
        "units": units,
        "nanos": nanos,
    }
    (parsed,) = off_the_wire([fields])
    part = read_sku(parsed, today=TODAY)
    if usd is None:
        assert part == Refused("price is not a number", quarantined=True)
    else:
        assert isinstance(part, Part)
        assert part.usd == Decimal(usd)


def change_field(**changes: Any) -> dict[str, Any]:
    fields = sku("Nvidia L4 GPU running in Americas", "0.56")
    info = fields["pricingInfo"][0]
    expression = info["pricingExpression"]
    for name, value in changes.items():
        for index in (
            fields,
            fields["category"],
            info,
            expression,
            expression["tieredRates"][0]["unitPrice"],
        ):
            if name in index:
                index[name] = value
    return fields


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (change_field(currencyCode="IDR"), "currency is not USD"),
        (change_field(usageUnit="mo"), "price of another unit"),
        (change_field(pricingInfo=[]), "no price that has begun"),
        (change_field(effectiveTime="2031-01-01T00:00:00Z"), "no price that has begun"),
        (change_field(effectiveTime=None), "no price that has begun"),
        (change_field(tieredRates=[]), "not one price but tiers"),
        (change_field(serviceRegions=[]), "no SKU id or regions"),
        (change_field(serviceRegions=["us central"]), "no SKU id or regions"),
        (change_field(skuId=None), "no SKU id or regions"),
        (change_field(units="0", nanos=0), "price of 0"),
        (change_field(description=None), "no description"),
        ("no object", "no description"),
        (change_field(category=7), "usage type and description disagree"),
    ],
)
def test_malformed_sku_is_counted_and_not_used(one: Any, reason: str) -> None:
    (parsed,) = off_the_wire([one])
    part = read_sku(parsed, today=TODAY)
    assert isinstance(part, Refused)
    assert part.reason == reason


def test_newest_price_that_already_holds_is_used() -> None:
    fields = sku("Nvidia L4 GPU running in Americas", "0.56")
    older, newer, future = (json.loads(json.dumps(fields["pricingInfo"][0])) for _ in range(3))
    for info, day, nanos in ((older, "2024-01-01", 1), (newer, "2026-02-01", 2), (future, "2027-01-01", 3)):
        info["effectiveTime"] = f"{day}T00:00:00Z"
        info["pricingExpression"]["tieredRates"][0]["unitPrice"]["nanos"] = nanos
    (parsed,) = off_the_wire([{**fields, "pricingInfo": [newer, future, older]}])
    part = read_sku(parsed, today=TODAY)
    assert isinstance(part, Part)
    assert (part.usd, part.effective_on) == (Decimal("2E-9"), "2026-02-01")


@pytest.mark.parametrize("missing", ["Core", "Ram", "GPU", "SSD"])
def test_machine_with_a_missing_part_has_no_price(missing: str) -> None:
    """Host without GPU, GPU without host, all without the local SSD that comes with it: never a sum of the rest."""
    whole = [
        fields
        for fields in COMPUTE
        if fields["description"].startswith(("A3 ", "Nvidia H100 80GB GPU", "SSD"))
    ]
    parts = [fields for fields in whole if missing not in fields["description"]]
    assert len(whole) - len(parts) == 1
    gce, _ = fetch_rows(parts, ())
    assert gce.rows.is_empty()
    words = {"Core": "core", "Ram": "ram", "GPU": "gpu", "SSD": "ssd"}[missing]
    assert {tally.reason: tally.rows for tally in gce.quarantined} == {
        f"a part of the machine's price is missing: {words}": 4
    }
    assert fetch_rows(whole, ())[0].rows.height == 4


def test_part_with_two_prices_gives_no_machine_price() -> None:
    """Not the first, not the cheaper; the same price twice is one."""
    again = sku("Nvidia H100 80GB Mega GPU running in Iowa", "4.84")
    gce, _ = fetch_rows([*COMPUTE, again], ())
    assert "a3-megagpu-8g" not in gce.rows["instance_type"].to_list()
    assert reasons(gce)["two different prices for one part: gpu"] == 1
    same = sku("Nvidia H100 80GB Mega GPU running in Iowa", "10.344276")
    assert "a3-megagpu-8g" in fetch_rows([*COMPUTE, same], ())[0].rows["instance_type"].to_list()


def test_sku_of_a_region_without_the_machine_makes_no_offer() -> None:
    """The catalogue prices an A100 in Sydney; there is none."""
    gce, _ = fetch_rows()
    assert "australia-southeast1" not in gce.rows["region"].to_list()


@pytest.mark.parametrize(
    ("machine", "gpu", "usd_per_hour"),
    [
        # 8 x 0.031611 + 30 x 0.004237 + 1.46, and 4 x 0.031611 + 15 x 0.004237 + 0.60: cloud.google.com/compute/gpus-pricing
        ("n1-standard-8+nvidia-tesla-p100x1", "Nvidia Tesla P100 GPU running in Americas", 1.839998),
        ("n1-standard-4+nvidia-tesla-p4x1", "Nvidia Tesla P4 GPU running in Americas", 0.789999),
    ],
)
def test_older_gpus_of_n1_have_a_price(machine: str, gpu: str, usd_per_hour: float) -> None:
    one = sku(gpu, "1.46" if "P100" in gpu else "0.60")
    gce, _ = fetch_rows([*COMPUTE, one], ())
    row = PriceBook.from_rows(gce.rows, origin="gcp").find(f"gcp:{machine}@us-central1")
    assert row.usd_per_hour == pytest.approx(usd_per_hour)


def test_machine_that_reservations_and_spot_give_has_no_price_on_demand() -> None:
    """A3 Ultra: "reserve capacity, use Spot VMs, use Flex-start VMs" (docs.cloud.google.com/compute/docs/gpus)."""
    whole = [
        make(f"{before}{name} running in Virginia", "0.01", usage, regions=("us-east4",))
        for before, usage in (("", "OnDemand"), ("Spot Preemptible ", "Preemptible"))
        for make, name in (
            (sku, "A3Ultra Instance Core"),
            (ram, "A3Ultra Instance Ram"),
            (sku, "H200 141GB GPU"),
            (ssd, "SSD backed Local Storage"),
        )
    ]
    gce, _ = fetch_rows(whole, ())
    assert gce.rows["purchase_option"].to_list() == ["spot"]
    assert reasons(gce)["machine that is not offered on demand although it has a SKU"] == 1


def test_slice_of_a_zone_that_google_does_not_list_has_a_caveat() -> None:
    """docs.cloud.google.com/tpu/docs/regions-zones names us-east5-a for v5p, and not us-east5-b."""
    frame = book().frame.filter(book().frame["instance_type"] == "v5p-8")
    doubts = dict(frame.select("zone", "caveat").iter_rows())
    assert doubts["us-east5-a"] is None
    assert "does not list this zone" in (doubts["us-east5-b"] or "")


def test_sizes_offered_only_as_spot_have_a_caveat() -> None:
    frame = book().frame
    small = frame.filter(frame["instance_type"] == "a3-highgpu-1g")
    assert small["caveat"].str.contains("only as spot or flex-start").all()
    assert frame.filter(frame["instance_type"] == "a3-highgpu-8g")["caveat"].null_count() == 1


@pytest.mark.parametrize(
    ("description", "usd", "region"),
    [
        ("Tpu-v4 Pod Accelerator USA", "3.22", "us-central2"),  # of a chip already: a quarter would come out
        ("TpuV5p running in Columbus", "16.8", "us-east5"),  # of four chips
        ("TpuV6e running in Columbus", "700", "us-east5"),  # a sentinel for "no price"
    ],
)
def test_chip_hour_far_from_the_published_one_is_quarantined(description: str, usd: str, region: str) -> None:
    _, tpu = fetch_rows((), [sku(description, usd, regions=(region,))])
    assert tpu.rows.is_empty()
    assert {tally.reason for tally in tpu.quarantined} == {
        "chip-hour far from the published price: another unit?"
    }  # fmt: skip


@pytest.mark.parametrize(("usd", "passes"), [("0.2673", True), ("0.243", True), ("0.2429", False)])
def test_tpu_spot_may_cost_nine_hundredths(usd: str, passes: bool) -> None:
    """
    Spot VMs cost "up to 91 %" less than on demand: 0.09 of the 2.70 USD that a v6e chip costs at least.

    0.2673 is 0.09 of 2.97, the on-demand price of Singapore (https://cloud.google.com/compute/docs/instances/spot).
    """
    spot = sku(
        "TpuV6e attached to Spot Preemptible VMs running in Singapore",
        usd,
        "Preemptible",
        ("asia-southeast1",),
    )
    _, tpu = fetch_rows((), [spot])
    assert (tpu.rows.height > 0) is passes
    assert (not tpu.quarantined) is passes


def test_slices_are_named_by_cores_or_by_chips() -> None:
    frame = book().frame.filter(book().frame["service"] == "tpu")
    counts = dict(frame.select("instance_type", "accelerator_count").iter_rows())
    assert (counts["v5p-8"], counts["v5litepod-8"], counts["v6e-8"], counts["v2-8"], counts["v4-8"]) == (
        4,
        8,
        8,
        4,
        4,
    )
    assert frame["zone"].null_count() == 0
    assert frame["vcpus"].null_count() == frame.height  # the host is in the price


def test_tables_agree_with_each_other_and_with_the_accelerators() -> None:
    """Every GPU and host of a machine is one that some SKU names; every slice is of a known generation."""
    from trainfare_core.hardware.accelerators import accelerator

    for machine in machines():
        assert machine.regions
        assert accelerator(machine.machine.accelerator).memory_bytes / 2**30 == pytest.approx(
            machine.machine.accelerator_memory_gib, rel=0.08
        )
    for generation in known_generations().values():
        known = accelerator(generation.accelerator)
        assert known.memory_bytes / 2**30 == pytest.approx(generation.memory_gib, rel=0.08)


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded answers are not beside this repository")
def test_recorded_skus_make_the_published_a2_price() -> None:
    """Seven real SKUs of 2023-03, four of them in rupiah or of other machines."""
    text = (RECORDED / "gcp_cloud_billing_skus_a2_a100_2023-03.json").read_text("utf-8")
    gce, _ = fetch_rows(json.loads(text)["skus"], ())
    prices = dict(
        gce.rows.filter(gce.rows["region"] == "us-central1")
        .select("instance_type", "usd_per_hour")
        .iter_rows()
    )
    assert Decimal(prices["a2-highgpu-1g"]) == Decimal("3.673385")
    assert reasons(gce)["not a part of a machine with accelerators"] == 4
    assert set(gce.rows["observed_on"]) == {"2023-03-24"}
