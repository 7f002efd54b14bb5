"""The accelerator catalogue: every number sourced and dense, and no driver string mistaken for a neighbour."""

from __future__ import annotations

import csv
import re
from importlib import resources
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainfare_core.errors import InputError, UnknownNameError
from trainfare_core.hardware.accelerator_rows import DTYPES, Accelerator
from trainfare_core.hardware.accelerators import Catalogue, accelerator, accelerators, resolve_device

GIB = 2**30
DATA = resources.files("trainfare_core").joinpath("data")
ACCELERATORS_CSV = DATA.joinpath("accelerators.csv").read_text(encoding="utf-8")
SOURCES_CSV = DATA.joinpath("accelerator_sources.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(ACCELERATORS_CSV.splitlines()))

RENTED = [
    "A10-24GB",
    "A100-PCIE-40GB",
    "A100-PCIE-80GB",
    "A100-SXM-40GB",
    "A100-SXM-80GB",
    "A10G-24GB",
    "A30-24GB",
    "A40-48GB",
    "B200-SXM-180GB",
    "B300-SXM-288GB",
    "GB200-NVL-186GB",
    "GH200-96GB",
    "Gaudi1-32GB",
    "H100-NVL-94GB",
    "H100-PCIE-80GB",
    "H100-SXM-80GB",
    "H200-NVL-141GB",
    "H200-SXM-141GB",
    "Inferentia2",
    "K80-12GB",
    "L4-24GB",
    "L40-48GB",
    "L40S-48GB",
    "MI300X",
    "MI325X-256GB",
    "RTX-3090-24GB",
    "RTX-4090-24GB",
    "RTX-5080-16GB",
    "RTX-5090-32GB",
    "RTX-6000Ada-48GB",
    "RTX-A4000-16GB",
    "RTX-A5000-24GB",
    "RTX-A6000-48GB",
    "RTXPRO4500-32GB",
    "RTXPRO6000-96GB",
    "T4-16GB",
    "T4G-16GB",
    "TPU-v2",
    "TPU-v3",
    "TPU-v4",
    "TPU-v5e",
    "TPU-v5p",
    "TPU-v6e",
    "Trainium1",
    "Trainium2",
    "V100-PCIE-16GB",
    "V100-SXM2-16GB",
    "V100-SXM2-32GB",
]

CALIBRATED = {
    "A100-PCIe-40GB": "A100-PCIE-40GB",
    "A100-PCIe-80GB": "A100-PCIE-80GB",
    "A100-SXM4-40GB": "A100-SXM-40GB",
    "A100-SXM4-80GB": "A100-SXM-80GB",
    "A10G": "A10G-24GB",
    "A30": "A30-24GB",
    "A40": "A40-48GB",
    "B200": "B200-SXM-180GB",
    "B300-SXM-270GB": "B300-SXM-288GB",
    "GB200": "GB200-NVL-186GB",
    "GB200-SXM-186GB": "GB200-NVL-186GB",
    "GTX-1080Ti-11GB": "GTX-1080Ti-11GB",
    "Gaudi1": "Gaudi1-32GB",
    "Gaudi2": "Gaudi2-96GB",
    "Gaudi2-96GB": "Gaudi2-96GB",
    "Gaudi3-128GB": "Gaudi3-128GB",
    "H100-PCIe-80GB": "H100-PCIE-80GB",
    "H100-SXM-96GB": "H100-SXM-96GB",
    "H100-SXM-96GB-HBM2e-500W": "H100-SXM-96GB",
    "H100-SXM5-80GB": "H100-SXM-80GB",
    "H200": "H200-SXM-141GB",
    "L4": "L4-24GB",
    "L40": "L40-48GB",
    "L40S": "L40S-48GB",
    "MI100-32GB": "MI100-32GB",
    "MI210-64GB": "MI210-64GB",
    "MI300X-192GB": "MI300X",
    "MI325X-256GB": "MI325X-256GB",
    "NVIDIA A100-SXM4-40GB": "A100-SXM-40GB",
    "NVIDIA A100-SXM4-80GB": "A100-SXM-80GB",
    "NVIDIA L4": "L4-24GB",
    "NVIDIA L40S": "L40S-48GB",
    "P100-PCIe-16GB": "P100-PCIE-16GB",
    "P4-8GB": "P4-8GB",
    "QuadroRTX5000-16GB": "QuadroRTX5000-16GB",
    "QuadroRTX8000-48GB": "QuadroRTX8000-48GB",
    "RTX-2070-MaxQ-8GB": "RTX-2070-MaxQ-8GB",
    "RTX-2080Super-MaxQ-8GB": "RTX-2080Super-MaxQ-8GB",
    "RTX-2080Ti-11GB": "RTX-2080Ti-11GB",
    "RTX-3080-10GB": "RTX-3080-10GB",
    "RTX-3090-24GB": "RTX-3090-24GB",
    "RTX-3090Ti-24GB": "RTX-3090Ti-24GB",
    "RTX-6000Ada-48GB": "RTX-6000Ada-48GB",
    "RTX-A4000-16GB": "RTX-A4000-16GB",
    "RTX-A4500-20GB": "RTX-A4500-20GB",
    "RTX-A5000": "RTX-A5000-24GB",
    "RTX-A5000-24GB": "RTX-A5000-24GB",
    "RTX-A6000-48GB": "RTX-A6000-48GB",
    "RTX2080Ti": "RTX-2080Ti-11GB",
    "RTX3090": "RTX-3090-24GB",
    "RTX4070TiSuper-16GB": "RTX-4070TiSuper-16GB",
    "RTX4090": "RTX-4090-24GB",
    "RTX4090-24GB": "RTX-4090-24GB",
    "Tesla T4": "T4-16GB",
    "TitanRTX-24GB": "TitanRTX-24GB",
    "TitanXp-12GB": "TitanXp-12GB",
    "V100-PCIe-32GB": "V100-PCIE-32GB",
    "V100-SXM3-32GB": "V100-SXM3-32GB",
}
"""Every name in the tables of steps, of time to train and of memory, but those of `SEVERAL`."""
SEVERAL = [
    "80GB class",
    "A100",
    "A100-40GB",
    "A100-80GB",
    "A6000",
    "Ascend910",
    "H100-80GB",
    "H100-96GB",
    "Titan",
    "Titan X 12GB",
    "V100",
    "V100-16GB",
    "V100-32GB",
]
"""Their other names, each of several parts: form or memory is not stated; of Ascend 910 that of a Pro A and a Premium A."""

DRIVER_STRINGS: list[tuple[str, float | None, str | None]] = [
    # data centre: form factor, memory and suffix all matter
    ("NVIDIA A100-SXM4-40GB", None, "A100-SXM-40GB"),
    ("A100-SXM4-40GB", 39.39, "A100-SXM-40GB"),
    ("NVIDIA A100-SXM4-80GB", 79.15, "A100-SXM-80GB"),
    ("NVIDIA A100-SXM-80GB", None, "A100-SXM-80GB"),
    ("NVIDIA A100-PCIE-40GB", 39.39, "A100-PCIE-40GB"),
    ("A100-PCIE-80GB", None, "A100-PCIE-80GB"),
    ("NVIDIA A100 80GB PCIe", 79.18, "A100-PCIE-80GB"),
    ("NVIDIA H100 80GB HBM3", 79.10, "H100-SXM-80GB"),
    ("NVIDIA H100 PCIe", 79.11, "H100-PCIE-80GB"),
    ("NVIDIA H100 NVL", 93.01, "H100-NVL-94GB"),
    ("NVIDIA H200", 139.8, "H200-SXM-141GB"),
    ("NVIDIA H200 NVL", None, "H200-NVL-141GB"),
    ("NVIDIA GH200 480GB", 94.5, "GH200-96GB"),
    ("NVIDIA GH200 144G HBM3e", 139.0, "GH200-144GB"),
    ("NVIDIA B200", 178.35, "B200-SXM-180GB"),
    ("NVIDIA GB200", 184.3, "GB200-NVL-186GB"),
    ("NVIDIA B300 SXM6 AC", 268.59, "B300-SXM-288GB"),
    ("NVIDIA GB300", 276.5, "GB300-NVL-277GB"),
    ("NVIDIA H800", 79.1, "H800-SXM-80GB"),
    ("NVIDIA A800-SXM4-80GB", 79.15, "A800-SXM-80GB"),
    ("NVIDIA GeForce RTX 2080 with Max-Q Design", 7.8, "RTX-2080-MaxQ-8GB"),
    ("RTX 2080 Max-Q", None, "RTX-2080-MaxQ-8GB"),
    ("RTX 2080 SUPER Max-Q", None, "RTX-2080Super-MaxQ-8GB"),
    ("RTX 2070 Max-Q", None, "RTX-2070-MaxQ-8GB"),
    ("NVIDIA GeForce RTX 3080 Laptop GPU", 15.6, "RTX-3080-Laptop-16GB"),
    ("AMD Instinct MI350X", None, "MI350X-288GB"),
    ("AMD Instinct MI355X", None, "MI355X-288GB"),
    ("NVIDIA L4", 22.03, "L4-24GB"),
    ("NVIDIA L40", 44.42, "L40-48GB"),
    ("NVIDIA L40S", 44.40, "L40S-48GB"),
    ("NVIDIA A10", 22.06, "A10-24GB"),
    ("NVIDIA A10G", 21.99, "A10G-24GB"),
    ("NVIDIA A30", 23.50, "A30-24GB"),
    ("NVIDIA A40", 44.35, "A40-48GB"),
    ("NVIDIA A2", 14.6, "A2-16GB"),
    ("Tesla T4", 14.56, "T4-16GB"),
    ("NVIDIA T4G", 14.6, "T4G-16GB"),
    ("Tesla V100-SXM2-16GB", 15.77, "V100-SXM2-16GB"),
    ("Tesla V100-SXM2-32GB", 31.74, "V100-SXM2-32GB"),
    ("Tesla V100-SXM3-32GB", 31.74, "V100-SXM3-32GB"),
    ("Tesla V100-PCIE-16GB", None, "V100-PCIE-16GB"),
    ("Tesla V100-PCIE-32GB", None, "V100-PCIE-32GB"),
    ("Tesla V100S-PCIE-32GB", None, "V100S-PCIE-32GB"),
    ("Tesla P100-PCIE-16GB", 15.9, "P100-PCIE-16GB"),
    ("Tesla P100-PCIE-12GB", 11.91, "P100-PCIE-12GB"),
    ("Tesla P100-SXM2-16GB", None, "P100-SXM2-16GB"),
    ("Tesla P4", 7.43, "P4-8GB"),
    ("Tesla P40", 22.38, "P40-24GB"),
    ("Tesla K80", 11.17, "K80-12GB"),
    ("Tesla M40", None, "M40-12GB"),
    ("Tesla M40 24GB", None, "M40-24GB"),
    ("Tesla M60", 7.44, "M60-8GB"),
    # workstation: the same numbers mean another generation each time
    ("Quadro RTX 6000", 23.65, "QuadroRTX6000-24GB"),
    ("NVIDIA RTX A6000", 47.54, "RTX-A6000-48GB"),
    ("NVIDIA RTX A6000", 44.4, "RTX-A6000-48GB"),  # error correction on
    ("NVIDIA RTX 6000 Ada Generation", 47.5, "RTX-6000Ada-48GB"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 94.97, "RTXPRO6000-96GB"),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 94.97, "RTXPRO6000-WS-96GB"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", None, "RTXPRO6000-MaxQ-96GB"),
    ("NVIDIA RTX PRO 4500 Blackwell Server Edition", 31.3, "RTXPRO4500-32GB"),
    ("NVIDIA RTX 4000 SFF Ada Generation", None, "RTX-4000SFFAda-20GB"),
    ("NVIDIA RTX 4000 Ada Generation", None, "RTX-4000Ada-20GB"),
    ("Quadro RTX 4000", 7.79, "QuadroRTX4000-8GB"),
    ("NVIDIA RTX A4000", None, "RTX-A4000-16GB"),
    ("Quadro P4000", None, "QuadroP4000-8GB"),
    ("NVIDIA RTX A2000", 5.8, "RTX-A2000-6GB"),
    ("NVIDIA RTX A2000 12GB", 11.76, "RTX-A2000-12GB"),
    ("Quadro GV100", None, "QuadroGV100-32GB"),
    # consumer: variants of one string are told apart by memory only
    ("NVIDIA GeForce RTX 5090", 31.35, "RTX-5090-32GB"),
    ("NVIDIA GeForce RTX 4090", 23.65, "RTX-4090-24GB"),
    ("GeForce RTX 3090", 23.69, "RTX-3090-24GB"),
    ("NVIDIA GeForce RTX 3090 Ti", 23.68, "RTX-3090Ti-24GB"),
    ("NVIDIA GeForce RTX 3080", 9.78, "RTX-3080-10GB"),
    ("NVIDIA GeForce RTX 3080", 11.76, "RTX-3080-12GB"),
    ("NVIDIA GeForce RTX 3080 Ti", 11.76, "RTX-3080Ti-12GB"),
    ("NVIDIA GeForce RTX 3060", 11.76, "RTX-3060-12GB"),
    ("NVIDIA GeForce RTX 3060", 7.79, "RTX-3060-8GB"),
    ("NVIDIA GeForce RTX 4060 Ti", 15.6, "RTX-4060Ti-16GB"),
    ("NVIDIA GeForce RTX 4060 Ti", 7.63, "RTX-4060Ti-8GB"),
    ("NVIDIA GeForce RTX 4070 Ti SUPER", 15.6, "RTX-4070TiSuper-16GB"),
    ("GeForce RTX 2080 Ti", 10.76, "RTX-2080Ti-11GB"),
    ("GeForce RTX 2080 SUPER with Max-Q Design", None, "RTX-2080Super-MaxQ-8GB"),
    ("GeForce GTX 1080 Ti", 10.91, "GTX-1080Ti-11GB"),
    ("NVIDIA GeForce GTX 1060 6GB", 5.93, "GTX-1060-6GB"),
    ("NVIDIA GeForce GTX 1660 SUPER", None, "GTX-1660Super-6GB"),
    ("NVIDIA TITAN RTX", 23.65, "TitanRTX-24GB"),
    ("TITAN V", None, "TitanV-12GB"),
    ("NVIDIA TITAN Xp", None, "TitanXp-12GB"),
    ("NVIDIA TITAN X (Pascal)", None, "TitanX-Pascal-12GB"),
    # other vendors
    ("AMD Instinct MI300X", 191.98, "MI300X"),
    ("AMD Instinct MI300X VF", 191.5, "MI300X"),
    ("AMD Instinct MI325X", 255.98, "MI325X-256GB"),
    ("AMD Instinct MI250", 63.98, "MI250-GCD-64GB"),
    ("AMD Instinct MI210", 63.98, "MI210-64GB"),
    ("TPU v4", None, "TPU-v4"),
    ("TPU v5 lite", None, "TPU-v5e"),
    ("TPU v5", None, "TPU-v5p"),
    ("TPU v6 lite", None, "TPU-v6e"),
    ("TPU7x", None, "TPU-v7"),
    ("GAUDI2", None, "Gaudi2-96GB"),
    # slices of a card
    ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None, None),
    ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19.5, None),
    ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.75, None),
    ("NVIDIA A100-SXM4-40GB", 19.5, None),
    ("GRID A100-40C", 40.0, None),
    ("GRID V100D-32Q", 32.0, None),
    ("NVIDIA A10-24Q", 24.0, None),
    ("NVIDIA A40-48Q", 48.0, None),
    ("NVIDIA L4-24Q", None, None),
    ("GRID T4-16Q", None, None),
    ("AMD Instinct MI300X", 24.0, None),
    # laptop chips carry a desktop card's name and are another chip
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99, None),
    ("NVIDIA GeForce RTX 3060 Laptop GPU", 6.0, None),
    # several variants, or one the catalogue does not have
    ("NVIDIA GeForce RTX 3060", None, None),
    ("NVIDIA GeForce RTX 3080", None, None),
    ("NVIDIA GeForce RTX 3080", 19.6, None),
    ("NVIDIA GeForce RTX 4060 Ti", None, None),
    ("NVIDIA A100-SXM-64GB", 63.4, None),
    ("TPU v3", 16.0, None),  # one core, half a chip
    ("Tesla T4", 7.0, None),
    # near, and not it
    ("NVIDIA H100", None, None),
    ("NVIDIA A100", None, None),
    ("Tesla V100", None, None),
    ("NVIDIA RTX 6000", None, None),
    ("NVIDIA RTX PRO 6000", None, None),
    ("NVIDIA L20", None, None),
    ("NVIDIA H20", None, None),
    ("NVIDIA GeForce RTX 5090 D", 31.35, None),
    ("NVIDIA GeForce RTX 4090 D", None, None),
    ("NVIDIA T400", None, None),
    ("TPU", None, None),
    # another vendor's part of the same name
    ("AMD A10", None, None),
    ("Intel A30", None, None),
    ("AMD RTX 4090", None, None),
    ("Intel(R) Xeon(R) Platinum 8480+", None, None),
    ("Apple M2 Max", None, None),
    ("cpu", None, None),
    ("NVIDIA", None, None),
    ("", None, None),
]


