"""What stands between a PyTorch script and a device: `Environment.obstacle`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from trainfare_core.documents import data_rows
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerators, resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.variants import is_decoder

_BACKENDS: Final = {
    "tpu": "the script must run under torch_xla",
    "trainium": "the script must run under torch-neuronx",
    "inferentia": "the script must run under torch-neuronx",
    "gaudi": "the script must run under Intel Gaudi's PyTorch",
}
_RUNTIMES: Final = {
    "nvidia": "it needs PyTorch's CUDA build and an image with NVIDIA's driver",
    "amd": "it needs PyTorch's ROCm build and an image with AMD's driver; CUDA extensions do not run there",
}

_SOFTWARE: Final = {"tpu": "XLA", "trainium": "Neuron", "gaudi": "SynapseAI", "amd": "ROCm"}
LEAST_ROWS: Final = 10
"""Fewer count as none. Chosen, as for makers in the fit of language models: four of MI300X left MI325X 2.4-fold off."""

Version = tuple[int, int]

# From its first version on, the wheel of a bare `pip install torch` holds no kernels for a generation; the CUDA 12.6
# build of the same version still does. PyTorch's RELEASE.md, "CUDA support matrix", and issues 157517 and 172352 of
# its repository: Maxwell and Pascal left with 2.8 (CUDA 12.8), Volta with 2.11 (CUDA 13.0).
_LEFT_DEFAULT_WHEEL: Final[dict[str, Version]] = {"maxwell": (2, 8), "pascal": (2, 8), "volta": (2, 11)}

# CUDA 12 does not know Kepler. The last wheels for it are the CUDA 11.8 builds, which end with PyTorch 2.7.
_LEFT_ALL_WHEELS: Final[dict[str, Version]] = {"kepler": (2, 8)}


@dataclass(frozen=True, slots=True)
class Environment:
    """
    What a script runs on today, as its profile tells; CUDA on x86-64 unless it was measured elsewhere.

    >>> from trainfare_core.hardware.accelerators import accelerator
    >>> Environment(torch=(2, 13)).obstacle(accelerator("H100-SXM-80GB"))
    ''
    >>> Environment(torch=(2, 13)).obstacle(accelerator("T4G-16GB"))
    'its host is an arm64 CPU: x86-64 wheels and containers do not run there'

    Attributes:
        vendor: of the GPUs that the script runs on.
        arm64: its host is an arm64 CPU.
        torch: major and minor version of PyTorch; None: not known.
        kind: "gpu", or the kind of accelerator that the script was measured on.
    """

    vendor: str = "nvidia"
    arm64: bool = False
    torch: Version | None = None
    kind: str = "gpu"

    @classmethod
    def of(cls, profile: JobProfile) -> Environment:
        """Return the environment that a profile tells of."""
        measured = profile.measured
        device = None if measured is None else resolve_device(measured.device_name)
        match = re.match(r"(\d+)\.(\d+)", profile.source.torch_version)
        torch = (int(match[1]), int(match[2])) if match else None
        if device is None:
            return cls(torch=torch)
        return cls(device.vendor, device.arm64_host, torch, device.kind)

    def obstacle(self, device: Accelerator) -> str:
        """Return why the script does not run on a device as it is, "" where it does."""
        if device.kind != self.kind:
            return _BACKENDS.get(
                device.kind, _RUNTIMES.get(device.vendor, "it needs another build of PyTorch")
            )
        if device.vendor != self.vendor:
            return _RUNTIMES.get(device.vendor, "it needs another build of PyTorch")
        if device.arm64_host != self.arm64:
            theirs, ours = ("arm64", "x86-64") if device.arm64_host else ("x86-64", "arm64")
            return f"its host is an {theirs} CPU: {ours} wheels and containers do not run there"
        if self._has_left(_LEFT_DEFAULT_WHEEL, device) or self._has_left(_LEFT_ALL_WHEELS, device):
            return (
                f"PyTorch's default wheels of version {self._join_version()} hold no kernels for {device.generation}: "
                "it needs the CUDA 12.6 build or an older PyTorch"
            )
        return ""

    def impossible(self, device: Accelerator) -> str:
        """Return why no build of the script's PyTorch runs on a device, "" where one does."""
        if not self._has_left(_LEFT_ALL_WHEELS, device):
            return ""
        return f"{device.name}: no wheel of PyTorch {self._join_version()} runs on {device.generation}"

    def _has_left(self, first_without: dict[str, Version], device: Accelerator) -> bool:
        first = first_without.get(device.generation)
        return first is not None and self.torch is not None and self.torch >= first

    def _join_version(self) -> str:
        return "" if self.torch is None else f"{self.torch[0]}.{self.torch[1]}"


def find_basis(profile: JobProfile, device: Accelerator) -> tuple[str, bool]:
    """
    Return in words what a figure on a device rests on, and whether its vendor's software ran work like the job's.

    Rows that the coefficients were fitted on count, of the device's generation; "" on NVIDIA's devices.
    """
    software = _SOFTWARE.get(device.vendor, _SOFTWARE.get(device.kind, ""))
    if not software:
        return "", True
    work = describe_work(profile)
    rows = [row for row in _list_measured_rows(device) if row["work"] == work]
    if not rows:
        return f"no step on {device.name} in {software} was ever measured with {work}", False
    names, sources = (sorted({row[column] for row in rows}) for column in ("accelerator", "source"))
    count, more = sum(int(row["rows"]) for row in rows), "s" * (len(sources) > 1)
    counted = (
        f"{count} row{'s' * (count > 1)} of {' and '.join(names)} in {software}, {len(sources)} source{more}"
    )
    if count < LEAST_ROWS:
        return f"too few measured with {work} ({counted})", False
    return f"rests on {counted}", True


@dataclass(frozen=True, slots=True)
class MeasuredRows:
    """Fitted rows in the software of a device's vendor: like a job, on its generation and its die, and of any work."""

    of_generation: int
    of_silicon: int
    of_any_work: int


def count_measured_rows(profile: JobProfile, device: Accelerator) -> MeasuredRows | None:
    """Return the fitted rows in the software of a device's vendor; None: it is NVIDIA's, whose are enough."""
    if device.vendor not in _SOFTWARE and device.kind not in _SOFTWARE:
        return None
    siblings = _list_measured_rows(device)
    like = [row for row in siblings if row["work"] == describe_work(profile)]
    dies = {other.name for other in accelerators() if other.silicon == device.silicon}
    own = [row for row in like if row["accelerator"] in dies]
    return MeasuredRows(*(sum(int(row["rows"]) for row in rows) for rows in (like, own, siblings)))


def _list_measured_rows(device: Accelerator) -> list[dict[str, str]]:
    siblings = {other.name for other in accelerators() if other.generation == device.generation}
    return [row for row in data_rows("measured_software.csv") if row["accelerator"] in siblings]


def describe_work(profile: JobProfile) -> str:
    """Return the kind of work and the bits of its products, by which measured runs are like a job."""
    kinds, dtypes = Counter[str](), Counter[str]()
    for group in profile.operations:
        kinds[group.kind] += group.flops
        dtypes[group.dtype] += group.flops
    kind = next((name for name, _ in kinds.most_common(1)), "")
    wide = next((name for name, _ in dtypes.most_common(1)), "fp32") in ("fp32", "tf32", "fp64")
    work = "transformers" if {"attention", "softmax"} & set(kinds) else "matrix products"
    work = f"{kind} networks" if kind in ("convolution", "recurrent") else work
    return f"{'language models' if is_decoder(profile) else work} in {'32' if wide else '16'} bits"
