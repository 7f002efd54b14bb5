"""
Recurrent and long-context sequence models: GNMT, Transformer-XL, Tacotron 2.

Sizes are those of the public reference implementations: GNMT with 4 + 4 layers of 1,024 (Wu et al. 2016),
Transformer-XL base and large (Dai et al. 2019), Tacotron 2 (Shen et al. 2018). Where a table states no length, one
typical of the data set is taken, and the notes of the profile say so.
"""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.language.transformers_models import casts_weights
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

FULL_SOFTMAX = "softmax=full"
"""Note of a row whose Transformer-XL has no adaptive softmax."""
_WORDS, _COUNTED_WORDS = 32, 48.5
"""
Steps of each side of a padded sentence pair, and the tokens of a pair that tables count, those without padding.
Batches come from five buckets of lengths up to 10, 20, 30, 40 and 50. A log of one GPU (1080Ti, FP32, in
lambdal/deeplearning-benchmark) has iterations of 0.153, 0.277, 0.40, 0.53 and 0.675 s in them, so each takes as long
as its longest length says; the mean iteration of 0.436 s is one of 32 steps.
"""
_TEXT, _FRAMES = 120, 100
"""Characters of an LJ Speech clip, and traced mel frames (the rate per frame hardly depends on their number)."""
_REAL_SHARE = 6.57 / 10.1
"""Share of computed mel frames that tables count: clips of LJ Speech last 6.57 s on average, padded 10.1 s."""
_CLUSTERS = (20_000, 20_000, 160_000, 67_735)
"""Words of WikiText-103 by how often they occur."""
_TAIL_SHARES = (0.09, 0.05, 0.01)
"""Shares of WikiText-103's tokens in the three tail clusters of the adaptive softmax."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a sequence model."""
    name = row["model"].lower()
    maker = next((make for key, make in _MAKERS.items() if name.startswith(key)), None)
    if maker is None or row["task"] not in ("translation", "lm", "tts"):
        return None
    tacotron = name.startswith("tacotron2")
    return step_job(
        row,
        maker(row),
        optimizer_of(row, "adam"),
        half=not (tacotron or casts_weights(row)),
        unstated_batch=48 if tacotron else 0,
    )


def _ids(count: int, *shape: int) -> tuple[torch.Tensor, ...]:
    """Return tensors of token numbers, all of one shape."""
    return tuple(torch.zeros(shape, dtype=torch.long) for _ in range(count))


def _gnmt(_row: Row) -> Network:
    return Network(
        f"sequence.gnmt-{_WORDS}",
        Gnmt,
        lambda batch: _ids(3, _WORDS, batch),
        units=_COUNTED_WORDS,
        notes=(
            f"sentences padded to {_WORDS} tokens on average, of which {_COUNTED_WORDS / 2:g} are counted",
        ),
    )


def _transformer_xl(row: Row) -> Network:
    large = "large" in row["model"].lower()
    length = int(float(row["sequence_length"] or (256 if large else 192)))
    full = FULL_SOFTMAX in row["notes"]

    def build() -> nn.Module:
        if large:
            return TransformerXl(18, 1024, 16, 4096, length, (1024,) if full else (1024, 256, 64, 16))
        return TransformerXl(16, 512, 8, 2048, length, (512,) if full else (512, 512, 512, 512))

    key = f"sequence.transformer-xl-{'large' if large else 'base'}-{length}{'-full' if full else ''}"
    return Network(key, build, lambda batch: _ids(2, length, batch), units=length)


def _tacotron(_row: Row) -> Network:
    def inputs(batch: int) -> tuple[torch.Tensor, ...]:
        return torch.zeros(batch, _TEXT, dtype=torch.long), torch.empty(batch, 80, _FRAMES)

    notes = (
        f"texts of {_TEXT} characters are assumed; {_FRAMES} mel frames are traced, a third of them padding",
    )
    return Network("sequence.tacotron2", Tacotron2, inputs, units=_FRAMES * _REAL_SHARE, notes=notes)


_MAKERS = {"gnmt": _gnmt, "transformer-xl": _transformer_xl, "tacotron2": _tacotron}