@pytest.mark.parametrize(("driver_string", "memory_gib", "name"), DRIVER_STRINGS)
def test_a_driver_string_means_exactly_one_part_or_is_unknown(
    driver_string: str, memory_gib: float | None, name: str | None
) -> None:
    """Real driver strings find their part; slices, laptop chips, variants and near names find none."""
    accelerator = resolve_device(driver_string, None if memory_gib is None else memory_gib * GIB)

    assert (accelerator.name if accelerator else None) == name


def test_gib_is_not_gb() -> None:
    """A T4 that reports 16 decimal GB fits its 16 GiB; a 40 GB A100 that reports 44 decimal GB does not."""
    assert accelerator("T4-16GB").memory_bytes == 17_179_869_184
    assert resolve_device("Tesla T4", 16e9) is accelerator("T4-16GB")
    assert resolve_device("NVIDIA A100-SXM4-40GB", 44e9) is None
    assert accelerator("A100-SXM-80GB").memory_bandwidth_bytes_per_s == 2039e9


@given(st.text(), st.none() | st.floats() | st.integers())
def test_resolving_any_text_never_raises(text: str, memory_bytes: float | None) -> None:
    """Whatever a driver or a file says, the answer is a part or unknown."""
    accelerator = resolve_device(text, memory_bytes)

    assert accelerator is None or isinstance(accelerator, Accelerator)


