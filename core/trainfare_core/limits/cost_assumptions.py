"""
`CostAssumptions`: the figures behind the cost of a run that are neither measured nor in a price list, each with its
source and open to the user's own: the table `run_cost` of `trainfare.toml`.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import Field

from trainfare_core.clouds import service_startup_s
from trainfare_core.documents import Finite, Record

Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]

COMPILE_S: Final = {"tpu": 300.0, "trainium": 1_200.0, "inferentia": 1_200.0, "gaudi": 300.0}
"""Graph compilation before the first step: XLA some minutes, neuronx tens of minutes with a cold cache."""

TORCH_COMPILE_S: Final = 120.0
"""The user's step runs under torch.compile: a minute or two before the first step of a mid-sized model."""

_GB: Final = 1e9


class CostAssumptions(Record):
    """
    Figures behind the cost of a run; None takes the one that depends on the service, the device or the region.

    Example:
        >>> CostAssumptions(startup_s=90).startup_of("ec2"), CostAssumptions().startup_of("ec2")
        (90.0, 240.0)
    """

    startup_s: Finite | None = Field(
        default=None,
        description="seconds from the first billed second to the first step, with the pull of the image and without "
        "compilation; not given: 240 to 600 by service, planning figures",
    )
    compile_s: Finite | None = Field(
        default=None,
        description="seconds of compilation before the first step; not given: 120 under torch.compile, 300 for XLA, "
        "1200 for Neuron, planning figures",
    )
    stage_gb_per_s: Positive = Field(
        default=1.0,
        description="GB per second at which each machine copies the data to its disk before the first step; 1.0: the "
        "top rate of AWS's gp3 volumes",
    )
    disk_gb_per_s: Positive = Field(
        default=1.0,
        description="GB per second at which a checkpoint is written and read while training waits; 1.0: the top rate "
        "of AWS's gp3 volumes",
    )
    disk_usd_per_gib_month: Finite | None = Field(
        default=None,
        description="USD per GiB and month of disk; not given: the published price of the region's general-purpose "
        "SSD, else 0.10, between those of the three clouds (0.08 to 0.13); on SageMaker 0 for machines with "
        "local disks, else the price of a training volume, or 0.14 as for a notebook's",
    )
    checkpoints_kept: Annotated[int, Field(ge=0)] = Field(
        default=2,
        description="checkpoints on disk at a time; 2: the best and the last, as usual in Lightning",
    )
    system_disk_gib: Finite | None = Field(
        default=None,
        description="GiB of each machine's system disk, where it is billed beside the machine; not given: 100 on EC2, "
        "Azure and Compute Engine, a planning figure; on SageMaker 0 for machines with local disks, else 30, the "
        "SDK's volume; not counted elsewhere",
    )
    inter_region_usd_per_gb: Finite | None = Field(
        default=None,
        description="USD per GB sent to another region of the same cloud; not given: the published price between the "
        "two regions or their continents",
    )
    egress_usd_per_gb: Finite | None = Field(
        default=None,
        description="USD per GB sent to another cloud; not given: the published tiers of the region that holds the "
        "data",
    )
    billing_step_s: Finite | None = Field(
        default=None,
        description="seconds to whose whole number the time of a machine is billed; not given: as the service "
        "publishes it, and not counted where none is published",
    )
    billing_minimum_s: Finite | None = Field(
        default=None,
        description="seconds that each start of a machine is billed at least; not given: as the service publishes it, "
        "and not counted where none is published",
    )

    object_storage_usd_per_gb_month: Finite | None = Field(
        default=None,
        description="USD per GB and month of object storage, for the data set while the run lasts and, with the "
        "trained model, for storage_months after it; not given: the published price of the region of the data "
        "(--data-in)",
    )
    storage_months: Finite = Field(
        default=0.0,
        description="months after the run for which the data set and the trained model are kept; 0: the cost of a run "
        "ends with it",
    )
    data_objects: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="objects of the data set, each read once by each machine; not given: requests are not counted",
    )
    read_request_usd: Finite | None = Field(
        default=None,
        description="USD per read request to object storage; not given: the published price of the region of the data",
    )
    model_usd_per_gb: Finite | None = Field(
        default=None,
        description="USD per GB of the trained model that leaves the region of the run, to that of the data "
        "(--data-in) or for a download; not given: its published price, else 0.12, the highest published price "
        "of egress",
    )
    model_downloads: Annotated[int, Field(ge=0)] = Field(
        default=0, description="times that the trained model is sent over the internet; 0: none"
    )

    def startup_of(self, service: str) -> float:
        """Return the seconds of start-up on a service, without compilation and the copy of the data."""
        return service_startup_s(service) if self.startup_s is None else self.startup_s

    def compile_of(self, device_kind: str | None, *, compiled: bool) -> float:
        """
        Return the seconds of compilation.

        Args:
            device_kind: gpu, tpu, trainium, ...; None: not known.
            compiled: the step runs under torch.compile.
        """
        if self.compile_s is not None:
            return self.compile_s
        on_gpu_s = TORCH_COMPILE_S if compiled else 0.0
        return on_gpu_s if device_kind is None else COMPILE_S.get(device_kind, on_gpu_s)

    @property
    def disk_bytes_per_s(self) -> float:
        """Rate of checkpoint writes and reads."""
        return self.disk_gb_per_s * _GB

    def stage_s(self, data_gb: float) -> float:
        """Return the seconds in which a machine copies the data."""
        return data_gb / self.stage_gb_per_s
