"""
MoFlow, a flow of molecules, with the sizes of NVIDIA/DeepLearningExamples (`PyTorch/DrugDiscovery/MoFlow`).

Molecules of ZINC250k have at most 38 atoms of 9 elements, padded to 40 places. One flow transforms their atoms, which
exchange what they know along the bonds, the other one their bonds, whose map is folded to 2 x 2 places.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_ATOMS, _ELEMENTS, _BONDS = 40, 10, 4
_ATOM_FLOWS, _BOND_FLOWS = 38, 10
_FOLD = 20


def find(row: Row) -> StepJob | str | None:
    """Return the training step of MoFlow; None for other models."""
    if row["model"].lower() != "moflow":
        return None
    network = Network("graph.moflow.zinc250k", _MoFlow, _molecules)
    return step_job(row, network, optimizer_of(row, "adam"))


def _molecules(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(batch, _BONDS, _ATOMS, _ATOMS), torch.empty(batch, _ATOMS, _ELEMENTS)


class _Scaled(nn.Module):
    """A shift and a scale of each channel."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * (x + self.shift)


class _Normed(nn.Module):
    """A layer over the features of each atom, and a normalisation of each atom's place."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(wide, out), nn.BatchNorm2d(_ATOMS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.layer(x)), inplace=True)


class _Atoms(nn.Module):
    """A flow of the atoms: one of them is kept, and with it and the bonds the others are scaled and shifted."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.scaled = _Scaled(1, _ATOMS, 1)
        self.own, self.others = nn.Linear(_ELEMENTS, 256), nn.Linear(_ELEMENTS, 256 * _BONDS)
        self.norm = nn.BatchNorm2d(_ATOMS)
        self.layers = nn.Sequential(_Normed(256, 512), _Normed(512, 64), nn.Linear(64, 2 * _ELEMENTS))
        mask = torch.ones(_ATOMS, _ELEMENTS)
        mask[kept] = 0
        self.register_buffer("mask", mask)

    def forward(self, bonds: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask: torch.Tensor = self.mask  # type: ignore[assignment]
        x = self.scaled(x)
        kept = mask * x
        nodes = kept.unsqueeze(2)
        told = self.others(nodes).view(-1, _ATOMS, 256, _BONDS)
        heard = torch.einsum("bemn,bnce->bmc", bonds, told)
        mixed = functional.relu(self.norm(self.own(nodes) + heard.unsqueeze(2)), inplace=True)
        logits, shift = self.layers(mixed).squeeze(2).chunk(2, dim=-1)
        out = kept + (1 - mask) * (x + shift) * logits.sigmoid()
        return out, functional.logsigmoid(logits).flatten(1).sum(1)


class _Bonds(nn.Module):
    """A flow of the bonds: with one half of their channels the other one is scaled and shifted."""

    def __init__(self, *, swapped: bool) -> None:
        super().__init__()
        wide = _BONDS * _FOLD**2
        self.scaled, self.swapped = _Scaled(1, wide, 1, 1), swapped
        layers: list[nn.Module] = []
        for before in (wide // 2, 512):
            layers += [nn.Conv2d(before, 512, 3, padding=1), nn.BatchNorm2d(512), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(512, wide, 3, padding=1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept, rest = self.scaled(x).chunk(2, 1)
        if self.swapped:
            kept, rest = rest, kept
        logits, shift = self.layers(kept).chunk(2, 1)
        rest = (rest + shift) * logits.sigmoid()
        both = (rest, kept) if self.swapped else (kept, rest)
        return torch.cat(both, 1), functional.logsigmoid(logits).flatten(1).sum(1)


class _MoFlow(nn.Module):
    """Both flows; returns the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.atoms = nn.ModuleList(_Atoms(i % _ATOMS) for i in range(_ATOM_FLOWS))
        self.bonds = nn.ModuleList(_Bonds(swapped=bool(i % 2)) for i in range(_BOND_FLOWS))
        self.spread = nn.Parameter(torch.zeros(1))

    def forward(self, bonds: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
        x = atoms + torch.rand_like(atoms) * 0.6
        found = torch.zeros((), device=atoms.device)
        for flow in self.atoms:
            x, more = flow(bonds, x)
            found = found + more
        side = _ATOMS // _FOLD
        y = (bonds + torch.rand_like(bonds) * 0.6).view(-1, _BONDS, side, _FOLD, side, _FOLD)
        y = y.permute(0, 1, 3, 5, 2, 4).reshape(len(bonds), -1, side, side)
        for flow in self.bonds:
            y, more = flow(y)
            found = found + more
        far = [(part.flatten(1).pow(2) * torch.exp(-self.spread)).sum(1).mean() for part in (x, y)]
        return torch.stack(far).sum() - found.mean() + self.spread.sum()
