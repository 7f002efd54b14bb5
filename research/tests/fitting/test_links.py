"""Links are fitted on runs beside their twins on one device: known constants come back, and files agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm")

from builders.profiles import profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.network.collectives import link_calibration, link_of
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.fits import link_record
from trainfare_research.fitting.data_parallel import data_parallel_s, is_data_parallel
from trainfare_research.fitting.links import AllReduce, Pair, documents, fit_links, left_out, slowdown_errors

TRUE = np.array([0.015, 0.1, 0.4, 0.6, 0.5])
"""Waiting a doubling, floor, PCIe 3 and 4, forward share."""
NVLINK, MESSAGE_S = 0.75, 6e-6


def _pairs() -> list[Pair]:
    kinds = (("pcie3", 16e9, False), ("pcie4", 32e9, False), ("nvlink3", 300e9, False), ("pcie3", 16e9, True))
    pairs = [
        Pair(
            source=f"s{k % 2}", model=f"m{k}", chip=link, link=link, devices=devices, alone_s=0.1 + 0.1 * k,
            measured_s=1.0, gradient_bytes=5e8 * (k + 1), link_bytes_per_s=rate, backward_share=0.6,
            single_process=single, forward_s=0.02, moved_bytes=2e8 * (k + 1),
        )
        for k in range(4)
        for devices in (2, 4, 8)
        for link, rate, single in kinds
    ]  # fmt: skip
    errors = slowdown_errors(pairs, TRUE, NVLINK, MESSAGE_S)
    return [replace(pair, measured_s=float(np.exp(error))) for pair, error in zip(pairs, errors, strict=True)]


def test_known_constants_come_back_from_their_own_runs() -> None:
    pairs = _pairs()
    theta = fit_links(pairs, NVLINK, MESSAGE_S)
    assert theta == pytest.approx(TRUE, rel=0.2)
    assert np.abs(slowdown_errors(pairs, theta, NVLINK, MESSAGE_S)).max() < 0.02


def test_by_hand_two_cards_wait_for_what_backward_does_not_hide() -> None:
    """1 GB between 2 cards at 40 % of 16 GB/s is 156 ms, 84 ms hide behind 0.7 x 60 % of 200 ms; 1.5 % is waiting."""
    pair = replace(_pairs()[0], alone_s=0.2, gradient_bytes=1e9, measured_s=1.0)
    (error,) = slowdown_errors([pair], TRUE, NVLINK, MESSAGE_S)
    assert np.exp(error) == pytest.approx(0.2 * 1.015 + 1e9 / 6.4e9 + 2 * 15e-6 - 0.084, rel=1e-6)


def test_scores_are_of_chips_and_sources_that_the_fit_did_not_see() -> None:
    pairs = _pairs()
    slow = [replace(p, measured_s=3 * p.measured_s) if p.source == "s1" else p for p in pairs]
    errors = left_out(slow, lambda p: p.source, NVLINK, MESSAGE_S)
    assert set(errors) == {"s0", "s1"}
    assert np.median(errors["s1"]) < -0.9
    calibration, record = documents(pairs, AllReduce(MESSAGE_S, 225e9, 10), "abc", "2026-01-31")
    assert calibration.communication.link_efficiency["nvlink"] == 0.75
    assert calibration.communication.link_efficiency["pcie3"] == pytest.approx(0.4, rel=0.2)
    assert calibration.fitted_on == {"all-reduce": 10, "s0": 24, "s1": 24}
    assert calibration.several_devices_log_sigma == record.scores["chip_left_out"]["sigma_80"]


def test_the_product_uses_the_shipped_file() -> None:
    shipped = link_calibration()
    fit = calibration()
    assert fit.communication == shipped.communication
    assert fit.sigma.several_devices == shipped.several_devices_log_sigma
    assert len(shipped.data_sha256) == 64
    card = accelerator("T4-16GB")
    assert card.link_bytes_per_s
    share = shipped.communication.link_efficiency["pcie3"]
    assert link_of(card, shipped.communication).bytes_per_s == pytest.approx(share * card.link_bytes_per_s)


def test_one_process_issues_forward_for_every_device_and_hides_nothing() -> None:
    line = {"strategy": "dataparallel(single process)", "devices": "2"}
    assert is_data_parallel(line)
    assert not is_data_parallel({**line, "devices": "1"})
    job = profile(batch_size=4)
    two, four = (data_parallel_s(job, "RTX-2080Ti-11GB", devices, 1.0) for devices in (2, 4))
    sent_s = (
        2
        * job.memory.gradient_bytes
        / link_of(accelerator("RTX-2080Ti-11GB"), calibration().communication).bytes_per_s
    )
    assert sent_s < two < four < 2 * two


def test_the_page_has_the_scores_of_the_record() -> None:
    """docs/prediction.md says what the fit of links that ships was scored with."""
    page = (Path(__file__).parents[3] / "docs" / "prediction.md").read_text(encoding="utf-8")
    text = " ".join(page.split("## Several devices")[1].split("\n## ")[0].split())
    scores = link_record().scores
    chip = scores["chip_left_out"]
    assert f"from {chip['n']:,.0f} runs on several devices" in text
    assert (
        f"within {chip['mape']:.1%} mean, {chip['median_ape']:.1%} median on chips left out".replace(
            "%", " %"
        )
        in text
    )
    assert f"({scores['source_left_out']['mape']:.1%} mean)".replace("%", " %") in text
