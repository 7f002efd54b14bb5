"""The samples of a batch, by what is known of them, and which of them BatchNorm sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import nn

from builders.lightning_modules import MeterHarness, Tiny, loader, quiet, trainer
from trainfare.meter.batch_facts import BatchSizes
from trainfare_core.job_profile import SynchronizedNorms

pytestmark = quiet


@pytest.mark.parametrize(
    ("argument", "loader", "by_shape", "size"),
    [
        (3, 4, [5], 3),
        (None, 4, [5], 4),
        (None, None, [4, 4, 6], 5),
        (None, None, [4, None], None),
        (None, None, [], None),
    ],
)
def test_the_first_that_is_known_is_taken(
    argument: int | None, loader: int | None, by_shape: Sequence[int | None], size: int | None
) -> None:
    """The user's word, the loader's, then the mean by shapes, if every batch shows its samples."""
    sizes = BatchSizes.of(argument=argument, loader=loader, by_shape=by_shape, tokens=[None, 7])
    assert (sizes.micro_batch_size, sizes.tokens) == (size, 7)
    assert any("not known" in note for note in sizes.notes) == (size is None)


@pytest.mark.parametrize("asked", [False, True])
def test_a_trainer_that_synchronizes_batch_norm_says_so(tmp_path: Path, asked: bool) -> None:
    """One device leaves BatchNorm as it is; the same Trainer on several shares its moments, if it is asked to."""
    harness, module = MeterHarness(), Tiny()
    module.layer = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1, sync_batchnorm=asked).fit(module, loader())
    batch = harness.profile.batch
    assert batch.batch_norm is not asked
    assert batch.synchronized_norms == (SynchronizedNorms(modules=1, channels=8) if asked else None)
