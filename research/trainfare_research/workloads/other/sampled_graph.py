"""
R-GAT of MLPerf Training (v4.0 to v5.1): three layers of graph attention on neighbours that are sampled from IGBH-Full.

Node counts, edge counts and features are those of the Illinois Graph Benchmark (Khatua et al. 2023) as the benchmark's
reference reads it: every relation in both directions, citations with self-loops. Layers, widths and numbers of sampled
neighbours are the rules' (mlcommons/training `graph_neural_network`), kernels and 8-bit features NVIDIA's
(mlcommons/training_results_v4.0 `NVIDIA/benchmarks/gnn`): one product for both ends of each relation, one kernel for
attention. Only nodes that a hop finds for the first time get neighbours of their own in the next.

How many neighbours a node has is known in the mean only. Their number is taken to be lognormal with the variance of
citations (1.3: Radicchi, Fortunato and Castellano 2008, PNAS 105, 17268), for every relation, and a node that is
reached along an edge has more of them than a random one. How often a journal or a conference is named is not published:
one of a journal and one of a conference for every paper is a bound, and both are few nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network

_NODES = {
    "paper": 269_346_174, "author": 277_220_883, "institute": 26_918, "fos": 712_960, "journal": 49_052,
    "conference": 4_547,
}  # fmt: skip
_EDGES = {
    ("paper", "paper"): 2 * 3_996_442_004, ("paper", "author"): 716_761_549, ("author", "institute"): 48_521_486,
    ("paper", "fos"): 1_050_280_600, ("paper", "journal"): 269_346_174, ("paper", "conference"): 269_346_174,
}  # fmt: skip
_FEATURES, _WIDTH, _HEADS, _CLASSES = 1024, 512, 4, 2983
_NEIGHBOURS = (15, 10, 5)
"""Most neighbours that are drawn of each relation, by hop from the labelled papers."""
_VARIANCE = 1.3
"""Of the logarithm of a node's number of neighbours."""

FEATURE_TABLE_BYTES = sum(_NODES.values()) * _FEATURES
"""Of all features, one byte a number."""

_Relation = tuple[str, str]
"""From the node that is read to the node that reads it."""


def _relations() -> dict[_Relation, int]:
    """Return the edges of each relation; citations are in both directions already."""
    return {**_EDGES, **{(b, a): count for (a, b), count in _EDGES.items() if a != b}}