class Gnmt(nn.Module):
    """GNMT with one bidirectional and three residual encoder layers, attention after the first decoder layer."""

    def __init__(self, vocabulary: int = 31_800, width: int = 1024) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.encoder = nn.ModuleList(
            (nn.LSTM(width, width, bidirectional=True), nn.LSTM(2 * width, width), nn.LSTM(width, width),
             nn.LSTM(width, width))
        )  # fmt: skip
        self.decoder = nn.ModuleList((nn.LSTM(width, width), *(nn.LSTM(2 * width, width) for _ in range(3))))
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.score = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, vocabulary)

    def forward(self, source: torch.Tensor, target: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = functional.dropout(self.embedding(source), 0.2)
        for depth, layer in enumerate(self.encoder):
            y = layer(x)[0]
            x = functional.dropout(y + x if depth > 1 else y, 0.2)
        context = self._attend(functional.dropout(self.embedding(target), 0.2), x)
        logits = functional.log_softmax(self.out(context).float(), -1)
        smooth = -0.1 * logits.mean(-1).view(-1)
        return (
            functional.nll_loss(logits.view(-1, logits.shape[-1]), labels.view(-1), reduction="none") + smooth
        ).mean()

    def _attend(self, y: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        y = self.decoder[0](y)[0]
        query, keys = self.query(y).transpose(0, 1), self.key(memory).transpose(0, 1)
        summed = torch.tanh(query.unsqueeze(2) + keys.unsqueeze(1))
        weights = functional.softmax(torch.matmul(summed, self.score), -1)
        context = torch.bmm(weights, memory.transpose(0, 1).to(weights.dtype)).transpose(0, 1)
        for depth, layer in enumerate(list(self.decoder)[1:]):
            z = layer(torch.cat((functional.dropout(y, 0.2), context.to(y.dtype)), -1))[0]
            y = z + y if depth > 0 else z
        return y


class TransformerXl(nn.Module):
    """
    Transformer-XL with relative positions, a memory of the segment's length and an adaptive softmax.

    Args:
        layers: of the decoder.
        width: of a token.
        heads: of the attention.
        inner: width of the feed-forward layers.
        length: of a segment, in tokens.
        sizes: width of the embeddings of each cluster of words; one: all words are one cluster, with a full softmax.
    """

    def __init__(
        self, layers: int, width: int, heads: int, inner: int, length: int, sizes: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.width, self.heads, self.length = width, heads, length
        self.cutoffs = _CLUSTERS if len(sizes) > 1 else (sum(_CLUSTERS),)
        self.tails = _TAIL_SHARES[: len(sizes) - 1]
        self.tables = nn.ModuleList(nn.Embedding(n, d) for n, d in zip(self.cutoffs, sizes, strict=True))
        self.lifts = nn.ModuleList(
            nn.Linear(d, width, bias=False) if d != width else nn.Identity() for d in sizes
        )
        self.layers = nn.ModuleList(_XlLayer(width, heads, inner) for _ in range(layers))
        self.clusters = nn.Linear(width, 3) if self.tails else None
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in self.cutoffs)

    def forward(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        length, batch = ids.shape
        x = self.lifts[0](self.tables[0](ids)) * self.width**0.5
        for share, table, lift in zip(self.tails, list(self.tables)[1:], list(self.lifts)[1:], strict=True):
            few = max(1, int(share * length * batch))
            x = x + functional.pad(lift(table(ids.view(-1)[:few])), (0, 0, 0, length * batch - few)).view_as(
                x
            )
        x = functional.dropout(x, 0.1)
        position = functional.dropout(torch.zeros(2 * length, 1, self.width, device=x.device), 0.1)
        memory = torch.zeros(length, batch, self.width, device=x.device)
        for layer in self.layers:
            x = layer(x, memory, position)
        return self._compute_loss(functional.dropout(x, 0.1).view(-1, self.width), labels.view(-1))

    def _compute_loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        weight, bias = self._table(0), self.biases[0]
        if self.clusters is not None:
            weight = torch.cat((weight, self.clusters.weight))
            bias = torch.cat((bias, self.clusters.bias))
        head = functional.linear(x, weight, bias)
        loss = functional.nll_loss(functional.log_softmax(head.float(), 1), labels)
        for cluster, share in enumerate(self.tails, 1):
            few, lift = max(1, int(share * len(labels))), self.lifts[cluster]
            narrow = x[:few] @ lift.weight if isinstance(lift, nn.Linear) else x[:few]
            tail = functional.linear(narrow, self._table(cluster), self.biases[cluster])
            loss = loss + functional.nll_loss(functional.log_softmax(tail.float(), 1), labels[:few])
        return loss

    def _table(self, cluster: int) -> torch.Tensor:
        return cast("nn.Embedding", self.tables[cluster]).weight


class _XlLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv, self.relative = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.content, self.place = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        length, batch, width = x.shape
        query, key, value = self.qkv(torch.cat((memory.to(x.dtype), x))).chunk(3, -1)
        query = query[-length:]
        r = self.relative(position).view(-1, self.heads, self.size)
        q1 = self._split(query + self.content.to(query.dtype), batch)
        q2 = self._split(query + self.place.to(query.dtype), batch)
        scores = torch.matmul(q1, self._split(key, batch).transpose(-1, -2))
        shifted = torch.matmul(q2, r.permute(1, 2, 0).unsqueeze(0).to(q2.dtype))
        shifted = functional.pad(shifted, (1, 0))[..., :-1].contiguous()
        scores = ((scores + shifted) * self.size**-0.5).masked_fill(
            torch.zeros(length, 2 * length, dtype=torch.bool, device=x.device), -1e4
        )
        weights = functional.dropout(functional.softmax(scores, -1), 0.0)
        mixed = torch.matmul(weights, self._split(value, batch).to(weights.dtype))
        mixed = mixed.permute(2, 0, 1, 3).reshape(length, batch, width)
        x = self.first(x + functional.dropout(self.out(mixed), 0.1))
        hidden = functional.dropout(functional.relu(self.up(x)), 0.1)
        y: torch.Tensor = self.second(x + functional.dropout(self.down(hidden), 0.1))
        return y

    def _split(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        return x.reshape(-1, batch, self.heads, self.size).permute(1, 2, 0, 3)


class Tacotron2(nn.Module):
    """Tacotron 2 with teacher forcing: the decoder is a loop over mel frames, as in the reference."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(148, 512)
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.Conv1d(512, 512, 5, padding=2), nn.BatchNorm1d(512)) for _ in range(3)
        )
        self.lstm = nn.LSTM(512, 256, batch_first=True, bidirectional=True)
        self.prenet = nn.Sequential(
            nn.Linear(80, 256, bias=False), nn.ReLU(), nn.Linear(256, 256, bias=False), nn.ReLU()
        )
        self.attention_rnn, self.decoder_rnn = nn.LSTMCell(768, 1024), nn.LSTMCell(1536, 1024)
        self.query, self.memory = nn.Linear(1024, 128, bias=False), nn.Linear(512, 128, bias=False)
        self.place, self.dense = nn.Conv1d(2, 32, 31, padding=15, bias=False), nn.Linear(32, 128, bias=False)
        self.energy = nn.Linear(128, 1, bias=False)
        self.frame, self.gate = nn.Linear(1536, 80), nn.Linear(1536, 1)
        widths = (80, 512, 512, 512, 512, 80)
        self.post = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 5, padding=2), nn.BatchNorm1d(b))
            for a, b in itertools.pairwise(widths)
        )

    def forward(self, text: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        x = self.embedding(text).transpose(1, 2)
        for stage in self.encoder:
            x = functional.dropout(functional.relu(stage(x)), 0.5)
        memory = self.lstm(x.transpose(1, 2))[0]
        frames, gates = self._decode(memory, mel)
        y = frames
        for stage in list(self.post)[:-1]:
            y = functional.dropout(torch.tanh(stage(y)), 0.5)
        y = frames + self.post[-1](y)
        stop = functional.binary_cross_entropy_with_logits(gates, torch.zeros_like(gates))
        return functional.mse_loss(frames, mel) + functional.mse_loss(y, mel) + stop

    def _decode(self, memory: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, text = memory.shape[:2]
        inputs = functional.dropout(self.prenet(mel.permute(2, 0, 1)), 0.5)
        keys = self.memory(memory)
        hidden = cell = state = hold = memory.new_zeros(batch, 1024)
        context, weights = memory.new_zeros(batch, 512), memory.new_zeros(batch, text)
        total = weights
        frames, gates = [], []
        for step in range(mel.shape[2]):
            hidden, cell = self.attention_rnn(torch.cat((inputs[step], context), -1), (hidden, cell))
            hidden = functional.dropout(hidden, 0.1)
            where = self.dense(self.place(torch.stack((weights, total), 1)).transpose(1, 2))
            energy = self.energy(torch.tanh(self.query(hidden.unsqueeze(1)) + where + keys)).squeeze(-1)
            energy = energy.masked_fill(torch.zeros_like(energy, dtype=torch.bool), -1e4)
            weights = functional.softmax(energy, 1)
            context = torch.bmm(weights.unsqueeze(1), memory.to(weights.dtype)).squeeze(1)
            total = total + weights
            state, hold = self.decoder_rnn(torch.cat((hidden, context), -1), (state, hold))
            state = functional.dropout(state, 0.1)
            both = torch.cat((state, context), 1)
            frames.append(self.frame(both))
            gates.append(self.gate(both))
        return torch.stack(frames, 2), torch.cat(gates, 1)
