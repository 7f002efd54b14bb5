"""The samples of a batch, by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trainfare.meter.batch_facts import BatchSizes


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
    found = BatchSizes.of(argument=argument, loader=loader, by_shape=by_shape, tokens=[None, 7])
    assert (found.micro_batch_size, found.tokens) == (size, 7)
    assert any("not known" in note for note in found.notes) == (size is None)
