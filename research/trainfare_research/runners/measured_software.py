"""
Count the fitted rows of each accelerator that is not NVIDIA's, by kind of work and source.

    python -m trainfare_research.runners.measured_software --cache DIR [--data DIR]
        [--out core/trainfare_core/data/measured_software.csv]

These are what a figure on such a machine rests on: the rows of steps and submissions that shape the coefficients, in
the software of the accelerator's vendor. Kernels and best matrix products count for nothing: they run no training. A
row that both fits have counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_core.prediction.porting import describe_work
from trainfare_research.fitting.command_line import table_command
from trainfare_research.fitting.language_model_sums import empty_fit, read_rows
from trainfare_research.fitting.one_device_tables import read_measurements
from trainfare_research.fitting.table_lines import Line
from trainfare_research.workloads.cache import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces


def list_lines(data: Path, cache: Path) -> Iterator[Line]:
    """Yield the lines of `data/measured_software.csv`."""
    waiting = link_calibration().communication.straggler_share
    problem, _ = read_measurements(
        data, ProfileCache(cache), DecoderTraces(cache), waiting, is_of_other_vendor
    )
    steps = [
        row
        for row in problem.rows
        if row.weight and row.end_to_end and not row.line.get("task", "").startswith("inference")
    ]
    decoders, _ = read_rows(data, DecoderTraces(cache), empty_fit(data, ""), is_of_other_vendor)
    measured = [(row.device, row.work, row.source, tuple(row.line.values())) for row in steps]
    measured += [
        (run.device, describe_work(run.profile), line["source"], tuple(line.values()))
        for run, line in zip(decoders.runs, decoders.lines, strict=True)
    ]
    yield from count_rows(
        (device.name, work, source, values)
        for device, work, source, values in measured
        if device.vendor != "nvidia"
    )


def is_of_other_vendor(line: Line) -> bool:
    """Return whether a line of any table is of an accelerator that is not NVIDIA's."""
    device = resolve_device(line.get("accelerator") or line["device"])
    return device is not None and device.vendor != "nvidia"


def count_rows(measured: Iterable[tuple[str, str, str, tuple[str, ...]]]) -> Iterator[Line]:
    """Yield a line for each accelerator, kind of work and source, of what was measured and its line of a table."""
    counts = Counter(item[:3] for item in set(measured))
    for (name, work, source), count in sorted(counts.items()):
        yield {"accelerator": name, "work": work, "source": source, "rows": str(count)}


if __name__ == "__main__":
    table_command(__doc__ or "", list_lines)