@given(
    st.sampled_from([d for d in accelerators() if d.name.endswith("GB")]),
    st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=3),
)
def test_a_name_with_anything_added_never_falls_back_to_the_name(device: Accelerator, extra: str) -> None:
    """A longer name is another part or unknown, also where it only adds a letter."""
    assert resolve_device(device.name + extra, device.memory_bytes) is not device


@pytest.mark.parametrize("name", RENTED)
def test_everything_that_the_prices_rent_is_in_the_catalogue(name: str) -> None:
    """The names of the price data are the canonical names."""
    assert accelerator(name).name == name


@pytest.mark.parametrize(("name", "canonical"), CALIBRATED.items())
def test_every_calibration_name_means_the_true_same_part(name: str, canonical: str) -> None:
    """The measured tables use other spellings of the same parts."""
    assert accelerator(name).name == canonical


@pytest.mark.parametrize("name", SEVERAL)
def test_a_name_of_a_table_that_several_parts_have_is_refused(name: str) -> None:
    """No part is taken for another."""
    with pytest.raises(UnknownNameError, match=re.escape(repr(name))):
        accelerator(name)


def test_an_unknown_name_is_refused_with_near_ones() -> None:
    """The message suggests and never picks."""
    with pytest.raises(UnknownNameError, match=r"'H100'.*H100-SXM-80GB.*H100-PCIE-80GB"):
        accelerator("H100")
    with pytest.raises(UnknownNameError, match=r"'L40SS'.*did you mean L40S-48GB"):
        accelerator("L40SS")
    with pytest.raises(UnknownNameError, match=r"'banana'.*trainfare offers"):
        accelerator("banana")


