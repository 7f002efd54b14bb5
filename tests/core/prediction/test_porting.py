"""What stands between a script and a device."""

from __future__ import annotations

import pytest

from builders.profiles import profile
from builders.recommendations import make_measured_step
from trainfare_core.hardware.accelerators import accelerator, accelerators
from trainfare_core.job_profile import ProfileSource
from trainfare_core.prediction.porting import Environment


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("MI300X", "ROCm"),
        ("TPU-v5e", "torch_xla"),
        ("Trainium1", "torch-neuronx"),
        ("Trainium3", "torch-neuronx"),
        ("Gaudi2-96GB", "Gaudi"),
        ("T4G-16GB", "arm64"),
        ("GB200-NVL-186GB", "arm64"),
        ("V100-SXM2-16GB", "CUDA 12.6"),
        ("P100-PCIE-16GB", "CUDA 12.6"),
        ("T4-16GB", ""),
        ("H100-SXM-80GB", ""),
        ("B200-SXM-180GB", ""),
    ],
)
def test_a_cuda_script_on_x86_meets_these_obstacles(device: str, words: str) -> None:
    """Another backend, another vendor's runtime, another CPU, or no kernels in the default wheel."""
    obstacle = Environment(torch=(2, 13)).obstacle(accelerator(device))
    assert words in obstacle if words else obstacle == ""


def test_every_device_that_is_no_nvidia_gpu_is_an_obstacle() -> None:
    """The whole catalogue: only NVIDIA GPUs are drop-ins for a CUDA script."""
    ready = [device for device in accelerators() if not Environment().obstacle(device)]
    assert {device.vendor for device in ready} == {"nvidia"}
    assert not any(device.arm64_host for device in ready)


@pytest.mark.parametrize(
    ("device", "last_with", "first_without"),
    [("P100-PCIE-16GB", "2.7.1", "2.8.0"), ("V100-SXM2-16GB", "2.10.0", "2.11.0+cpu")],
)
def test_the_default_wheel_drops_a_generation_with_a_version(
    device: str, last_with: str, first_without: str
) -> None:
    """The profile's PyTorch decides; an unknown version is no obstacle."""
    for version, ready in ((last_with, True), (first_without, False), ("", True)):
        source = ProfileSource(how="fake", tool_version="0", torch_version=version)
        environment = Environment.of(profile(source=source))
        assert (environment.obstacle(accelerator(device)) == "") is ready


def test_no_wheel_runs_on_kepler_any_more() -> None:
    """A K80 is out from PyTorch 2.8 on, and only then."""
    k80 = accelerator("K80-12GB")
    assert "no wheel of PyTorch 2.13" in Environment(torch=(2, 13)).impossible(k80)
    assert Environment(torch=(2, 7)).impossible(k80) == ""
    assert Environment(torch=(2, 13)).impossible(accelerator("V100-SXM2-16GB")) == ""


@pytest.mark.parametrize(
    ("measured_on", "kind", "ready", "not_ready"),
    [
        ("AMD Instinct MI300X", "cuda", "MI325X-256GB", "H100-SXM-80GB"),
        ("NVIDIA T4G", "cuda", "GH200-96GB", "T4-16GB"),
        ("TPU v5e", "xla", "TPU-v6e", "H100-SXM-80GB"),
    ],
)
def test_the_device_of_the_measurement_is_the_environment(
    measured_on: str, kind: str, ready: str, not_ready: str
) -> None:
    """A script that ran on an AMD GPU, a TPU or an arm64 host stays there without porting."""
    environment = Environment.of(
        profile(measured=make_measured_step(device_name=measured_on, device_kind=kind))
    )
    assert environment.obstacle(accelerator(ready)) == ""
    assert environment.obstacle(accelerator(not_ready)) != ""
