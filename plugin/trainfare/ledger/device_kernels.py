"""Time kernels on this machine: products, convolutions, copies, launches and all-reduces."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from trainfare.trace import StepTrace
from trainfare_core.installation import __version__
from trainfare_core.ledger.device_figures import DeviceMeasurement, KernelTime

_Launch: TypeAlias = Callable[[], object]
_Make: TypeAlias = Callable[..., torch.Tensor]
"""Makes a tensor of these sizes."""
Kernels: TypeAlias = tuple[Callable[[_Make, Any], _Launch], str, Sequence[Any]]
"""What prepares a launch of a size, a type, and sizes, small ones first."""
_TYPES: Final = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SIDES: Final = (1024, 2048, 4096, 8192)
"""Of square products. Chosen: from one that hardly fills a large GPU to one that does."""
_IMAGES: Final = 64
"""Of a batch. Chosen: a usual one of a device."""
_STAGES: Final = ((256, 14), (64, 56))
"""Channels, and pixels of a side, of 3x3 convolutions: two stages of a ResNet."""
_COPIED: Final = (2**24, 2**26, 2**28)
"""Numbers of fp32: the larger copies are beyond the caches of every GPU (`roofline.times`)."""
_REDUCED: Final = 2**26
"""Numbers of fp32. Chosen: 256 MiB take much longer than the latency of any link."""
_GROWTH: Final = 8
"""The most by which the next size of a kind of work takes longer."""
_ROUNDS: Final = 5
"""Of each kernel: their median passes over what else the machine did in two. A chosen value."""
_MOST_LAUNCHES: Final = 100_000
"""Of a round. Chosen: some 0.3 s of the shortest kernel, beyond which its median gets no better."""
_REDUCTIONS: Final = 10
"""Of each round: processes that time them must agree on a number. A chosen value."""
_MEETING: Final = timedelta(seconds=60)
"""Chosen: processes of one machine that have not met by then will not."""


def _multiply(make: _Make, side: int) -> _Launch:
    left, right = make(side, side), make(side, side)
    return lambda: torch.mm(left, right)


def _convolve(make: _Make, stage: tuple[int, int]) -> _Launch:
    channels, side = stage
    images, weight = make(_IMAGES, channels, side, side), make(channels, channels, 3, 3)
    return lambda: torch.nn.functional.conv2d(images, weight, padding=1)


def _copy(make: _Make, count: int) -> _Launch:
    source, target = make(count), make(count)
    return lambda: target.copy_(source)


def _add(make: _Make, count: int) -> _Launch:
    number = make(count)
    return lambda: number.add_(1.0)


def _list_kernels(*, is_gpu: bool) -> Sequence[Kernels]:
    products = ("fp32", "tf32", "fp16", "bf16") if is_gpu else ("fp32", "bf16")
    return [
        (_add, "fp32", (1,)),
        (_copy, "fp32", _COPIED if is_gpu else _COPIED[:2]),  # a CPU's memory is for others too
        *((_multiply, dtype, _SIDES) for dtype in products),
        *((_convolve, dtype, _STAGES) for dtype in (("tf32", "fp16", "bf16") if is_gpu else ("fp32",))),
    ]


def measure_device(
    seconds: float,
    now: datetime,
    driver: str = "",
    *,
    clock: Callable[[], float] = time.perf_counter,
    wait: Callable[[str], AbstractContextManager[object]] = nullcontext,
    kernels: Sequence[Kernels] | None = None,
) -> tuple[DeviceMeasurement, list[str]]:
    """
    Time kernels on the first GPU, or without one on the CPU; return their times, and why some are not there.

    Args:
        seconds: of all together, about.
        now: the time.
        driver: its version.
        clock: seconds.
        wait: gives a context that shows what is timed, while it is.
        kernels: which; None: products, convolutions, copies and launches.
    """
    is_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if is_gpu else "cpu")
    kernels = kernels or _list_kernels(is_gpu=is_gpu)
    times, notes = list[KernelTime](), list[str]()
    precision, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        for prepare, dtype, sizes in kernels:
            torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = dtype == "tf32"
            what = f"{prepare.__name__.lstrip('_')} {dtype}"
            with wait(f"timing {what}"):
                try:
                    times.extend(_time_sizes(prepare, dtype, sizes, device, seconds / len(kernels), clock))
                except RuntimeError as error:  # a type that the device lacks, or a full memory
                    notes.append(f"{what} was not timed: {str(error).splitlines()[0]}")
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = tf32
    if is_gpu and torch.cuda.device_count() > 1:
        with wait("timing all-reduces"):
            try:
                times.append(time_all_reduce("nccl", torch.cuda.device_count(), _REDUCED))
            except Exception as error:  # noqa: BLE001 - what a process of torch raises
                notes.append(f"all-reduces were not timed: {str(error).strip().splitlines()[-1]}")
    measured = DeviceMeasurement(
        tool_version=__version__,
        device_name=torch.cuda.get_device_name(device) if is_gpu else platform.processor() or "CPU",
        memory_bytes=torch.cuda.mem_get_info(device)[1] if is_gpu else None,
        torch=torch.__version__, driver=driver, measured_at=now, kernels=tuple(times),
    )  # fmt: skip
    return measured, notes


def _time_sizes(
    prepare: Callable[[_Make, Any], _Launch], dtype: str, sizes: Sequence[Any], device: torch.device, seconds: float,
    clock: Callable[[], float],
) -> Iterator[KernelTime]:  # fmt: skip
    """Time kernels of one kind and type, up to the size that takes too long."""
    for size in sizes:
        launch = prepare(lambda *shape: torch.rand(shape, device=device, dtype=_TYPES[dtype]), size)
        with StepTrace(torch.nn.Module()) as trace:
            launch()
        once_s = run_launches(launch, 1, device, clock)
        count = min(max(int(seconds / len(sizes) / _ROUNDS / max(once_s, 1e-9)), 1), _MOST_LAUNCHES)
        launch_s = (
            statistics.median(run_launches(launch, count, device, clock) for _ in range(_ROUNDS)) / count
        )
        yield KernelTime(operation=trace.operations()[0], seconds=launch_s)
        if launch_s * _GROWTH * (_ROUNDS + 2) > seconds:
            return


def run_launches(launch: _Launch, count: int, device: torch.device, clock: Callable[[], float]) -> float:
    """Return seconds of as many launches, until the device has done them."""
    wait = torch.cuda.synchronize if device.type == "cuda" else torch.cpu.synchronize
    wait(device)
    begun_s = clock()
    for _ in range(count):
        launch()
    wait(device)
    return clock() - begun_s


def time_all_reduce(backend: str, processes: int, count: int) -> KernelTime:
    """
    Return the time in which processes all-reduce numbers of fp32, each on a device of its own.

    Args:
        backend: "nccl", or "gloo" on CPUs.
        processes: how many; they end with this.
        count: of the numbers.
    """
    spawn: Any = import_module("torch.multiprocessing").spawn
    numbers = torch.zeros(count)
    with StepTrace(torch.nn.Module()) as trace:
        numbers.clone()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (backend, processes, count, folder)
        spawn(_reduce, arguments, nprocs=processes, daemon=True)
        seconds = float(Path(folder, "seconds").read_text(encoding="ascii"))
    return KernelTime(operation=trace.operations()[0], reduced_by=processes, seconds=seconds)


def _reduce(rank: int, backend: str, processes: int, count: int, folder: str) -> None:
    distributed: Any = import_module("torch.distributed")
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, f"file://{folder}/store", _MEETING, processes, rank)
    numbers = torch.zeros(count, device=device)
    rounds = [
        run_launches(lambda: distributed.all_reduce(numbers), _REDUCTIONS, device, time.perf_counter)
        for _ in range(_ROUNDS)
    ]
    if rank == 0:
        Path(folder, "seconds").write_text(repr(statistics.median(rounds) / _REDUCTIONS), encoding="ascii")
    distributed.destroy_process_group()