def test_a_name_of_several_variants_is_refused_naming_them() -> None:
    """A variant is chosen by the user, not by us."""
    with pytest.raises(UnknownNameError, match="RTX-3060-12GB, RTX-3060-8GB: say which"):
        accelerator("RTX 3060")


def test_the_catalogue_is_wide_and_its_names_are_unique() -> None:
    """At least 60 parts, one row each, told apart also without case and punctuation."""
    names = [re.sub(r"\W", "", device.name).casefold() for device in accelerators()]

    assert len(names) >= 60
    assert len(set(names)) == len(names)
    assert all(accelerator(device.name) is device for device in accelerators())


def test_an_alias_is_shared_only_by_memory_variants() -> None:
    """Each alias alone finds its part, or does so with the memory that a driver reports."""
    for device in accelerators():
        for alias in device.aliases:
            assert resolve_device(alias, 0.93 * device.memory_bytes) is device, alias


def test_every_number_has_exactly_one_source_that_exists() -> None:
    """Every filled number cell leads to one source with a title, an address and an edition; no source is idle."""
    text_columns = {
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
    }
    used = set()
    for row, device in zip(ROWS, accelerators(), strict=True):
        for column in set(row) - text_columns:
            source = dict(device.sources).get(column)
            assert (source is not None) == bool(row[column]), (device.name, column)
            if source is not None:
                assert source.title
                assert source.edition
                assert source.url.startswith("https://")
                used.add(source.id)

    assert used == {row["id"] for row in csv.DictReader(SOURCES_CSV.splitlines())}


