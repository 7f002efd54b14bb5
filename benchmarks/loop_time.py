"""
What a training loop takes itself of a pass, beside the launches of its kernels.

    python -m benchmarks.loop_time [--passes 600] [--json OUT]

Networks of 1, 4, 12 and 30 narrow layers are trained in each loop on one thread of the CPU, and by bare calls on a
batch that lies ready. `own`: CPU time of a pass less that of the bare calls, in ms; medians of passes after the first
100. `total`: the pass, beside the measured bare calls and what `core/trainfare_core/data/loop_time.csv` adds to them.
The limit is a factor of 2 either way.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cases import Case, case_parser, in_a_fresh_process, write_cases
from trainfare_core.prediction.loop_time import load_pass_times

BATCH, FEATURES, CLASSES, WARMUP = 8, 8, 2, 100
DEPTHS: Final = (1, 12, 4, 30)
"""Layers; the table of the product was made of the first two, and the others judge it."""
MOST_RATIO: Final = 2.0
Clock = Callable[[], None]


def make_model(depth: int) -> nn.Sequential:
    """Return a network of narrow layers."""
    layers = [layer for _ in range(depth) for layer in (nn.Linear(FEATURES, FEATURES), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(FEATURES, CLASSES))


def make_loader(passes: int) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Return a loader of so many batches."""
    rows = passes * BATCH
    return DataLoader(TensorDataset(torch.randn(rows, FEATURES), torch.zeros(rows, dtype=torch.long)), BATCH)


def train_bare(depth: int, passes: int, tick: Clock) -> None:
    """Train by bare calls on one batch."""
    model = make_model(depth)
    optimizer = torch.optim.AdamW(model.parameters())
    features, classes = torch.randn(BATCH, FEATURES), torch.zeros(BATCH, dtype=torch.long)
    for _ in range(passes):
        tick()
        optimizer.zero_grad()
        functional.cross_entropy(model(features), classes).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def train_plain(depth: int, passes: int, tick: Clock) -> None:
    """Train in a loop over a DataLoader."""
    model = make_model(depth)
    optimizer = torch.optim.AdamW(model.parameters())
    for features, classes in make_loader(passes):
        tick()
        optimizer.zero_grad()
        functional.cross_entropy(model(features), classes).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def train_accelerate(depth: int, passes: int, tick: Clock) -> None:
    """Train in a loop that Accelerate prepared."""
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), make_model(depth)
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer, loader = accelerator.prepare(model, optimizer, make_loader(passes))
    for features, classes in loader:
        tick()
        optimizer.zero_grad()
        accelerator.backward(functional.cross_entropy(model(features), classes))
        optimizer.step()


def train_lightning(depth: int, passes: int, tick: Clock) -> None:
    """Train with Lightning's Trainer as it is by default, but where it writes."""
    from lightning import pytorch as pl

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_model(depth)

        def training_step(self, batch: Any, _index: int) -> torch.Tensor:
            tick()
            return functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters())

    with TemporaryDirectory() as folder:
        pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder).fit(Net(), make_loader(passes))


def train_huggingface(depth: int, passes: int, tick: Clock) -> None:
    """Train with Hugging Face's Trainer."""
    from transformers import Trainer, TrainingArguments

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_model(depth)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            tick()
            logits = self.net(x)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": torch.randn(FEATURES), "labels": torch.tensor(0)} for _ in range(passes * BATCH)]
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=1, report_to="none", use_cpu=True
        )
        Trainer(Net(), arguments, train_dataset=rows).train()


def train_keras(depth: int, passes: int, tick: Clock) -> None:
    """Train with Keras on PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras  # type: ignore[import-untyped]
    import numpy as np

    class Ticks(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, _batch: int, logs: object = None) -> None:
            del logs
            tick()

    layers = [keras.layers.Dense(FEATURES, activation="relu") for _ in range(depth)]
    model = keras.Sequential([*layers, keras.layers.Dense(CLASSES)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adamw", loss=loss)
    rows = np.zeros((passes * BATCH, FEATURES), dtype=np.float32)
    model.fit(rows, np.zeros(len(rows)), batch_size=BATCH, verbose=2, callbacks=[Ticks()])


LOOPS: Final[dict[str, Callable[[int, int, Clock], None]]] = {
    "bare": train_bare, "plain": train_plain, "accelerate": train_accelerate, "lightning": train_lightning,
    "huggingface": train_huggingface, "keras": train_keras,
}  # fmt: skip


def measure_pass_s(asked: tuple[str, int, int]) -> float:
    """Return the median CPU seconds of a pass of a loop with a depth, in a process of its own."""
    loop, depth, passes = asked
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seconds: list[float] = []
    LOOPS[loop](depth, passes, lambda: seconds.append(time.process_time()))
    return statistics.median(end - begin for begin, end in itertools.pairwise(seconds[WARMUP:]))


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument("--passes", type=int, default=600)
    arguments = parser.parse_args()
    known = load_pass_times()
    cases: dict[str, Case] = {}
    for depth in DEPTHS:
        measure = partial(in_a_fresh_process, measure_pass_s)
        bare_s = measure(("bare", depth, arguments.passes))
        for loop in list(LOOPS)[1:]:
            pass_s = measure((loop, depth, arguments.passes))
            predicted_s = bare_s + known.get(loop, known["plain"])
            cases[f"{loop}, {depth} layers: own"] = Case((pass_s - bare_s) * 1e3, None, None, "ms")
            ratio = predicted_s / pass_s
            cases[f"{loop}, {depth} layers: total"] = Case(pass_s * 1e3, predicted_s * 1e3, ratio, "ms")
    for name, case in cases.items():
        said = "" if case.ratio is None else f", predicted {case.peer:.2f} ({case.ratio:.2f} x)"
        print(f"{name}: {case.ours:.2f} {case.unit}{said}")
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
