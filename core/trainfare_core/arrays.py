"""Names of the arrays that the stages hand to each other. What their rows are is said where they are used."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
"""Floats of any shape, such as plans by machines."""
Column: TypeAlias = NDArray[np.float64]
"""A float for each row of a table, shape (rows,)."""
Rows: TypeAlias = NDArray[np.int64]
"""Numbers of rows of a table, shape (n,)."""
Flags: TypeAlias = NDArray[np.bool_]
"""True where something holds, of any shape."""
