"""R-GAT on sampled graphs: what a batch leads to, the products of its relations, and where its features are read."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from row_builders.submissions import submission
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_research.fitting.one_plan import Plan, predict_plan
from trainfare_research.fitting.sampled_features import predict_sampled_graph
from trainfare_research.fitting.submission_steps import build_submitted_step
from trainfare_research.runners.time_to_train import minutes_of
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.other.sampled_graph import FEATURE_TABLE_BYTES, feature_bytes, sample_hops

SEEDS = 64
ROW = submission(benchmark="rgat", round="v4.0", framework="DGL", global_batch_size=str(8 * SEEDS))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ProfileCache:
    return ProfileCache(tmp_path_factory.mktemp("traces"))


@pytest.fixture(scope="module")
def profile(cache: ProfileCache) -> JobProfile:
    step = build_submitted_step(ROW, cache, 8)
    assert not isinstance(step, str), step
    assert (step.profile.batch.micro_batch_size, step.ratio) == (SEEDS, 1 / SEEDS)
    return step.profile


def unhidden(run: Run) -> Run:
    """Return the run without operations: its step is shorter than any reading of features."""
    return replace(run, profile=run.profile.model_copy(update={"operations": run.profile.operations[:1]}))


def test_a_hop_draws_at_most_its_number_of_each_relation_and_fewer_where_there_are_fewer() -> None:
    """2.7 authors and at most 15 citations a paper; what a hop knew before is expanded no more."""
    (start, _), (first, drawn), (second, more), _ = sample_hops(2048)
    assert start == {**dict.fromkeys(first, 0), "paper": 2048}
    assert 10 * 2048 < drawn["paper", "paper"] < 15 * 2048
    assert 2.2 * 2048 < drawn["author", "paper"] < 716_761_549 / 269_346_174 * 2048
    assert (drawn["paper", "author"], drawn["institute", "author"]) == (0, 0)
    fresh = first["paper"] - 2048
    assert 9 * fresh < more["paper", "paper"] - drawn["paper", "paper"] < 10 * fresh
    assert second["author"] <= more["author", "paper"]


def test_a_larger_batch_finds_fewer_new_nodes_a_sample() -> None:
    """Papers share their topics and journals: there are 712,960 and 49,052 of them."""
    (small, large) = (sample_hops(count)[-1][0] for count in (512, 4096))
    assert 0.85 * 8 * small["paper"] < large["paper"] < 8 * small["paper"]
    assert large["fos"] < 4 * small["fos"] < 4 * 712_960
    assert large["journal"] < 49_052
    assert feature_bytes(512) == sum(small.values()) * 1024


def test_each_relation_projects_both_of_its_ends(profile: JobProfile) -> None:
    """512 values of each node and relation, of 1,024 features first; no gradient goes to the features."""
    products = sum(group.flops for group in profile.operations if group.name == "aten.mm")
    hops, expected = sample_hops(SEEDS), 2 * 3 * SEEDS * 512 * 2983
    for depth, wide, passes in ((3, 1024, 2), (2, 512, 3), (1, 512, 3)):
        (ends, _), (nodes, edges) = hops[depth - 1], hops[depth]
        rows = sum(nodes[a] + ends[b] for (a, b), count in edges.items() if count and ends[b])
        expected += passes * 2 * rows * wide * 512
    last = sum(g.flops for g in profile.operations if g.name == "aten.addmm" and g.phase == "forward")
    assert products + last == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "devices", "nodes", "rate"),
    [
        ("H100-SXM-80GB", 8, 1, 64e9 * link_calibration().communication.link_efficiency["pcie"]),
        ("H200-SXM-141GB", 8, 1, 450e9 * link_calibration().communication.link_efficiency["nvlink"] * 8 / 7),
        ("H100-SXM-80GB", 64, 8, 50e9 * link_calibration().communication.network_efficiency * 8 / 7),
    ],
)
def test_features_are_read_where_they_fit(
    name: str, devices: int, nodes: int, rate: float, profile: JobProfile
) -> None:
    """In the host beside eight H100, in eight H200, and in eight machines of H100 behind 400 Gbit/s a device."""
    run = unhidden(prepare(profile))
    answer = predict_sampled_graph(run, Plan(name, 1.0, devices, nodes, gbit_per_s=3200.0), 2048)
    assert not isinstance(answer, str)
    assert answer[0] == pytest.approx(feature_bytes(2048) / rate)
    share = FEATURE_TABLE_BYTES / accelerator(name).memory_bytes
    assert (share > 0.75 * 8) == (name == "H100-SXM-80GB")


def test_reading_takes_no_time_beside_a_longer_step(profile: JobProfile) -> None:
    run = prepare(profile)
    plan = Plan("H200-SXM-141GB", 1.0, devices=8)
    assert predict_sampled_graph(run, plan, SEEDS) == predict_plan(run, plan)
    without = predict_sampled_graph(run, Plan("H100-SXM-80GB", 1.0, devices=16, nodes=2), SEEDS)
    assert isinstance(without, str)
    assert "network" in without


def test_submissions_of_graph_networks_have_an_answer(cache: ProfileCache) -> None:
    host, device = (
        minutes_of({**ROW, "accelerator": name, "samples_to_converge": "80000000"}, cache, {})
        for name in ("H100-SXM-80GB", "H200-SXM-141GB")
    )
    assert not isinstance(host, str), host
    assert not isinstance(device, str), device
    assert device[0] <= host[0]
