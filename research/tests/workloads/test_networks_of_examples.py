"""Networks of public trainers that are built here: their parameters, products and units, counted by hand or published."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from trainfare_research.workloads import StepJob, resolve
from trainfare_research.workloads.other.hifi_gan import HifiGan
from trainfare_research.workloads.registry import COMPILED

ROW = {
    "source": "nvidia-dle", "task": "train", "batch_per_device": "1", "global_batch": "1", "devices": "1",
    "sequence_length": "", "image_size": "256", "precision": "fp32", "optimizer": "", "framework": "tensorflow1 (NGC)",
    "throughput_unit": "samples/s", "notes": "",
}  # fmt: skip


def _job(model: str, **changes: str) -> StepJob:
    job = resolve(ROW | {"model": model} | changes)
    assert isinstance(job, StepJob), job
    return job


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("TFT[Electricity]", 1_617_449),
        ("TFT[Traffic]", 1_617_449 + (963 - 369) * 128),
        # Generator V1 13.94 million, five discriminators of periods 41.11, three of scales 29.62 (Kong et al. 2020).
        ("HiFi-GAN", 84_660_721),
        ("GPUNet-0", 11_885_432),  # 11.9, 12.7 and 25.8 million (Wang et al. 2022)
        ("GPUNet-1", 12_704_192),
        ("GPUNet-2", 25_798_704),
        ("StableDiffusion2-UNet", 865_910_724),  # diffusers' UNet2DConditionModel: 865.91 million
    ],
)
def test_networks_have_their_number_of_parameters(model: str, parameters: int) -> None:
    with FakeTensorMode():
        number = sum(parameter.numel() for parameter in _job(model).network().parameters())
    assert number == parameters


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        # Levels of 32^3, 16^3, 8^3 and 4^3 voxels: convolutions of 3^3 between 16, 32, 64 and 128 channels.
        ("VNet", 2_773_483_520),
        # Trunk 8.34, pyramid 1.57, towers 8 x 256 x 256 x 9, answers (540 + 24) x 256 x 9 on 2,134 places, in billions.
        ("SSD320", 22.75e9),
        # 512^2, 256^2, 128^2, 64^2 and 32^2 pixels with 32, 32, 64, 128 and 256 channels.
        ("UNet-Industrial", 18.34e9),
    ],
)
def test_networks_multiply_as_often_as_their_layers_say(model: str, macs: float) -> None:
    job = _job(model)
    with FakeTensorMode():
        net, batch = job.network(), job.batch()
        counter = FlopCounterMode(display=False)
        with counter:
            loss = net(*batch)
    assert loss.shape == ()
    assert counter.get_total_flops() == pytest.approx(2 * macs, rel=1e-3)


def test_the_generators_loss_trains_no_discriminator() -> None:
    """Discriminators of periods run backward for weights and inputs of two clips, then for inputs of the made one."""
    job = _job("HiFi-GAN")
    with FakeTensorMode():
        net, (mel, audio, wanted) = HifiGan(), job.batch()
        net.judges = net.judges[:5]
        flops = {}
        graphs: dict[str, Callable[[], torch.Tensor]] = {
            "forward": lambda: net(mel, audio, wanted), "generator": lambda: net.generator(mel)
        }  # fmt: skip
        for name, graph in graphs.items():
            with FlopCounterMode(display=False) as counter:
                tensor = graph()
            forward = counter.get_total_flops()
            with FlopCounterMode(display=False) as counter:
                torch.autograd.backward(tensor.sum())
            flops[name] = forward, counter.get_total_flops()
    judged = flops["forward"][0] - flops["generator"][0]
    backward = flops["forward"][1] - flops["generator"][1]
    assert backward / judged == pytest.approx(5 / 4, rel=0.03)


def test_a_log_of_hifi_gan_counts_its_mel_bands() -> None:
    """150.7 segments a second train 6,500 epochs of 97 batches of 128 in 149 hours; the README has 151."""
    job = _job("HiFi-GAN", batch_per_device="128")
    assert job.units == 128 * 80
    assert 6500 * 97 * job.units / 12055.44 / 3600 == pytest.approx(151.4, rel=0.02)


def test_a_compiler_that_the_launch_script_turned_on_is_in_the_job() -> None:
    assert _job("UNet-Industrial", notes=COMPILED).compiled
    assert not _job("UNet-Industrial").compiled
