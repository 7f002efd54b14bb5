"""
Temporal Fusion Transformer (Lim et al. 2021) as NVIDIA trains it (`PyTorch/Forecasting/TFT`: `modeling.py`).

Samples of 192 hours, of which the last 24 are predicted; 128 channels, 4 heads, three known inputs, one target and one
static class (`configuration.py`). Mixed precision is Apex O2, normalisation and Adam are Apex's fused kernels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, step_job

_HOURS, _SEEN = 192, 168
_WIDTH, _HEADS, _KNOWN, _QUANTILES = 128, 4, 3, 3
_SERIES = {"tft[electricity]": (369, 0.1), "tft[traffic]": (963, 0.3)}
"""Series of a data set, and dropout."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a Temporal Fusion Transformer; None for any other model."""
    name = row["model"].lower()
    if name not in _SERIES:
        return None
    series, dropout = _SERIES[name]
    network = Network(
        f"forecasting.{name}",
        lambda: TemporalFusion(series, dropout),
        lambda batch: (
            torch.zeros(batch, dtype=torch.long), torch.empty(batch, _HOURS, _KNOWN), torch.empty(batch, _HOURS, 1),
        ),
    )  # fmt: skip
    return step_job(row, network, "adam-fused", half=True)


class _Gate(nn.Module):
    """A gated linear unit."""

    def __init__(self, width: int = _WIDTH) -> None:
        super().__init__()
        self.lift = nn.Linear(_WIDTH, 2 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.glu(self.lift(x))


class _Residual(nn.Module):
    """A gated residual network, of `wide` channels and, where there is a context, with that."""

    def __init__(
        self, wide: int = _WIDTH, out: int = 0, *, dropout: float = 0.0, context: bool = False
    ) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(wide, _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.context = nn.Linear(_WIDTH, _WIDTH, bias=False) if context else None
        self.gate, self.dropout = _Gate(out or _WIDTH), nn.Dropout(dropout)
        self.side = nn.Linear(wide, out) if out else nn.Identity()
        self.normal = nn.Identity() if out == 1 else nn.LayerNorm(out or _WIDTH)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        y = self.first(x)
        if self.context is not None and context is not None:
            y = y + self.context(context).unsqueeze(1)
        y = self.gate(self.dropout(self.second(functional.elu(y))))
        result: torch.Tensor = self.normal(y + self.side(x))
        return result


class _Selection(nn.Module):
    """Weights of the inputs, and their weighted sum."""

    def __init__(self, inputs: int, dropout: float, *, context: bool = True) -> None:
        super().__init__()
        self.joint = _Residual(inputs * _WIDTH, inputs, context=context)
        self.each = nn.ModuleList(_Residual(dropout=dropout) for _ in range(inputs))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        weights = functional.softmax(self.joint(x.flatten(-2), context), -1)
        parts = torch.stack([part(x[..., i, :]) for i, part in enumerate(self.each)], -1)
        return torch.matmul(parts, weights.unsqueeze(-1)).squeeze(-1)


class TemporalFusion(nn.Module):
    """
    The network; returns its quantile loss.

    Args:
        series: classes of the static input.
        dropout: of a data set.
    """

    mask: torch.Tensor

    def __init__(self, series: int, dropout: float) -> None:
        super().__init__()
        self.series = nn.Embedding(series, _WIDTH)
        self.scales = nn.ParameterList(torch.empty(n, _WIDTH) for n in (_KNOWN, _KNOWN, 1, 1))
        self.static = _Selection(1, dropout, context=False)
        self.contexts = nn.ModuleList(_Residual(dropout=dropout) for _ in range(4))
        self.past, self.future = _Selection(_KNOWN + 1, dropout), _Selection(_KNOWN, dropout)
        self.encoder, self.decoder = (nn.LSTM(_WIDTH, _WIDTH, batch_first=True) for _ in range(2))
        self.enrich = _Residual(dropout=dropout, context=True)
        self.positionwise = _Residual(dropout=dropout)
        self.gates = nn.ModuleList(_Gate() for _ in range(3))
        self.normals = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in range(3))
        self.head = _WIDTH // _HEADS
        self.qkv = nn.Linear(_WIDTH, (2 * _HEADS + 1) * self.head, bias=False)
        self.mix, self.dropout = nn.Linear(self.head, _WIDTH, bias=False), nn.Dropout(dropout)
        self.register_buffer("mask", torch.full((_HOURS, _HOURS), float("-inf")).triu(1))
        self.out = nn.Linear(_WIDTH, _QUANTILES)

    def forward(self, series: torch.Tensor, known: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen, seen_bias, target_scale, wanted_bias = self.scales
        known = known.unsqueeze(-1) * seen + seen_bias
        past = torch.matmul(target[:, :, :, None, None], target_scale.unsqueeze(1)).squeeze(3) + wanted_bias
        static = self.static(self.series(series).unsqueeze(1))
        chosen, enriching, hidden, cell = (part(static) for part in self.contexts)
        history = self.past(torch.cat((known[:, :_SEEN], past[:, :_SEEN]), 2), chosen)
        future = self.future(known[:, _SEEN:], chosen)
        first, state = self.encoder(history, (hidden.unsqueeze(0), cell.unsqueeze(0)))
        second, _ = self.decoder(future, state)
        x = self._gate(0, torch.cat((first, second), 1), torch.cat((history, future), 1))
        rich = self.enrich(x, enriching)
        mixed = self._attend(rich)[:, _SEEN:]
        y = self.positionwise(self._gate(1, mixed, rich[:, _SEEN:]))
        forecast = self.out(self._gate(2, y, x[:, _SEEN:])).float()
        missed = target[:, _SEEN:].float() - forecast
        return torch.maximum(0.9 * missed, -0.1 * missed).mean((0, 1)).sum()

    def _gate(self, index: int, x: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.normals[index](self.gates[index](x) + around)
        return result

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """Attention whose heads share their values, of which they take the mean."""
        wide = _HEADS * self.head
        q, k, v = self.qkv(x).split((wide, wide, self.head), -1)
        q, k = (part.unflatten(-1, (_HEADS, self.head)).transpose(1, 2) for part in (q, k))
        scores = torch.matmul(q, k.transpose(2, 3)).mul_(self.head**-0.5) + self.mask
        mixed = torch.matmul(functional.softmax(scores, 3), v.unsqueeze(1)).mean(1)
        result: torch.Tensor = self.dropout(self.mix(mixed))
        return result
