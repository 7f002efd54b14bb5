"""Prices, published figures, interruptions, numbers in words and chips, for drawn inputs; see `builders.recorded`."""

from __future__ import annotations

import itertools
import random
from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import polars as pl

import trainfare_core.clouds as clouds
import trainfare_core.number_format as number_format
from builders.recorded import answer_or_error, compare_with_recorded
from builders.toy_market import offer_row, small_job
from trainfare_core.clouds.region_places import country_of, lies_in
from trainfare_core.documents import escape_controls, format_records, is_flat, is_too_deep
from trainfare_core.hardware.accelerators import accelerator, resolve_device
from trainfare_core.interruptions.hazard import HAZARDS, find_hazards, hazard_of_band, hazard_of_range
from trainfare_core.interruptions.process import SpotProcess
from trainfare_core.job_profile import JobProfile, ProfileSource
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prediction.porting import Environment
from trainfare_core.prices.age_doubt import moves_of, price_log_sigma, price_moves, too_old_to_rank
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.explain import explain_prices
from trainfare_core.prices.freshness import end_of_day, fresh_hours, with_ages
from trainfare_core.prices.listing import Query, select
from trainfare_core.prices.own_prices import Discount, OwnPrices, Rate, apply_own
from trainfare_core.prices.status import price_status
from trainfare_core.ranking.pricing.price_doubt import filter_by_residency
from trainfare_core.run_cost.billing import BillingClock
from trainfare_core.run_cost.disks import disk_usd_per_gib_month, disks_usd_per_hour, system_disk_gib
from trainfare_core.run_cost.timing import forward_share
from trainfare_core.run_cost_facts import find_fact
from trainfare_core.run_cost_facts.facts import KINDS
from trainfare_core.run_cost_facts.lookup import default_quota, interruption_band, local_disk

NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
NUMBERS = (0.0, 1e-12, 0.0004, 0.004, 0.0049, 0.05, 0.0995, 0.3, 0.94999, 0.995, 0.9994, 1.0, 1.02, 9.95, 9.996, 10.0, 59.6, 60.0,
           99.5, 119.9, 999.5, 3599.0, 3600.0, 86_399.0, 86_400.0, 1.2e6, 3e9, -0.3, -12.0)  # fmt: skip


def test_numbers_and_texts_in_words() -> None:
    answers: dict[str, Any] = {}
    for value in NUMBERS:
        answers[f"{value}"] = [
            number_format.figures(value), number_format.figures(value, 2), number_format.percent(value), number_format.percent(value, 1),
            number_format.percent(value, sign=True), number_format.percent(value / 100), number_format.duration(abs(value)),
            number_format.hours_text(abs(value)), number_format.quantify(abs(value), "run"), number_format.time_unit(abs(value)),
            number_format.hours_range(abs(value), abs(value) / 2, abs(value) * 2),
        ]  # fmt: skip
    text = "It failed. The file data/train.csv is empty. Nothing was read from it"
    for most in range(4, 72, 3):
        answers[f"in {most}"] = [
            number_format.shorten_text(text, most), number_format.shorten_text("a" * 60, most),
            number_format.list_items(["alpha", "beta", "gamma", "delta"], most), number_format.list_items(["alpha", "beta"], most, more="others"),
            number_format.list_items(["a", "b", "c", "d", "e"], most, most_items=3, separator="; "),
        ]  # fmt: skip
    nested: Any = 1
    for depth in range(260):
        if depth in (1, 9, 99, 100, 101, 199, 200, 201):
            answers[f"deep {depth}"] = is_too_deep(nested)
        nested = [nested] if depth % 2 else {"a": nested}
    answers["texts"] = [
        escape_controls(text) for text in ("a\x00b\x1b[0m", "\u202eab\u2066", "a\tb\nc\r\x7f\x9b", "plain ü")
    ]
    records = {
        "a": 1,
        "rows": [{"x": 1, "y": "z"}, {"x": 2.5, "y": None}],
        "deep": {"b": [1, 2, [3]]},
        "none": [],
        "empty": {},
    }
    answers["records"] = [format_records(records), is_flat(records), is_flat(records["rows"][0])]
    for usd, gb in itertools.product((None, 90.0), (0.0, 500.0)):
        costs = CostAssumptions(startup_s=usd, compile_s=usd, stage_gb_per_s=2.0)
        answers[f"costs {usd} {gb}"] = [
            [costs.startup_of(service) for service in clouds.SERVICES],
            [costs.compile_of(kind, compiled=on) for kind in (None, "gpu", "tpu", "trainium", "gaudi", "other") for on in (True, False)],
            costs.stage_s(gb), costs.disk_bytes_per_s,
        ]  # fmt: skip
    for provider, service in (
        ("aws", "ec2"),
        ("gcp", "tpu"),
        ("azure", "azure_ml"),
        ("lambda", "lambda"),
        ("aws", "other"),
        ("x", "y"),
    ):
        answers[f"{provider} {service}"] = [
            clouds.service_label(provider, service), clouds.service_startup_s(service), clouds.pip_extra(provider),
        ]  # fmt: skip
    for cloud, region in (
        ("aws", "eu-west-1"),
        ("gcp", "us-west4"),
        ("azure", "westeurope"),
        ("aws", "nowhere-1"),
        ("lambda", "us-east-1"),
    ):
        answers[f"{cloud}:{region}"] = [
            country_of(cloud, region), [lies_in(cloud, region, (place,)) for place in ("eu", "europe", "us", "north-america", "ie", "gb")]
        ]  # fmt: skip
    compare_with_recorded("words", answers)