def test_a_die_is_of_one_maker_and_generation() -> None:
    """Forms, memory sizes and slower bins of one chip have one die; no two generations have one."""
    dies: dict[str, set[str]] = {}
    for device in accelerators():
        dies.setdefault(device.silicon, set()).add(f"{device.vendor} {device.kind} {device.generation}")
    assert not {die: texts for die, texts in dies.items() if len(texts) > 1}
    hopper = {device.silicon for device in accelerators() if device.generation == "hopper"}
    assert hopper == {accelerator("H200-NVL-141GB").silicon} == {"GH100"}
    assert accelerator("A100-PCIE-40GB").silicon == accelerator("A800-SXM-80GB").silicon
    assert accelerator("L4-24GB").silicon != accelerator("L40S-48GB").silicon


def test_no_peak_is_a_sparsity_figure() -> None:
    """Within a part the dense rates stand in the hardware's fixed ratios; a sparse figure would double one of them."""
    for device in accelerators():
        peak = {dtype: device.peak_flops_per_s(dtype) for dtype in DTYPES}
        if device.vendor == "nvidia" and peak["bf16"]:
            assert peak["fp16"] == peak["bf16"], device.name
            assert peak["fp16"] / (peak["tf32"] or 0) == pytest.approx(2, rel=0.03), device.name
        if device.vendor in ("nvidia", "amd") and peak["fp8"] and peak["bf16"]:
            assert peak["fp8"] / peak["bf16"] == pytest.approx(2, rel=0.02), device.name
        if peak["fp4"]:  # Blackwell Ultra has half as many again; Trainium3 has one rate of both MX types
            times = {"blackwell-ultra": 3, "trainium3": 1}.get(device.generation, 2)
            assert peak["fp4"] / (peak["fp8"] or 0) == pytest.approx(times, rel=0.001), device.name
        if device.vendor == "nvidia" and device.generation == "hopper" and peak["fp32"]:
            assert (peak["fp16"] or 0) / peak["fp32"] == pytest.approx(14.8, rel=0.07), device.name
        if device.kind == "tpu" and peak["bf16"]:
            assert max((peak["int8"] or 0), (peak["fp8"] or 0)) / peak["bf16"] <= 2.01, device.name


