"""
Catalogue of accelerators, and the lookup of one by name or by a driver's string.

The catalogue is `data/accelerators.csv`: one row is one device as a training framework sees it (one chip of
a TPU, one GPU of a K80, one die of an MI250). `accelerator_rows` documents and reads the columns.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

from trainfare_core.documents import data_text
from trainfare_core.errors import InputError, UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator, read_accelerators, read_sources

# A driver reports nominal memory less its reserve and error correction: 9 % less on a T4, 8 % on an L4. The 1 % above
# nominal allows for rounding.
_LEAST_REPORTED_SHARE, _MOST_REPORTED_SHARE = 0.89, 1.01

_SEPARATORS: Final = re.compile(r"[\s\-_/.,()\[\]®™]+")
_VENDOR_OF_WORD: Final = {
    **dict.fromkeys(("nvidia", "tesla", "geforce"), "nvidia"),
    **dict.fromkeys(("amd", "instinct"), "amd"),
    **dict.fromkeys(("aws", "amazon"), "aws"),
    **dict.fromkeys(("intel", "habana"), "intel"),
    "google": "google",
}


class Catalogue:
    """
    The accelerators of two CSV texts, by every name they go by.

    Raises:
        InputError: a row is not as it must be, or memory cannot tell apart two devices of one name.
    """

    def __init__(self, accelerators_csv: str, sources_csv: str) -> None:
        self.sources = read_sources(sources_csv)
        self.devices = read_accelerators(accelerators_csv, self.sources)
        self._by_key: dict[str, list[Accelerator]] = {}
        for device in self.devices:
            for key in dict.fromkeys(_normalise_name(name) for name in (device.name, *device.aliases)):
                self._by_key.setdefault(key, []).append(device)
        self._refuse_ambiguity()

    def _refuse_ambiguity(self) -> None:
        for key, devices in self._by_key.items():
            sizes = sorted(device.memory_bytes for device in devices)
            apart = all(
                low * _MOST_REPORTED_SHARE < high * _LEAST_REPORTED_SHARE for low, high in pairwise(sizes)
            )
            if not apart or (
                len(devices) > 1 and any(_normalise_name(device.name) == key for device in devices)
            ):
                names = " and ".join(device.name for device in devices)
                raise InputError(
                    f"accelerators.csv: {names} share the name {key!r}, and memory cannot tell them apart; "
                    "a name may be shared only as an alias, by devices of clearly different memory"
                )

    def find_by_name(self, name: str) -> tuple[Accelerator, ...]:
        """Return the devices that go by `name`: none, one, or the memory variants of one driver string."""
        vendors = {_VENDOR_OF_WORD[word] for word in _words(name) if word in _VENDOR_OF_WORD}
        return tuple(d for d in self._by_key.get(_normalise_name(name), ()) if vendors <= {d.vendor})

    def near(self, name: str) -> list[str]:
        """Return up to six canonical names that begin like `name` or have all its parts, or else resemble it."""
        begun = [
            key for key in self._by_key if _normalise_name(name) and key.startswith(_normalise_name(name))
        ]
        parts = [_normalise_name(part) for part in re.split(r"[\s_-]+", name)]
        having = [key for key in self._by_key if all(part and part in key for part in parts)]
        keys = [*begun, *having] or difflib.get_close_matches(
            _normalise_name(name), self._by_key, n=6, cutoff=0.6
        )
        return list(dict.fromkeys(device.name for key in keys for device in self._by_key[key]))[:6]


def accelerators() -> tuple[Accelerator, ...]:
    """Return the whole catalogue, in the order of the file."""
    return _catalogue().devices


def accelerator(name: str) -> Accelerator:
    """
    Return the accelerator that goes by `name`: the canonical name or an alias, in any case and spacing.

    Raises:
        UnknownNameError: nothing goes by that name, or several memory variants do; the message names them.
    """
    devices = _find_by_name(name)
    if len(devices) == 1:
        return devices[0]
    if devices:
        raise UnknownNameError(f"{name!r} is one of {', '.join(d.name for d in devices)}: say which")
    near = _catalogue().near(name)
    hint = f"did you mean {', '.join(near)}?" if near else "its name is spelled as in `trainfare offers`"
    raise UnknownNameError(f"{name!r} is no accelerator that trainfare knows: {hint}")


def resolve_device(driver_string: str, memory_bytes: float | None = None) -> Accelerator | None:
    """
    Return the accelerator behind a driver's string such as "NVIDIA H100 80GB HBM3"; None is "unknown".

    The string must match a known one whole, so slices (MIG, vGPU), laptop chips and unlisted models stay
    unknown. Never raises.

    Args:
        driver_string: as from `torch.cuda.get_device_name()`, `nvidia-smi -L` or JAX's `device_kind`.
        memory_bytes: total memory that the driver reports. It picks between the variants of one string, and
            refuses a device of another size; without it a string of several variants is unknown.
    """
    devices = _find_by_name(driver_string)
    if memory_bytes is not None:
        devices = tuple(
            d
            for d in devices
            if _LEAST_REPORTED_SHARE * d.memory_bytes <= memory_bytes <= _MOST_REPORTED_SHARE * d.memory_bytes
        )
    return devices[0] if len(devices) == 1 else None


@lru_cache(maxsize=1)
def _catalogue() -> Catalogue:
    return Catalogue(data_text("accelerators.csv"), data_text("accelerator_sources.csv"))


@lru_cache(maxsize=4096)
def _find_by_name(name: str) -> tuple[Accelerator, ...]:
    """Return what goes by a name; a search asks for the same few names hundreds of times."""
    return _catalogue().find_by_name(name)


def _words(name: str) -> list[str]:
    return [word for word in _SEPARATORS.split(name.casefold()) if word]


def _normalise_name(name: str) -> str:
    return "".join(word for word in _words(name) if word not in _VENDOR_OF_WORD)