@lru_cache(maxsize=1)
def _points() -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal values and their weights."""
    values, weights = np.polynomial.hermite_e.hermegauss(40)
    return values, weights / weights.sum()


def _expect_drawn(mean: float, most: int, *, biased: bool) -> float:
    """Return the mean of min(neighbours, most); `biased`: of a node that an edge of the same relation led to."""
    values, weights = _points()
    shift = (0.5 if biased else -0.5) * _VARIANCE
    return float(weights @ np.minimum(mean * np.exp(math.sqrt(_VARIANCE) * values + shift), most))


def _distinct(draws: float, nodes: int) -> float:
    """Return how many of `nodes` are among `draws`, each as likely as its number of neighbours."""
    values, weights = _points()
    likely = np.exp(math.sqrt(_VARIANCE) * values - 0.5 * _VARIANCE)
    return float(nodes * (weights @ -np.expm1(-draws / nodes * likely)))


@lru_cache(maxsize=16)
def sample_hops(seeds: int) -> tuple[tuple[dict[str, int], dict[_Relation, int]], ...]:
    """Return the nodes known after each hop, from the seeds alone on, and the edges drawn until then."""
    relations = _relations()
    known: dict[str, float] = {**dict.fromkeys(_NODES, 0.0), "paper": float(seeds)}
    draws = dict.fromkeys(_NODES, 0.0)
    edges = dict.fromkeys(relations, 0.0)
    fresh: dict[tuple[str, str], float] = {("paper", ""): float(seeds)}
    hops = [(_round_counts(known), _round_counts(edges))]
    for most in _NEIGHBOURS:
        edges_drawn = dict.fromkeys(relations, 0.0)
        for (target, origin), count in fresh.items():
            for (source, end), total in relations.items():
                if end == target:
                    mean = total / _NODES[target]
                    edges_drawn[source, end] += count * _expect_drawn(mean, most, biased=origin == source)
        fresh = {}
        for source, before in tuple(known.items()):
            of_type = {relation: count for relation, count in edges_drawn.items() if relation[0] == source}
            draws[source] += sum(of_type.values())
            # Seeds are few beside all papers: that a draw finds one of them is left out.
            known[source] = _distinct(draws[source], _NODES[source]) + (seeds if source == "paper" else 0)
            share = (known[source] - before) / (sum(of_type.values()) or 1.0)
            for (_, end), count in of_type.items():
                fresh[source, end] = count * share
        for relation, count in edges_drawn.items():
            edges[relation] += count
        hops.append((_round_counts(known), _round_counts(edges)))
    return tuple(hops)


def _round_counts(counts: dict[Any, float]) -> dict[Any, int]:
    return {key: round(count) for key, count in counts.items()}


def feature_bytes(seeds: int) -> int:
    """Return the bytes of features that a step with so many labelled papers reads, one byte a number."""
    return sum(sample_hops(seeds)[-1][0].values()) * _FEATURES


def build_sampled_graph_network(batch: int) -> Network:
    """Return R-GAT on `batch` labelled papers: what they lead to is not linear in their number."""
    return Network(f"sampled_graph.rgat.{batch}", lambda: RelationalAttention(batch), _batch)


def _batch(seeds: int) -> tuple[torch.Tensor, ...]:
    nodes = sample_hops(seeds)[-1][0]
    features = (torch.empty(count, _FEATURES, dtype=torch.uint8) for count in nodes.values())
    return (torch.zeros(seeds, dtype=torch.long), *features)


class _Attention(torch.autograd.Function):
    """
    Attention of every reading node to the nodes that it drew, as one kernel each way.

    Forward reads the projection of one node for every edge and writes a sum for every reading node; backward reads the
    sums' gradients and the projections for every edge again, and writes a gradient for each of both.
    """

    @staticmethod
    def forward(ctx: Any, sources: torch.Tensor, targets: torch.Tensor, edges: int) -> torch.Tensor:
        drawn = torch.zeros(edges, dtype=torch.long, device=sources.device)
        ctx.save_for_backward(sources, targets)
        ctx.edges = edges
        starts = torch.zeros(len(targets), dtype=torch.long, device=sources.device)
        return functional.embedding_bag(drawn, sources, starts, mode="sum") + targets

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        sources, targets = ctx.saved_tensors
        ends = torch.zeros(ctx.edges, dtype=torch.long, device=sources.device)
        summed = sources.new_zeros(sources.shape).index_add_(0, ends, sources[ends])
        return summed, gradients[0] * targets, None


class RelationalAttention(nn.Module):
    """The network and its loss on the features of all sampled nodes."""

    def __init__(self, seeds: int) -> None:
        super().__init__()
        widths = (_FEATURES, *[_WIDTH] * len(_NEIGHBOURS))
        self.layers = nn.ModuleList(
            nn.ModuleDict({"-".join(of): nn.Linear(*sizes, bias=False) for of in _relations()})
            for sizes in pairwise(widths)
        )
        self.last = nn.Linear(_WIDTH, _CLASSES)
        self.seeds = seeds

    def forward(self, labels: torch.Tensor, *features: torch.Tensor) -> torch.Tensor:
        hops = sample_hops(self.seeds)
        x = {name: part.to(self.last.weight.dtype) for name, part in zip(_NODES, features, strict=True)}
        attend: Callable[..., torch.Tensor] = _Attention.apply
        for layer, (before, now) in zip(self.layers, reversed(list(pairwise(hops))), strict=True):
            sums: dict[str, torch.Tensor] = {}
            for source, target in _relations():
                edges, ends = now[1][source, target], before[0][target]
                if not (edges and ends):
                    continue
                project = cast("nn.ModuleDict", layer)[f"{source}-{target}"]
                read = attend(project(x[source]), project(x[target][:ends]), edges)
                sums[target] = sums[target] + read if target in sums else read
            x = {
                name: part
                if layer is self.layers[-1]
                else functional.dropout(functional.leaky_relu(part), 0.2)
                for name, part in sums.items()
            }
        return functional.cross_entropy(self.last(x["paper"]).float(), labels)