@pytest.mark.parametrize(
    ("name", "dtype", "tflops"),
    [
        ("H100-SXM-80GB", "bf16", 989.4),  # 1979 is sparse
        ("H100-NVL-94GB", "bf16", 835.5),
        ("L4-24GB", "fp16", 121),  # 242 is sparse
        ("L40-48GB", "bf16", 181.05),
        ("L40S-48GB", "bf16", 362.05),
        ("A40-48GB", "bf16", 149.7),
        ("RTX-A6000-48GB", "bf16", 154.8),
        ("A10-24GB", "bf16", 125),
        ("A10G-24GB", "bf16", 70),
        ("A100-SXM-80GB", "tf32", 156),
        ("A100-SXM-80GB", "fp32", 19.5),
        ("RTX-3090-24GB", "fp16", 71.2),  # 142 is fp16 accumulation
        ("RTX-4090-24GB", "bf16", 165.2),
        ("RTX-4090-24GB", "fp8", 330.3),
        ("RTX-5090-32GB", "bf16", 209.5),
        ("RTX-2080Ti-11GB", "fp16", 53.8),
        ("TitanRTX-24GB", "fp16", 130.5),
        ("T4-16GB", "fp16", 65),
        ("V100-SXM2-32GB", "fp16", 125),
        ("B200-SXM-180GB", "bf16", 2250),
        ("MI300X", "bf16", 1307.4),
        ("MI100-32GB", "fp32", 46.1),
        ("TPU-v5e", "bf16", 197),
        ("Trainium2", "bf16", 667),  # 2563 is sparse
        # Neuron documentation, about-neuron/arch/neuron-hardware/trainium3.html: dense; 2517 is sparse for BF16
        ("Trainium3", "bf16", 671),
        ("Trainium3", "fp32", 183),
        ("Trainium3", "fp8", 2517),
        ("MI350X-288GB", "bf16", 2306.9),  # AMD's data sheet: 4.6139 PFLOPS with sparsity
        ("MI350X-288GB", "fp16", 2306.9),
        ("A800-SXM-80GB", "fp64", 19.5),  # the tensor cores' rate, as A100's rows have it
        # docs.cloud.google.com/compute/docs/gpus: FP16 935.6 and INT8 1,871.2 with sparsity, FP32 117
        ("RTXPRO6000-96GB", "bf16", 467.8),
        ("RTXPRO6000-96GB", "int8", 935.6),
        ("RTXPRO6000-96GB", "fp32", 117),
    ],
)
def test_published_dense_peaks(name: str, dtype: str, tflops: float) -> None:
    """Peaks that other tables get wrong, by their data sheets."""
    assert accelerator(name).peak_flops_per_s(dtype) == pytest.approx(tflops * 1e12, rel=1e-3)


