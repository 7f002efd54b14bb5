"""The energy counter of a GPU, as NVIDIA's management library (NVML) tells it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch


def read_energy_j(device: torch.device) -> float | None:
    """
    Return the joules that a GPU took since its driver was loaded.

    None without NVIDIA's driver or its package nvidia-ml-py, on a GPU older than Volta, and on a part of one (MIG).
    """
    if device.type != "cuda":
        return None
    try:
        nvml = import_module("pynvml")
    except ImportError:  # an optional package: `pip install nvidia-ml-py`
        return None
    try:
        nvml.nvmlInit()
        cuda: Any = torch.cuda  # whose stubs do not type the properties
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{cuda.get_device_properties(device).uuid}")
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000.0
    except nvml.NVMLError:
        return None
