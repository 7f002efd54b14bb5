"""What `trainfare calibrate` measured on a device, for tests."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from builders.profiles import operation
from trainfare_core.job_profile import OperationGroup
from trainfare_core.ledger.device_figures import DeviceMeasurement, KernelTime


def product(side: int, dtype: str = "bf16") -> OperationGroup:
    """Return one square product in 16 bits, or in another type."""
    item = 4 if dtype in ("fp32", "tf32") else 2
    return operation(
        shape=(1, side, side, side), dtype=dtype, flops=2 * side**3, bytes_read=2 * item * side**2,
        bytes_written=item * side**2,
    )  # fmt: skip


def copy(count: int) -> OperationGroup:
    """Return one copy of numbers of fp32."""
    return operation(
        kind="copy", name="aten.copy_", dtype="fp32", shape=(count,), flops=0, bytes_read=4 * count,
        bytes_written=4 * count,
    )  # fmt: skip


def addition() -> OperationGroup:
    """Return the addition of one number in place."""
    return operation(
        kind="elementwise", name="aten.add_", dtype="fp32", shape=(1,), flops=0, bytes_read=4, bytes_written=4
    )


def measurement(*kernels: tuple[OperationGroup, float], **overrides: Any) -> DeviceMeasurement:
    """Return kernels with their seconds on an A100 of 80 GB; without any, a product and an all-reduce of 8 devices."""
    times = [KernelTime(operation=group, seconds=seconds) for group, seconds in kernels]
    fields: dict[str, Any] = {
        "tool_version": "1.2.3",
        "device_name": "NVIDIA A100-SXM4-80GB",
        "memory_bytes": 80 * 2**30,
        "torch": "2.8.0",
        "driver": "570.86",
        "measured_at": datetime(2026, 11, 30, 12, tzinfo=timezone.utc),
        "kernels": times
        or (
            KernelTime(operation=product(4096), seconds=5.5e-4),
            KernelTime(operation=copy(2**26), reduced_by=8, seconds=2e-3),
        ),
    }
    return DeviceMeasurement(**{**fields, **overrides})