def test_a_path_that_does_not_exist_is_none() -> None:
    """No bf16 on Volta and Turing, no fp8 before Ada and Hopper, no fp16 on a TPU, and no made-up dtype."""
    for device in accelerators():
        if device.generation in ("kepler", "maxwell", "pascal", "volta", "turing"):
            assert device.peak_flops_per_s("bf16") is device.peak_flops_per_s("tf32") is None
        if device.generation in ("turing", "volta", "ampere", "cdna", "cdna2"):
            assert device.peak_flops_per_s("fp8") is None
            assert device.peak_flops_per_s("fp4") is None
        if device.kind == "tpu":
            assert device.peak_flops_per_s("fp16") is device.peak_flops_per_s("tf32") is None
        assert device.peak_flops_per_s("int64") is None


def test_consumer_cards_are_those_whose_driver_says_geforce() -> None:
    """A GTX 1060 has one driver string for both of its sizes, so the catalogue holds none for it."""
    said = {d.name for d in accelerators() if any("GeForce" in alias for alias in d.aliases)}
    consumer = {d.name for d in accelerators() if d.consumer}
    assert said < consumer
    assert {name.rpartition("-")[0] for name in consumer - said} == {"GTX-1060"}


def test_sizes_are_plausible_and_grow_with_the_generation() -> None:
    """A slipped unit or digit shows: ranges for every part, and flagships that only grow."""
    for device in accelerators():
        assert 2013 <= device.release_year <= 2026, device.name
        assert 3 * GIB <= device.memory_bytes <= 288 * GIB, device.name
        assert 100e9 <= device.memory_bandwidth_bytes_per_s <= 8e12, device.name
        assert 40 <= (device.power_w or 300) <= 1400, device.name
        assert 2**20 <= (device.l2_bytes or 2**20) <= 128 * 2**20, device.name
        assert 5 <= (device.sm_count or 5) <= 304, device.name
        assert 16e9 <= (device.link_bytes_per_s or 16e9) <= 1280e9, device.name
        assert (device.pcie_bytes_per_s or 16e9) in (16e9, 32e9, 64e9), device.name
    line = [
        accelerator(n)
        for n in ("P100-SXM2-16GB", "V100-SXM2-16GB", "A100-SXM-80GB", "H100-SXM-80GB", "B200-SXM-180GB")
    ]
    for older, newer in pairwise(line):
        assert older.memory_bytes <= newer.memory_bytes
        assert older.memory_bandwidth_bytes_per_s < newer.memory_bandwidth_bytes_per_s
        assert (older.peak_flops_per_s("fp16") or 0) < (newer.peak_flops_per_s("fp16") or 0)
        assert (older.link_bytes_per_s or 0) < (newer.link_bytes_per_s or 0)


def test_a_name_says_the_memory_of_its_row() -> None:
    """The GB in a canonical name is the row's memory; the B300's sheet says 270 GB under a 288 GB name."""
    for device in accelerators():
        size = re.search(r"-(\d+)GB$", device.name)
        if size and device.name != "B300-SXM-288GB":
            assert device.memory_bytes == int(size[1]) * GIB, device.name
    assert accelerator("B300-SXM-288GB").memory_bytes == 270 * GIB


def test_what_trains() -> None:
    """Inferentia does not train."""
    assert [device.name for device in accelerators() if not device.trains] == ["Inferentia2"]


def test_machines_that_come_with_an_arm64_host_say_so() -> None:
    """Graviton's T4G and Grace's Hopper and Blackwell: an image built for x86-64 does not start there."""
    arm = {device.name for device in accelerators() if device.arm64_host}
    assert arm == {"T4G-16GB", "GH200-96GB", "GH200-144GB", "GB200-NVL-186GB", "GB300-NVL-277GB"}