def draw_rows(draws: random.Random, count: int) -> list[dict[str, Any]]:
    """Draw offers, some of them wrong in one column."""
    rows = []
    for index in range(count):
        machine, chip, memory = draws.choice(
            [("a100.1x", "A100-SXM-80GB", 80.0), ("t4.1x", "T4-16GB", 16.0), ("new", "Nonesuch-9000", 1.0)]
        )
        row = offer_row(
            instance_type=machine, accelerator=chip, accelerator_memory_gib=memory,
            region=draws.choice(["us-east-1", "eu-west-1", "us-west-2"]), usd_per_hour=draws.choice([0.5, 1.0, 4.0]),
            purchase_option=draws.choice(["on_demand", "spot", "reserved_1y"]), provider=draws.choice(["aws", "aws", "gcp"]),
            observed_on=draws.choice(["2026-11-29", "2026-07-20", "2026-03", "2024"]),
            observed_on_estimated=draws.random() < 0.2,
            fetched_at=draws.choice([None, "2026-11-30T08:00:00Z", "2026-09-01T08:00:00Z"]), zone=draws.choice([None, None, "a"]),
        )  # fmt: skip
        row["service"] = "ec2" if row["provider"] == "aws" else "gce"
        if draws.random() < 0.35:
            column, value = draws.choice(
                [("usd_per_hour", 0.0), ("usd_per_hour", -1.0), ("usd_per_hour", 1e6), ("usd_per_hour", 1.0001e6), ("usd_per_hour", None),
                 ("accelerator_count", 0.0), ("accelerator_count", None), ("accelerator_memory_gib", -1.0), ("region", ""), ("region", "x" * 201),
                 ("region", "x" * 200), ("currency", "EUR"), ("observed_on", "2026-13"), ("observed_on", "never"), ("accelerator", None),
                 ("purchase_option", "lottery"), ("source", ""), ("vcpus", -2.0), ("network_gbit_per_s", 0.0), ("source_class", "text"),
                 ("caveat", "a price of the sandbox")]
            )  # fmt: skip
            row[column] = value
        rows.append(row)
        if index % 9 == 0:
            rows.append({**row, "usd_per_hour": draws.choice([row["usd_per_hour"], 3.0])})
    return rows


def read_book(rows: list[dict[str, Any]], origin: str) -> PriceBook:
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    return PriceBook.from_rows(frame, origin=origin)


def list_prices(prices: PriceBook) -> Any:
    columns = [
        "provider",
        "instance_type",
        "region",
        "zone",
        "purchase_option",
        "usd_per_hour",
        "observed_on",
        "fetched_at",
    ]
    return [" ".join(map(str, row)) for row in sorted(prices.rows.select(columns).rows(), key=str)]


