"""Device, precision, parallelism and loader of a training run, as its loop gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from trainfare_core.job_profile import InputKind, LoaderTime, ParallelFacts

if TYPE_CHECKING:
    import torch

DeviceKind = Literal["cpu", "cuda", "xla", "mps", "other"]
_KINDS: Final[dict[str, DeviceKind]] = {"cpu": "cpu", "cuda": "cuda", "xla": "xla", "mps": "mps"}
ONE_DEVICE: Final = ParallelFacts()
"""The parallelism of a loop that has none."""


@dataclass(frozen=True, slots=True)
class InputSource:
    """What a loader says of its samples before one is seen: `input_kind`."""

    kind: InputKind | None = None
    workers: int | None = None
    time: LoaderTime | None = None
    """What its first batches took; None: they were not timed."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """
    Name, precision, parallelism, device and loader of a run, as the profile states them.

    `replicas` is the number of copies of the model that share the samples; None where the strategy does not say it.
    """

    name: str
    precision: str
    device: torch.device
    software: str
    parallel: ParallelFacts = ONE_DEVICE
    replicas: int | None = 1
    loader_batch_size: int | None = None
    loader_workers: int | None = None
    input: InputSource = InputSource()
    batch_of_rows: bool = False
    """`loader_batch_size` counts rows of the data set, as the plan does, whatever a batch makes of one."""
    sync_batchnorm: bool = False
    """Several devices share the moments of BatchNorm."""
    split_because: str = ""
    """Why no single rank runs the whole step, a sentence; empty where each does."""
    loop: str = ""
    """As `ProfileSource.loop`."""
    eager: bool = False
    """What is compiled in the run runs eagerly here."""
    notes: tuple[str, ...] = ()
    """What of the settings of the loop is not counted, for the profile."""

    @property
    def device_kind(self) -> DeviceKind:
        """The kind of the device, as a profile names it."""
        return _KINDS.get(self.device.type, "other")