def edit_row(**cells: str) -> str:
    """Return the header and the A100 row of accelerators.csv (line 2) with some cells replaced."""
    row = next(row for row in ROWS if row["name"] == "A100-SXM-80GB") | cells
    return "\n".join([",".join(row), ",".join(row.values())])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"fp16_tflops": "lots"}, r"line 2, column fp16_tflops: 'lots' is not a number"),
        ({"fp16_tflops": "-312"}, r"line 2, column fp16_tflops: '-312' is not a positive number"),
        ({"fp16_tflops": "0"}, r"line 2, column fp16_tflops: '0' is not a positive number"),
        ({"fp16_tflops": "nan"}, r"line 2, column fp16_tflops"),
        ({"fp16_tflops": "inf"}, r"line 2, column fp16_tflops"),
        ({"memory_gib": ""}, r"line 2, column memory_gib"),
        ({"bandwidth_gb_per_s": ""}, r"line 2, column bandwidth_gb_per_s"),
        ({"release_year": ""}, r"line 2, column release_year"),
        ({"name": ""}, r"line 2, column name"),
        ({"name": " A100"}, r"line 2, column name"),
        ({"vendor": "acme"}, r"line 2, column vendor: 'acme' is not one of nvidia"),
        ({"kind": "fpga"}, r"line 2, column kind: 'fpga' is not one of gpu, tpu"),
        ({"trains": "yes"}, r"line 2, column trains: 'yes' is not one of true, false"),
        ({"host_cpu": "arm"}, r"line 2, column host_cpu: 'arm' is not one of arm64"),
        ({"sources": ""}, r"line 2, column sources"),
        ({"sources": "*=hearsay"}, r"line 2, column sources: '\*=hearsay' names no source"),
        ({"sources": "l2_mib=nv-a100"}, r"line 2, column sources: the number in release_year has no source"),
        (
            {"sources": "*=nv-a100; fp8_tflops=nv-a100"},
            r"column sources: 'fp8_tflops=nv-a100' is repeated, or its",
        ),
        ({"sources": "*=nv-a100; *=nv-a100"}, r"column sources: '\*=nv-a100' is repeated"),
        ({"aliases": '"A100'}, r"line 2: unexpected end of data"),
        ({"aliases": "A100,extra"}, r"line 2: 30 cells under 29 columns"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_column(cells: dict[str, str], message: str) -> None:
    """A slip in the one row that a contributor adds is named where it is."""
    with pytest.raises(InputError, match=message):
        Catalogue(edit_row(**cells), SOURCES_CSV)


def test_a_wrong_header_is_refused() -> None:
    """A renamed column is named, in either file."""
    with pytest.raises(InputError, match=r"accelerators.csv line 1.*memory_gb, memory_gib"):
        Catalogue(edit_row().replace("memory_gib", "memory_gb"), SOURCES_CSV)
    with pytest.raises(InputError, match=r"accelerator_sources.csv line 1.*link"):
        Catalogue(edit_row(), SOURCES_CSV.replace("url", "link", 1))
    with pytest.raises(InputError, match=r"accelerators.csv line 1"):
        Catalogue("", SOURCES_CSV)


def test_names_that_memory_cannot_tell_apart_are_refused() -> None:
    """Two rows may share an alias only where the reported memory decides, and never a canonical name."""
    text = edit_row(aliases="A100 of ours")
    header, row = text.splitlines()

    def beside(**cells: str) -> str:
        return f"{header}\n{row}\n{edit_row(**cells).splitlines()[1]}"

    Catalogue(beside(name="B", aliases="A100 of ours", memory_gib="40"), SOURCES_CSV)
    with pytest.raises(InputError, match="A100-SXM-80GB and B share the name"):
        Catalogue(beside(name="B", aliases="A100 of ours", memory_gib="76"), SOURCES_CSV)
    with pytest.raises(InputError, match="share the name"):
        Catalogue(beside(name="a100 sxm 80gb", aliases="", memory_gib="40"), SOURCES_CSV)
    with pytest.raises(InputError, match="share the name"):
        Catalogue(beside(name="B", aliases="A100-SXM-80GB", memory_gib="40"), SOURCES_CSV)


def test_one_new_row_is_all_an_accelerator_needs() -> None:
    """The row of the contributor's guide is found by name, alias and driver string."""
    added = edit_row(
        name="X1-96GB", vendor="nvidia", memory_gib="96", aliases="NVIDIA X1|X1-SXM-96GB", sources="*=nv-a100"
    )
    catalogue = Catalogue(added, SOURCES_CSV)

    assert [d.name for d in catalogue.find_by_name("x1 96gb")] == ["X1-96GB"]
    assert [d.name for d in catalogue.find_by_name("NVIDIA X1")] == ["X1-96GB"]
    assert catalogue.devices[0].memory_bytes == 96 * GIB


def test_every_near_name_is_suggested() -> None:
    """A name without the form factor stands for each that has its parts, whichever has an alias that begins so."""
    with pytest.raises(UnknownNameError, match=r"did you mean A100-PCIE-80GB, A100-SXM-80GB\?"):
        accelerator("A100-80GB")