def test_books_of_drawn_rows() -> None:
    draws, answers = random.Random(7), {}
    for index in range(14):
        first = read_book(draw_rows(draws, 16), draws.choice(["snapshot", "live"]))
        second = read_book(draw_rows(draws, 8), "live")
        both = PriceBook.concat([first, second])
        answers[f"{index} book"] = [
            list_prices(both),
            [intake.counts() for intake in both.intakes],
            both.newest_date,
            both.facts(),
        ]
        answers[f"{index} intakes"] = [
            [intake.filtered, intake.quarantined, intake.degraded] for intake in first.intakes
        ]
        answers[f"{index} aside"] = [frame["set_aside"].to_list() for frame in both.set_aside]
        answers[f"{index} status"] = answer_or_error(lambda both=both: price_status(both, as_of=NOW))
        answers[f"{index} residency"] = list_prices(filter_by_residency(both, ("eu",)))
        machine = draws.choice(["a100.1x", "t4.1x", "aws:a100.1x", "A100-SXM-80GB"])
        answers[f"{index} explained"] = answer_or_error(
            lambda both=both, machine=machine: explain_prices(both, machine, as_of=NOW)
        )
        query = Query(
            max_usd_per_hour=draws.choice([None, 0.99, 1.0, 3.0]), all_clouds=draws.random() < 0.5,
            sort=draws.choice(["price", "price-per-accelerator", "memory"]),
        )  # fmt: skip
        report = answer_or_error(lambda both=both, query=query: select(both, query, limit=4))
        answers[f"{index} listed"] = report
        own = OwnPrices(
            discount=(
                Discount(name="edp", percent="12.5", provider="aws", valid_from=date(2026, 1, 1), valid_until=date(2026, 11, 30)),
                Discount(name="t4", percent="3", provider="aws", accelerators=("T4-16GB",), purchase_options=("on_demand", "spot")),
                Discount(name="old", percent="50", provider="gcp", valid_until=date(2026, 11, 29)),
            ),
            rate=(
                Rate(name="r", provider="aws", service="ec2", instance_type="a100.1x", region="us-east-1", total_usd="700", term_hours="400",
                     agreed_on=date(2026, 10, 1)),
            ),
        )  # fmt: skip
        applied = answer_or_error(lambda both=both, own=own: apply_own(both, own, day=date(2026, 11, 30)))
        answers[f"{index} own"] = (
            applied if isinstance(applied, str) else [list_prices(applied.book), applied.notes]
        )
        aged = with_ages(both.rows, NOW)
        sigma = price_log_sigma(aged)
        names = [
            column for column in aged.columns if "age" in column or "fresh" in column or "stale" in column
        ]
        answers[f"{index} ages"] = [
            names, [aged[name].to_list() for name in names], sigma,
            too_old_to_rank(aged["purchase_option"].cast(pl.String).to_numpy().astype(np.str_), sigma),
        ]  # fmt: skip
    for moves in price_moves():
        answers[f"moves of {moves.provider} {moves.service} {moves.purchase_option}"] = [
            [moves.chance_changed(days), moves.log_half_width(days), moves.log_half_width(days, 0.95)] for days in (0.5, 7, 40, 400)
        ]  # fmt: skip
    answers["classes"] = [
        moves_of(*names).pairs
        for names in (("aws", "ec2", "spot"), ("gcp", "gce", "on_demand"), ("x", "y", "z"))
    ]
    answers["fresh"] = [
        [option, fresh_hours(option)] for option in ("on_demand", "spot", "reserved_1y", "capacity_block")
    ]
    answers["end of day"] = end_of_day(date(2026, 11, 30))
    compare_with_recorded("prices", answers)


def test_interruptions_of_drawn_runs() -> None:
    draws, answers = random.Random(8), {}
    for index in range(24):
        rates = (
            np.array([[draws.choice([1e-9, 1e-4, 1e-3, 0.02, 0.3, 2.0]) for _ in range(3)] for _ in range(4)])
            / 3600
        )
        column = np.array([1.0, 2.0, 0.3, 10.0])
        sigma = np.array([0.0, 0.05, 0.2, 0.6])
        run = SpotProcess(
            rates, draws.choice([60.0, 1770.0, 40_000.0]) * column, draws.choice([0.0, 30.0, 900.0]) * column,
            draws.choice([60.0, 300.0]) * column, draws.choice([0.0, 900.0]), draws.choice([0.5, 1.0, 40.0, 3000.0]) * column, sigma,
        )  # fmt: skip
        startup_s, prices = 200.0 * column, np.array([0.0, 0.1, 0.3, 1.0])
        ends = run.ends(
            startup_s, draws.choice([0.0, 0.4]), draws.choice([0.0, 1800.0]) * column, 30.0 * column
        )
        middle, limit = ends.find_hours(0.5), ends.find_billed_hours(0.5, prices)
        answers[str(index)] = [
            run.undisturbed_s, run.lost_s, run.interruptions, run.waited_s, run.best_interval_s,
            run.select(slice(1)).fall_back(draws.choice([1, 2, 5]), startup_s[:1], 0.3),
            *(ends.find_hours(chance) for chance in (0.1, 0.5, 0.9, 0.999)),
            *(ends.find_billed_hours(chance, prices) for chance in (0.1, 0.5, 0.9)),
            *(ends.find_chances(hours, billed, prices) for hours, billed in ((middle * 1.1, limit), (middle, limit * 1.2), (middle * 9, limit * 9))),
        ]  # fmt: skip
    answers["hazards"] = [[hazard.median_per_hour, hazard.per_hour] for hazard in HAZARDS]
    answers["bands"] = [
        answer_or_error(lambda band=band: hazard_of_band(band))
        for band in ("<5%", "5-10%", "10-15%", "15-20%", ">20%", "x")
    ]
    answers["ranges"] = [
        answer_or_error(lambda pair=pair: hazard_of_range(*pair))
        for pair in itertools.product(("<5%", "10-15%"), ("<5%", ">20%"))
    ]
    answers["machines"] = [
        answer_or_error(lambda cloud=cloud, machine=machine: find_hazards(cloud, machine))
        for cloud, machine in (("aws", "p4d.24xlarge"), ("aws", "nothing"), ("gcp", "a2-highgpu-1g"), ("azure", "Standard_NC24ads_A100_v4"))
    ]  # fmt: skip
    compare_with_recorded("interruptions", answers)


