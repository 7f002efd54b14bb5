"""Collectives against hand calculation, and what of them a step waits for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from builders.plans import predict_one
from builders.profiles import gpt_profile, profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import SynchronizedNorms
from trainfare_core.prediction.network.collectives import (
    CommunicationFit,
    collective_s,
    compute_exposed_s,
    link_of,
    moments_s,
    traffic_of,
)
from trainfare_core.prediction.roofline.coefficients import calibration

FIT = CommunicationFit(
    link_efficiency={"nvlink": 0.5, "pcie": 0.25, "other": 0.1},
    link_latency_s={"nvlink": 1e-5, "pcie": 2e-5, "other": 3e-5},
    network_efficiency=0.5,
    network_latency_s=1e-4,
    straggler_share=0.02,
    exposed_floor=0.2,
    overlap_window=0.7,
)


def seconds(passes: float, devices: float, nodes: float, network_bytes_per_s: float = math.nan) -> float:
    """Return a collective of 1 GB over links of 100 GB/s and 10 us."""
    links = (np.array([100e9]), np.array([1e-5]))
    payload, network = np.array([1e9]), np.array([network_bytes_per_s])
    return float(
        collective_s(payload, passes, np.array([devices]), np.array([nodes]), links, network, FIT)[0]
    )


def test_ring_all_reduce_in_one_machine() -> None:
    """1 GB over 8 devices: 2 x 7/8 GB at 100 GB/s and 14 messages of 10 us = 17.5 ms + 0.14 ms."""
    assert seconds(2, 8, 1) == pytest.approx(17.5e-3 + 14 * 1e-5)


def test_messages_of_a_torus_travel_along_two_sides() -> None:
    """1,024 devices: 2 x 31 messages one after another each way, not 1,023; 17 no fewer than 16."""
    assert seconds(2, 1024, 1) == pytest.approx(2 * 1023 / 1024 * 10e-3 + 2 * 62 * 1e-5)
    assert seconds(2, 16, 1) == pytest.approx(2 * 15 / 16 * 10e-3 + 2 * 15 * 1e-5)
    assert seconds(2, 17, 1) > seconds(2, 16, 1)


@pytest.mark.parametrize(
    ("gb_per_s", "pcie_gb_per_s", "sustained", "latency_s"),
    [(300.0, 32.0, 150e9, 1e-5), (None, 32.0, 8e9, 2e-5), (None, None, math.nan, math.nan)],
)
def test_devices_without_a_link_of_their_own_use_pcie(
    gb_per_s: float | None, pcie_gb_per_s: float | None, sustained: float, latency_s: float
) -> None:
    """300 GB/s of NVLink, half sustained; else 32 GB/s of PCIe, a quarter sustained; else nothing is known."""
    device = replace(
        accelerator("A100-SXM-80GB"),
        link="nvlink3" if gb_per_s else "none",
        link_bytes_per_s=gb_per_s and gb_per_s * 1e9,
        pcie_bytes_per_s=pcie_gb_per_s and pcie_gb_per_s * 1e9,
    )
    links = link_of(device, FIT)
    assert (links.bytes_per_s, links.latency_s) == pytest.approx((sustained, latency_s), nan_ok=True)
    assert ("is not known" in links.unknown_because) == math.isnan(sustained)


def test_synchronized_norms_gather_moments_and_add_up_their_gradients() -> None:
    """Ten modules of 50 channels, 8 devices: 808 values of fp32 gathered by 7 messages, 100 reduced by 14, each."""
    norms, values = SynchronizedNorms(modules=10, channels=500), np.array([1.0])
    links = (np.array([100e9]), np.array([1e-5]))
    gather_s = 7 / 8 * 808 * 4 / 100e9 + 7e-5
    reduce_s = 14 / 8 * 100 * 4 / 100e9 + 14e-5
    exchange_s = moments_s(norms, 8 * values, values, links, np.nan * values, FIT)
    assert float(exchange_s[0]) == pytest.approx(10 * (gather_s + reduce_s))


def test_gather_is_half_of_an_all_reduce() -> None:
    """A gather or a scatter passes once round the ring: 7/8 GB and 7 messages."""
    assert seconds(1, 8, 1) == pytest.approx(8.75e-3 + 7 * 1e-5)


def test_all_reduce_over_machines_adds_the_network() -> None:
    """4 machines at 50 GB/s nominal, half sustained: 2 x 3/4 GB / 25 GB/s = 60 ms and a tree of 2 x 2 hops."""
    assert seconds(2, 8, 4, 50e9) == pytest.approx(17.5e-3 + 14 * 1e-5 + 60e-3 + 4 * 1e-4)


def test_one_device_has_nothing_to_exchange() -> None:
    """No collective on one device, whatever its links."""
    assert seconds(2, 1, 1) == 0


def test_an_unknown_network_is_not_a_free_one() -> None:
    """Several machines with an unknown network have no time at all, not zero."""
    assert math.isnan(seconds(2, 8, 2))


def test_what_does_not_fit_behind_compute_is_waited_for() -> None:
    """10 s of traffic behind 10 s of backward: 3 s exposed; behind a minute: the floor of 2 s."""
    exposed = compute_exposed_s(np.array([10.0, 10.0, 10.0]), np.array([10.0, 60.0, 0.0]), FIT)
    assert exposed == pytest.approx([3.0, 2.0, 10.0])


def test_links_come_from_the_catalogue() -> None:
    """NVLink's own efficiency for an SXM device, PCIe's for a card without a bridge."""
    sxm, card = accelerator("A100-SXM-80GB"), accelerator("L4-24GB")
    assert sxm.link_bytes_per_s is not None
    assert card.link_bytes_per_s is not None
    assert link_of(sxm, FIT).bytes_per_s == pytest.approx(0.5 * sxm.link_bytes_per_s)
    assert link_of(card, FIT).bytes_per_s == pytest.approx(0.25 * card.link_bytes_per_s)


def test_traffic_of_mixed_precision() -> None:
    """DDP sends fp32 gradients; FSDP gathers bf16 weights twice and scatters bf16 gradients."""
    job = gpt_profile()
    traffic, weights = traffic_of(job), 4 * job.trainable_parameters
    assert traffic.all_reduce_bytes == weights
    assert traffic.gather_bytes == weights
    assert traffic.scatter_bytes == weights / 2


def test_fsdp_pays_for_every_micro_batch_and_ddp_once() -> None:
    """With accumulation FSDP gathers again in every micro-batch; DDP reduces once a step."""
    job = gpt_profile(batch_size=8)

    def compute_hidden(sharding: str, accumulate: int) -> float:
        table = predict_one(job, "A100-SXM-80GB", count=8, sharding=sharding, accumulate=accumulate)
        return float(table.communication_hidden_s[0])

    assert compute_hidden("fsdp", 4) == pytest.approx(4 * compute_hidden("fsdp", 1))
    assert compute_hidden("ddp", 4) == pytest.approx(compute_hidden("ddp", 1))
    assert compute_hidden("ddp", 1) > 0


def test_devices_of_one_machine_wait_for_one_another() -> None:
    """Besides the traffic, each doubling of the devices in a machine adds a share of the step."""
    job = profile(batch_size=64)
    value, two, eight = (
        float(predict_one(job, "A100-SXM-80GB", count=n).communication_s[0]) for n in (1, 2, 8)
    )
    share = calibration().communication.straggler_share
    step_s = float(predict_one(job, "A100-SXM-80GB").step_s[0])
    assert value == 0
    assert two > share * step_s
    assert eight > 3 * share * step_s


def test_synchronized_norms_are_waited_for_in_every_micro_batch() -> None:
    """Several devices exchange moments once a pass and the host waits; one device does not, nor does plain BatchNorm."""
    job = profile(batch_size=64)
    norms = SynchronizedNorms(modules=50, channels=20_000)
    synced = job.model_copy(update={"batch": job.batch.model_copy(update={"synchronized_norms": norms})})

    def compute_added_s(**plan: int) -> float:
        with_them, without = (predict_one(profile, "H100-SXM-80GB", **plan) for profile in (synced, job))
        assert (with_them.log_sigma[0] > without.log_sigma[0]) == (plan["count"] > 1)
        assert with_them.communication_hidden_s[0] == without.communication_hidden_s[0]
        return float(with_them.step_s[0] - without.step_s[0])

    assert compute_added_s(count=1) == 0
    once_s = compute_added_s(count=8)
    assert once_s > 50 * 20 * calibration().overhead.host_launch_s, (
        "twenty launches of each wait for the host"
    )
    assert compute_added_s(count=8, accumulate=4) == pytest.approx(4 * once_s)
    assert compute_added_s(count=8, nodes=2, network=100) > once_s


def test_a_faster_network_is_never_slower() -> None:
    """Step time falls, or stays, as the network between machines grows."""
    steps = [
        float(predict_one(gpt_profile(), "H100-SXM-80GB", count=8, nodes=4, network=gbit).step_s[0])
        for gbit in (10, 25, 100, 400, 3200)
    ]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > 1.5 * steps[-1]
