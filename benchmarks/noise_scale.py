"""
What `FareMeter(noise_scale=True)` adds to a step, and how near its figure is to the exact one of a small model.

    python -m benchmarks.noise_scale [--seeds 10] [--rounds 5] [--json OUT]

- `ratio`: of each seed, the noise scale that FareMeter measured over the exact one: tr(S) and |G|^2 from the gradients
  of all samples, at each step that is read. One run has 100 steps, all read; another, 20 times as long and with a 20th
  of the learning rate, has 2,000, of which every 20th is read, as a user's.
- `cost`: CPU time of a step that is read over that of one without noise_scale, less 1, medians, and a 20th of it: a
  decoder of 0.27 M parameters with an accumulation of 4, on one thread. The arms are interleaved.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from benchmarks.cases import Case, case_parser, write_cases
from trainfare import FareMeter

MOST_COST = 0.02
"""Share of a step that is allowed."""
EVERY_STEPS = 20
MOST_RATIO = 1.5
LEAST_SHARE = 0.8
"""Of the seeds, within MOST_RATIO either way."""
SAMPLES, FEATURES, MICRO_BATCH, ACCUMULATE = 1024, 16, 4, 8
STEPS_BEFORE = 3
"""Of a run, before its first reading: what shows its accumulation, and one measured step."""


def make_task(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network, and samples that it is to fit with noise in their targets."""
    torch.manual_seed(seed)
    features = torch.randn(SAMPLES, FEATURES)
    targets = (features @ torch.randn(FEATURES, 1) / 4).tanh() + 0.5 * torch.randn(SAMPLES, 1)
    return nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 1)), features, targets


def find_moments(model: nn.Module, features: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return tr(S) and |G|^2 by the gradients of all samples."""
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def find_loss(weights: dict[str, Tensor], row: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(functional_call(model, weights, (row,)), target)

    each = vmap(grad(find_loss), in_dims=(None, 0, 0))(weights, features, targets)
    flat = torch.cat([value.flatten(1) for value in each.values()], dim=1).double()
    mean = flat.mean(dim=0)
    return float((flat - mean).square().sum(dim=1).mean()), float(mean.square().sum())


def make_meter(**services: Any) -> Any:
    """Return a FareMeter with other services that keeps no ledger."""
    changed = replace(FareMeter.services, find_ledger=lambda: None, **services)
    return type("Meter", (FareMeter,), {"services": changed})


def measure_ratio(seed: int, readings: int, every_steps: int) -> float | None:
    """Return the measured noise scale over the exact one; None where there is no figure."""
    model, features, targets = make_task(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002 / every_steps)
    notes: list[str] = []
    kind = make_meter(noise_every_steps=every_steps, say=notes.append)
    steps, moments = STEPS_BEFORE + readings * every_steps, list[tuple[float, float]]()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(steps * ACCUMULATE):
            chosen = torch.randint(SAMPLES, (MICRO_BATCH,))
            yield features[chosen], targets[chosen]

    with TemporaryDirectory() as folder:
        settings = {"warmup_steps": 0, "measure_steps": 1, "report_dir": folder, "batch_size": MICRO_BATCH}
        with kind.loop(
            model, optimizer, total_steps=steps, noise_scale=True, trace=False, **settings
        ) as meter:
            for number, (rows, wanted) in enumerate(meter.steps(batches()), start=1):
                torch.autograd.backward(functional.mse_loss(model(rows), wanted) / ACCUMULATE)
                if number % ACCUMULATE == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                    if number // ACCUMULATE % every_steps == 0:
                        moments.append(find_moments(model, features, targets))
    found = re.search(r"noise scale ([\d,.]+) samples", " ".join(notes))
    later = moments[len(moments) // 10 :]
    exact = sum(spread for spread, _ in later) / sum(squared for _, squared in later)
    return None if found is None else float(found[1].replace(",", "")) / exact


class Decoder(nn.Module):
    """Two blocks with attention over 64 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 96)
        layer = nn.TransformerEncoderLayer(96, 4, 384, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(96, 256, bias=False)
        self.head.weight = nn.Parameter(self.embedding.weight.detach().clone())

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        logits: Tensor = self.head(self.blocks(self.embedding(tokens), mask=mask, is_causal=True))
        return logits


def time_steps(steps: int, *, noise_scale: bool) -> list[float]:
    """Return the CPU seconds of each step, all of which are read or none."""
    torch.manual_seed(0)
    model, spent_s = Decoder(), list[float]()
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(256, (8, 65))
    kind = make_meter(noise_every_steps=1)
    settings = {"measure_steps": 1, "trace": False, "report": False, "noise_scale": noise_scale}
    with kind.loop(model, optimizer, total_steps=steps, **settings) as meter:
        began_s = time.process_time()
        for number, batch in enumerate(meter.steps([tokens] * (steps * 4)), start=1):
            logits = model(batch[:, :-1])
            torch.autograd.backward(
                functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()) / 4
            )
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
                now_s = time.process_time()
                spent_s.append(now_s - began_s)
                began_s = now_s
    return spent_s[10:]  # the first are of the window


def main() -> None:
    """Print the figures, and fail where one is beyond its limit."""
    parser = case_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases: dict[str, Case] = {}
    for every in (1, EVERY_STEPS):
        ratios = [measure_ratio(seed, 100, every) for seed in range(arguments.seeds)]
        near = [ratio for ratio in ratios if ratio is not None and 1 / MOST_RATIO <= ratio <= MOST_RATIO]
        print(
            f"every {every}: ratios {', '.join('none' if ratio is None else f'{ratio:.2f}' for ratio in ratios)}"
        )
        share = len(near) / len(ratios)
        cases[f"seeds near the exact figure, every {every}"] = Case(
            share, LEAST_SHARE, share / LEAST_SHARE, "share"
        )
    without, metered = list[float](), list[float]()
    for _ in range(arguments.rounds):
        without += time_steps(50, noise_scale=False)
        metered += time_steps(50, noise_scale=True)
    read = statistics.median(metered) / statistics.median(without) - 1
    cost = read / EVERY_STEPS
    print(f"a step that is read: {read:+.2%}")
    cases["cost"] = Case(cost, MOST_COST, cost / MOST_COST, "share of a step")
    for name, case in cases.items():
        print(f"{name}: {case.ours:.2%}, limit {case.peer:.0%}")
    write_cases(arguments.json, cases)
    if cost > MOST_COST or any(cases[name].ours < LEAST_SHARE for name in cases if name != "cost"):
        raise SystemExit("a figure is beyond its limit")


if __name__ == "__main__":
    main()