PLACES = (("aws", "ec2", "us-east-1", "p5.48xlarge"), ("aws", "sagemaker", "eu-west-1", "ml.g5.xlarge"),
          ("azure", "azure_vm", "westeurope", "Standard_NC24ads_A100_v4"), ("gcp", "gce", "us-central1", "a2-highgpu-1g"),
          ("gcp", "tpu", "us-west4", "tpu-v5e-4"), ("lambda", "lambda", "us-east-1", "gpu_1x_a100"))  # fmt: skip


def test_published_figures_of_runs() -> None:
    answers: dict[str, Any] = {}
    for kind, (cloud, service, region, machine) in itertools.product(KINDS, PLACES):
        for item in ("", "standard", "gp3", "read", "on_demand"):
            found = answer_or_error(
                lambda kind=kind, cloud=cloud, service=service, region=region, machine=machine, item=item: (
                    find_fact(kind, cloud, region, service=service, machine=machine, item=item)
                )
            )
            name = f"{kind} {cloud} {service} {item}"
            if hasattr(found, "usd"):
                answers[name] = [
                    found.usd(gb, gb_before=before)
                    for gb in (0.0, 50.0, 1100.0, 2e5)
                    for before in (0.0, 90.0, 2e4)
                ]
            elif hasattr(found, "usd_per_month"):
                answers[name] = [found.usd_per_month(size) for size in (1.0, 50.0, 129.0, 5000.0)]
            elif hasattr(found, "because") and item:
                continue
            else:
                answers[name] = str(getattr(found, "because", None) or getattr(found, "value", found))
    for cloud, service, region, machine in PLACES:
        assumed = CostAssumptions()
        answers[f"of {cloud} {service}"] = [
            *(str(answer_or_error(call)) for call in (
                lambda cloud=cloud, machine=machine: local_disk(cloud, machine),
                lambda cloud=cloud, machine=machine, region=region: interruption_band(cloud, machine, region),
                lambda cloud=cloud, service=service, machine=machine: default_quota(cloud, service, machine, spot=True),
                lambda assumed=assumed, cloud=cloud, service=service, machine=machine: system_disk_gib(assumed, cloud, service, machine),
                lambda assumed=assumed, cloud=cloud, service=service: BillingClock.of(assumed, cloud, service),
                lambda assumed=assumed, cloud=cloud, service=service, region=region, machine=machine: disk_usd_per_gib_month(
                    assumed, cloud, service, region, machine),
            ))
        ]  # fmt: skip
    answers["disks"] = disks_usd_per_hour(np.array([0.0, 100.0, 2000.0]), np.array([0.08, 0.1, 0.14]))
    answers["forward"] = forward_share(small_job())
    compare_with_recorded("published_figures", answers)


def test_chips_and_what_they_run() -> None:
    answers: dict[str, Any] = {}
    chips = (
        "T4-16GB",
        "A100-SXM-40GB",
        "H100-SXM-80GB",
        "L4-24GB",
        "MI300X",
        "TPU-v5e",
        "Trainium2",
        "Inferentia2",
        "Gaudi3-128GB",
    )
    jobs: dict[str, JobProfile] = {
        "plain": small_job(),
        "compiled": small_job(source=ProfileSource(how="real", tool_version="0", compiled=True)),
        "fp16": small_job(precision="16-mixed"),
        "sparse": small_job(
            parallel=small_job().parallel.model_copy(update={"strategy": "deepspeed_stage_3"})
        ),
    }
    for chip in chips:
        device = accelerator(chip)
        answers[chip] = [
            device.peak_flops_per_s(kind)
            for kind in ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp64", "x")
        ]
        for job_name, job in jobs.items():
            environment = Environment.of(job)
            answers[f"{chip} {job_name}"] = [environment.obstacle(device), environment.impossible(device)]
    texts = ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 80GB PCIe", "NVIDIA H100 80GB HBM3", "Tesla T4", "NVIDIA L4", "NVIDIA RTX A4000",
             "AMD Instinct MI300X", "Tesla V100-SXM2-16GB", "nothing", "NVIDIA GeForce RTX 4090", "H100", "A100")  # fmt: skip
    for text, gib in itertools.product(texts, (None, 15.9, 31.7, 39.5, 79.2)):
        found = resolve_device(text, None if gib is None else gib * 2**30)
        answers[f"{text} {gib}"] = None if found is None else found.name
    compare_with_recorded("chips", answers)
