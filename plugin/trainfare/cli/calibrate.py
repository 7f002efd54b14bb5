"""`trainfare calibrate`: time kernels on this machine, whose figures correct predictions on its device."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from trainfare.cli.doctor import ask_driver
from trainfare.cli.ledger import LedgerOption, folder_of
from trainfare.cli.output import output_width, show_wait, warn
from trainfare.report.tables import table_text
from trainfare_core.errors import MissingExtraError

if TYPE_CHECKING:
    from trainfare_core.ledger.device_figures import DeviceMeasurement, Figure


def calibrate(
    *,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="time to take, about")] = 180,
    folder: LedgerOption = None,
) -> None:
    """Time kernels on this machine; predictions on its device use the figures."""
    place = folder_of(folder)
    try:
        from trainfare.ledger.device_kernels import measure_device
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", "lightning") from error
    from trainfare.ledger.earlier_runs import keep_measurement

    driver = next(iter(ask_driver("driver_version").splitlines()), "")
    measured, notes = measure_device(seconds, datetime.now(tz=timezone.utc), driver, wait=show_wait)
    warn(notes)
    sys.stdout.write(calibration_text(measured, output_width()))
    sys.stderr.write(f"wrote {keep_measurement(measured, place)}\n")


def calibration_text(measured: DeviceMeasurement, width: int) -> str:
    """Return a row for each kind of work, beside its prediction, and which predictions use it."""
    from trainfare_core.ledger.device_figures import NO_PREDICTION, compare_kernels

    rows = [
        (figure.work, _write_rate(figure), figure.refused or f"{figure.ratio:.2f} of predicted seconds")
        for figure in compare_kernels(measured)
    ]
    name = measured.accelerator
    use = (
        f"predictions on {name} use what is not refused"
        if name
        else f"no prediction uses these: {NO_PREDICTION}"
    )
    table = table_text(
        ("work", "best", "against its prediction"),
        rows if name else [(*row[:2], "") for row in rows],
        width=width,
    )
    return f"{measured.device_name}, torch {measured.torch}\n{table}\n{use}\n"


def _write_rate(figure: Figure) -> str:
    """Return the best rate that was measured of a kind of work."""
    kernels = figure.kernels
    if figure.work == "launch":
        return f"{min(kernel.seconds for kernel in kernels) * 1e6:.3g} us"
    if any(kernel.operation.flops for kernel in kernels):
        return f"{max(kernel.operation.flops / kernel.seconds for kernel in kernels) / 1e12:.3g} TFLOP/s"
    if figure.work == "all_reduce":  # the operation is a copy of what is reduced
        return f"{max(kernel.operation.bytes_read / kernel.seconds for kernel in kernels) / 1e9:.3g} GB/s reduced"
    return f"{max(kernel.operation.bytes_moved / kernel.seconds for kernel in kernels) / 1e9:.3g} GB/s"
