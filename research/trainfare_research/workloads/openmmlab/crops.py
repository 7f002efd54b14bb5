"""What a name of a segmentation network in OpenMMLab's zoo says of its data: the size of its crops, and the classes."""

from __future__ import annotations

import re

from trainfare_research.workloads.single_device import Row

CLASSES = {"ade20k": 150, "cityscapes": 19}
"""Of the data sets that the names of configurations hold."""


def crop_of(row: Row) -> tuple[int, int] | None:
    """Return height and width of the crops, pixels; None where the row is of no segmentation network or has none."""
    sizes = re.search(r"(\d{2,4})x(\d{2,4})$", row["model"].lower())
    if row["task"] != "openmmlab-segmentation" or sizes is None:
        return None
    return int(sizes[1]), int(sizes[2])


def classes_of(row: Row, default: int = 0) -> int:
    """Return the classes of a pixel; `default` where the name holds no known data set."""
    return next((count for key, count in CLASSES.items() if key in row["model"].lower()), default)
