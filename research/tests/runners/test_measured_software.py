"""What was measured in other vendors' software: the shipped counts agree with the fits that they are of."""

from __future__ import annotations

import csv
from collections import Counter

from trainfare_core.documents import data_text
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.runners.measured_software import count_rows, is_of_other_vendor

ROWS = list(csv.DictReader(data_text("measured_software.csv").splitlines()))


def test_the_shipped_counts_agree_with_the_fits() -> None:
    """No source has more rows than both fits have, and sources of one vendor alone have as many."""
    counted = Counter[str]()
    for row in ROWS:
        counted[row["source"]] += int(row["rows"])
    fitted = Counter(calibration().fitted_on) + Counter(decoder_calibration().fitted_on)
    assert counted <= fitted
    for source in ("aws-neuron", "intel-gaudi", "levanter", "maxtext-tpu", "tpu-recipes"):
        assert counted[source] == decoder_calibration().fitted_on[source]
    assert all(accelerator(row["accelerator"]).vendor != "nvidia" for row in ROWS)


def test_a_row_of_both_fits_counts_once() -> None:
    row = ("TPU-v4", "language models in 16 bits", "maxtext-tpu", ("a", "1"))
    other = (*row[:3], ("a", "2"))
    assert list(count_rows([row, row, other])) == [
        {"accelerator": "TPU-v4", "work": row[1], "source": "maxtext-tpu", "rows": "2"}
    ]


def test_names_of_any_table_are_told_apart() -> None:
    """Submissions write Gaudi2, kernels have another column."""
    assert is_of_other_vendor({"accelerator": "Gaudi2"})
    assert is_of_other_vendor({"device": "MI210-64GB"})
    assert not is_of_other_vendor({"accelerator": "H100-SXM-80GB"})
    assert not is_of_other_vendor({"accelerator": "Ascend910"})
