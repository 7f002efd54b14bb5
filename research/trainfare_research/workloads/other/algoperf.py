"""
Workloads of the AlgoPerf benchmark: U-Net on fastMRI, Transformer on WMT, graph network on ogbg-molpcba.

Sizes are those of the benchmark's public reference models (Dahl et al. 2023). Its optimizers are taken as Adam, whose
memory traffic most of them have. Its DeepSpeech has no description: the table's number of weights is not that of the
sizes that the paper gives.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_ATOMS, _BONDS = 26, 56
"""Mean atoms and directed bonds of a molecule of ogbg-molpcba (Hu et al. 2020)."""
_TASKS = 128
"""Properties that are predicted for a molecule."""
_WORDS = 32_000


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a workload of AlgoPerf."""
    name = row["model"].lower()
    network: Network | str
    if name.startswith("u-net fastmri"):
        network = Network("algoperf.fastmri.320", MriUnet, _slices)
    elif name.startswith("transformer-big wmt"):
        length = int(float(row["sequence_length"] or 256))
        network = Network(f"algoperf.wmt.{length}", Translator, lambda batch: _ids(batch, length))
    elif name.startswith("gnn ogbg-molpcba"):
        notes = (f"molecules of {_ATOMS} atoms and {_BONDS} directed bonds are assumed",)
        network = Network("algoperf.ogbg", GraphNetwork, _molecules, notes=notes)
    elif "algoperf" in name:
        return f"{row['model']}: no description of this workload"
    else:
        return None
    return step_job(row, network, optimizer_of(row, "adam"), compiled="compile" in row["framework"])


def _slices(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(batch, 1, 320, 320), torch.empty(batch, 1, 320, 320)


def _ids(batch: int, length: int) -> tuple[torch.Tensor, ...]:
    source, target, labels = (torch.zeros(batch, length, dtype=torch.long) for _ in range(3))
    return source, target, labels


def _molecules(batch: int) -> tuple[torch.Tensor, ...]:
    """Return a batch of molecules as one graph: features, ends of bonds, and the molecule of each atom and bond."""
    atoms, bonds = batch * _ATOMS, batch * _BONDS
    ends = (torch.zeros(bonds, dtype=torch.long) for _ in range(3))
    return (
        torch.empty(atoms, 9), torch.empty(bonds, 3), *ends, torch.zeros(atoms, dtype=torch.long),
        torch.empty(batch, _TASKS),
    )  # fmt: skip


def _convolutions(wide: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (wide, out):
        layers += [nn.Conv2d(a, out, 3, padding=1, bias=False), nn.InstanceNorm2d(out)]
        layers += [nn.LeakyReLU(0.2, inplace=True), nn.Dropout2d(0.0)]
    return nn.Sequential(*layers)


class MriUnet(nn.Module):
    """The U-Net of fastMRI with 32 channels and four levels of average pooling; returns its L1 loss."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256, 512)) -> None:
        super().__init__()
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in pairwise((1, *widths)))
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(b, a, 2, 2, bias=False),
                nn.InstanceNorm2d(a),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for a, b in pairwise(widths)
        )
        self.merge = nn.ModuleList(_convolutions(2 * a, a) for a in widths[:-1])
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        for level, stage in enumerate(self.down):
            x = stage(functional.avg_pool2d(x, 2) if level else x)
            seen.append(x)
        for skip, up, merge in list(zip(seen[:-1], self.up, self.merge, strict=True))[::-1]:
            x = merge(torch.cat((up(x), skip), 1))
        return functional.l1_loss(self.out(x), target)


class Translator(nn.Module):
    """A transformer of 6 + 6 layers of width 1,024 with feed-forwards of 1,024 and one table of words."""

    def __init__(self, width: int = 1024) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, width)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 16, width, batch_first=True, norm_first=True) for _ in range(6)
        )
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(width, 16, width, batch_first=True, norm_first=True) for _ in range(6)
        )
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))

    def forward(self, source: torch.Tensor, target: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        length = target.shape[1]
        mask = torch.zeros(length, length, dtype=torch.bool, device=target.device)
        memory, hidden = self.words(source), self.words(target)
        for layer in self.encoder:
            memory = layer(memory)
        memory = self.norms[0](memory)
        for layer in self.decoder:
            hidden = layer(hidden, memory, tgt_mask=mask)
        scores = functional.linear(self.norms[1](hidden), self.words.weight)
        return functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), label_smoothing=0.1)


class GraphNetwork(nn.Module):
    """A graph network (Battaglia et al. 2018) of five steps that update bonds, atoms and the whole molecule."""

    def __init__(self, width: int = 256, steps: int = 5) -> None:
        super().__init__()
        self.width = width
        self.atom, self.bond = nn.Linear(9, width), nn.Linear(3, width)
        self.bonds, self.atoms = (
            nn.ModuleList(_update(4 * width, width) for _ in range(steps)) for _ in range(2)
        )
        self.wholes = nn.ModuleList(_update((3 if step else 2) * width, width) for step in range(steps))
        self.out = nn.Linear(width, _TASKS)

    def forward(
        self, atoms: torch.Tensor, bonds: torch.Tensor, senders: torch.Tensor, receivers: torch.Tensor,
        molecule_of_bond: torch.Tensor, molecule_of_atom: torch.Tensor, labels: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        x, y = self.atom(atoms), self.bond(bonds)
        whole = torch.zeros(len(labels), self.width, device=x.device, dtype=x.dtype)
        for step, (bond, atom, molecule) in enumerate(zip(self.bonds, self.atoms, self.wholes, strict=True)):
            y = bond(torch.cat((y, x[senders], x[receivers], whole[molecule_of_bond]), 1))
            sent, received = _sums(y, senders, len(x)), _sums(y, receivers, len(x))
            x = atom(torch.cat((x, sent, received, whole[molecule_of_atom]), 1))
            parts = [_sums(x, molecule_of_atom, len(whole)), _sums(y, molecule_of_bond, len(whole))]
            whole = molecule(torch.cat((*parts, whole) if step else parts, 1))
        return functional.binary_cross_entropy_with_logits(self.out(whole), labels)


def _update(wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide, out), nn.LayerNorm(out), nn.ReLU(inplace=True), nn.Dropout(0.1))


def _sums(values: torch.Tensor, groups: torch.Tensor, count: int) -> torch.Tensor:
    """Return the sum of the rows of each group, shape (count, width)."""
    return values.new_zeros(count, values.shape[1]).index_add(0, groups, values)
