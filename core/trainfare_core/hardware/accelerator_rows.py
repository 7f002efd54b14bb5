"""
One row of `data/accelerators.csv`: what its columns mean, and the strict reader.

Every number names its source in the row's last column, by an id of `data/accelerator_sources.csv`. An empty
cell means unknown or not supported; it is never filled with the figure of a similar device.

- FLOP/s are DENSE peaks at the vendor's boost clock, never the 2:4 sparse figure that data sheets print.
- fp16 and bf16 are the matrix units with fp32 ACCUMULATION, which training uses: GeForce cards and the A10G
  run it at half of their advertised rate. GPUs without matrix units list their packed-half rate.
- fp32 is the best rate at full fp32 precision: CUDA cores on NVIDIA (tf32 stands apart), matrix cores on AMD.
  fp64 likewise is the best full-precision rate. fp4 is NVFP4 on NVIDIA and MXFP4 on AMD.
- Memory is GiB and bandwidth decimal GB/s, both nominal. `visible_gib` is the memory of the device as torch and the
  driver show it, the least of what public reports say: cards whose GDDR memory corrects errors keep 1/16 for it.
- The link is what every such device has, one direction, summed over its peers: the optional NVLink bridge of
  a PCIe card does not count.
- `silicon` is the die, by its maker's name where that is known, else the first product made of it: the forms of one
  chip (SXM, PCIe, NVL), its memory sizes and its slower bins share it.
- `consumer` is true of cards made for games: NVIDIA rates a GeForce card at a typical clock, which most cards exceed
  under load, where a server's or a workstation's peak is at its highest clock.
- `host_cpu` is arm64 where the part is soldered or bound to such a host (Graviton, Grace), else empty.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias, cast, get_args

from trainfare_core.errors import InputError

AcceleratorKind: TypeAlias = Literal["gpu", "tpu", "trainium", "inferentia", "gaudi"]
DTYPES: Final = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8")

_PEAK_COLUMNS: Final = tuple(f"{dtype}_tflops" if dtype != "int8" else "int8_tops" for dtype in DTYPES)
_NUMBER_COLUMNS: Final = (
    "release_year", "memory_gib", "visible_gib", "bandwidth_gb_per_s", *_PEAK_COLUMNS, "l2_mib", "power_w", "sm_count",
    "cores", "link_gb_per_s", "pcie_gb_per_s",
)  # fmt: skip
_TEXT_COLUMNS: Final = (
    "name",
    "vendor",
    "kind",
    "generation",
    "silicon",
    "link",
    "trains",
    "consumer",
    "host_cpu",
    "aliases",
    "sources",
)
_SOURCE_COLUMNS: Final = ("id", "title", "url", "edition")
_VENDORS: Final = ("nvidia", "amd", "google", "aws", "intel")
_GIB, _MIB, _GIGA, _TERA = 2**30, 2**20, 1e9, 1e12


class Work(Protocol):
    """FLOPs in one dtype."""

    @property
    def dtype(self) -> str:
        """Of its operands."""
        ...

    @property
    def flops(self) -> int:
        """Floating-point operations of it."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number was published."""

    id: str
    title: str
    url: str
    edition: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device as a training framework sees it; None is unknown, and for a peak also "not supported"."""

    name: str
    vendor: str
    kind: AcceleratorKind
    generation: str
    silicon: str
    """The die: devices of one differ in rates, memory and power alone."""
    release_year: int
    memory_bytes: int
    visible_bytes: float | None
    """Memory that `torch.cuda.get_device_properties` shows, where it is known to be far below `memory_bytes`."""
    memory_bandwidth_bytes_per_s: float
    peaks_flops_per_s: tuple[float | None, ...] = field(repr=False)
    l2_bytes: float | None
    power_w: float | None
    sm_count: int | None
    cores: int
    """Parts that a framework sees as devices of their own, each with its share of the memory; 1: the whole is one."""
    link: str
    link_bytes_per_s: float | None
    pcie_bytes_per_s: float | None
    trains: bool
    consumer: bool
    """Made for games (GeForce)."""
    arm64_host: bool
    """Every machine that has it has an arm64 CPU: x86-64 wheels and containers do not run there."""
    aliases: tuple[str, ...] = field(repr=False)
    sources: tuple[tuple[str, Source], ...] = field(repr=False, compare=False)

    def peak_flops_per_s(self, dtype: str) -> float | None:
        """Return the dense peak of `dtype` (one of DTYPES, or "mxfp8") in FLOP/s; None where there is no such path."""
        if dtype == "mxfp8":  # units that scale each block of values came with those for 4 bits
            return self.peak_flops_per_s("fp8") if self.peak_flops_per_s("fp4") else None
        return self.peaks_flops_per_s[DTYPES.index(dtype)] if dtype in DTYPES else None

    def compute_utilisation(self, work: Iterable[Work], flops_per_s: float) -> float | None:
        """
        Return FLOP/s over the dense peak of the dtype with the most FLOPs; None without such a peak.

        Args:
            work: such as the operations of a profile.
            flops_per_s: of all of it.
        """
        by_dtype: dict[str, int] = {}
        for part in work:
            by_dtype[part.dtype] = by_dtype.get(part.dtype, 0) + part.flops
        if not by_dtype:
            return None
        peak = self.peak_flops_per_s(max(sorted(by_dtype), key=lambda dtype: by_dtype[dtype]))
        return flops_per_s / peak if peak else None


def read_sources(text: str) -> dict[str, Source]:
    """
    Return the sources by id.

    Raises:
        InputError: a line is not as the header says; the message names file and line.
    """
    return {
        row["id"]: Source(**row) for _, row in _read_rows(text, "accelerator_sources.csv", _SOURCE_COLUMNS)
    }


def read_accelerators(text: str, sources: dict[str, Source]) -> tuple[Accelerator, ...]:
    """
    Return one accelerator per row, in the order of the text.

    Raises:
        InputError: a cell is not what its column needs, or a number has no source; names line and column.
    """
    rows = _read_rows(text, "accelerators.csv", (*_TEXT_COLUMNS, *_NUMBER_COLUMNS))
    return tuple(_accelerator(line, row, sources) for line, row in rows)


def _read_rows(text: str, file: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header, *rows = [(reader.line_num, cells) for cells in reader] or [(1, [])]
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}") from None
    if sorted(header[1]) != sorted(columns):
        odd = ", ".join(sorted(set(header[1]) ^ set(columns))) or "a repeated one"
        raise InputError(
            f"{file} line 1: the columns must be {', '.join(columns)}; missing or unknown: {odd}"
        )
    for line, cells in rows:
        if len(cells) != len(columns):
            raise InputError(f"{file} line {line}: {len(cells)} cells under {len(columns)} columns")
        yield line, dict(zip(header[1], cells, strict=True))


def _bad(line: int, column: str, problem: str) -> InputError:
    return InputError(f"accelerators.csv line {line}, column {column}: {problem}")


def _number(line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        raise _bad(line, column, f"{row[column]!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise _bad(
            line, column, f"{row[column]!r} is not a positive number; leave the cell empty for unknown"
        )
    return value


def _read_text(line: int, row: dict[str, str], column: str, allowed: tuple[str, ...] = ()) -> str:
    value = row[column]
    if not value or value != value.strip() or (allowed and value not in allowed):
        raise _bad(
            line,
            column,
            f"{value!r} is not one of {', '.join(allowed)}" if allowed else f"{value!r} is no name",
        )
    return value


def _sources(line: int, row: dict[str, str], known: dict[str, Source]) -> tuple[tuple[str, Source], ...]:
    """Return (column, source) of every number, from "*=id; column=id" where * is the source of the others."""
    filled = [column for column in _NUMBER_COLUMNS if row[column]]
    sources_by_key: dict[str, str] = {}
    for item in row["sources"].split("; "):
        column, _, source_id = item.partition("=")
        if source_id not in known:
            raise _bad(line, "sources", f"{item!r} names no source of accelerator_sources.csv")
        if column in sources_by_key or column not in ("*", *filled):
            raise _bad(line, "sources", f"{item!r} is repeated, or its column holds no number")
        sources_by_key[column] = source_id
    for column in filled:
        if sources_by_key.get(column, sources_by_key.get("*")) is None:
            raise _bad(line, "sources", f"the number in {column} has no source")
    return tuple((column, known[sources_by_key.get(column) or sources_by_key["*"]]) for column in filled)


def _accelerator(line: int, row: dict[str, str], sources: dict[str, Source]) -> Accelerator:
    def read_scaled(column: str, unit: float = 1.0) -> float | None:
        return _number(line, row, column) * unit if row[column] else None

    return Accelerator(
        name=_read_text(line, row, "name"),
        vendor=_read_text(line, row, "vendor", _VENDORS),
        kind=cast("AcceleratorKind", _read_text(line, row, "kind", get_args(AcceleratorKind))),
        generation=_read_text(line, row, "generation"),
        silicon=_read_text(line, row, "silicon"),
        release_year=int(_number(line, row, "release_year")),
        memory_bytes=int(_number(line, row, "memory_gib") * _GIB),
        visible_bytes=read_scaled("visible_gib", _GIB),
        memory_bandwidth_bytes_per_s=_number(line, row, "bandwidth_gb_per_s") * _GIGA,
        peaks_flops_per_s=tuple(read_scaled(column, _TERA) for column in _PEAK_COLUMNS),
        l2_bytes=read_scaled("l2_mib", _MIB),
        power_w=read_scaled("power_w"),
        sm_count=int(_number(line, row, "sm_count")) if row["sm_count"] else None,
        cores=int(_number(line, row, "cores")) if row["cores"] else 1,
        link=_read_text(line, row, "link"),
        link_bytes_per_s=read_scaled("link_gb_per_s", _GIGA),
        pcie_bytes_per_s=read_scaled("pcie_gb_per_s", _GIGA),
        trains=_read_text(line, row, "trains", ("true", "false")) == "true",
        consumer=_read_text(line, row, "consumer", ("true", "false")) == "true",
        arm64_host=bool(row["host_cpu"]) and _read_text(line, row, "host_cpu", ("arm64",)) == "arm64",
        aliases=tuple(row["aliases"].split("|")) if row["aliases"] else (),
        sources=_sources(line, row, sources),
    )
