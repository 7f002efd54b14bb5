"""What a training loader makes samples of, without asking it for one."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from datasets import Dataset as Rows
from datasets import Features, Image, Value
from PIL import Image as Pillow
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from trainfare.job.input_kind import describe_input, read_source
from trainfare.job.run_facts import InputSource

PICTURES = torch.zeros(2, 3, 224, 160)


class _Data(Dataset[Any]):
    """Three samples, none of which may be asked for here."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Any:
        raise NotImplementedError


class Decoded(_Data):
    def __getitem__(self, number: int) -> Any:
        return Pillow.open(f"{number}.jpg").convert("RGB")


class DecodedBelow(_Data):
    """By a function that a method calls."""

    def __getitem__(self, number: int) -> Any:
        return self.load(number)

    def load(self, number: int) -> Any:
        return _decode(number)


def _decode(number: int) -> Any:
    return torchvision.io.decode_image(f"{number}.png")


class Given(_Data):
    """By a function that it was given."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getitem__(self, number: int) -> Any:
        return self.loader(number)


class Tokenised(_Data):
    tokenizer: Any = None

    def __getitem__(self, number: int) -> Any:
        return self.tokenizer("a text")


class InMemory(_Data):
    def __init__(self) -> None:
        self.rows = torch.zeros(3, 3, 224, 224)

    def __getitem__(self, number: int) -> Tensor:
        return self.rows[number]


class MadeUp(_Data):
    def __getitem__(self, number: int) -> Tensor:
        return torch.randn(3, 224, 224)


class Unclear(_Data):
    """Something that was written before: its code shows nothing, the shape of a batch does."""

    def __getitem__(self, number: int) -> Any:
        return torch.load(f"{number}.pt")


def folder_of_pictures(path: Path) -> torchvision.datasets.ImageFolder:
    """Return the data set of most ImageNet scripts, over one real JPEG."""
    (path / "cat").mkdir()
    Pillow.new("RGB", (500, 375)).save(path / "cat" / "1.jpg")
    return torchvision.datasets.ImageFolder(str(path))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (Decoded(), "pictures"),
        (DecodedBelow(), "pictures"),
        (Given(_decode), "pictures"),
        (Given(functools.partial(_decode)), "pictures"),
        (Subset(Decoded(), [0]), "pictures"),
        (ConcatDataset([Decoded(), InMemory()]), "pictures"),
        (Tokenised(), "text"),
        (InMemory(), "numbers"),
        (MadeUp(), "numbers"),
        (TensorDataset(torch.zeros(3, 3, 224, 224)), "numbers"),
        (torchvision.datasets.FakeData(), "numbers"),
        (Rows.from_dict({"a": ["x"]}, features=Features({"a": Value("string")})), "text"),
        (Rows.from_dict({"input_ids": [[1]]}), "tokens"),
        (Rows.from_dict({"image": []}, features=Features({"image": Image()})), "pictures"),
        (Unclear(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Dataset) else str(value),
)
def test_the_data_set_shows_the_kind(data: Any, kind: str | None) -> None:
    """By its class, its features, or the names in the code that makes a sample, which is not run."""
    source = read_source(SimpleNamespace(dataset=data, collate_fn=None, num_workers=3))
    assert (source.kind, source.workers) == (kind, 3)
    facts = describe_input(source, PICTURES)
    assert facts is not None
    assert facts.kind == (kind or "pictures")  # 224 x 160 and three channels
    assert facts.pixels == (224 * 160 if facts.kind == "pictures" else None)


def test_a_folder_of_jpegs_is_pictures(tmp_path: Path) -> None:
    loader = DataLoader(folder_of_pictures(tmp_path), num_workers=1)
    facts = describe_input(read_source(loader), [PICTURES, torch.zeros(2)])
    assert facts is not None
    assert (facts.kind, facts.pixels, facts.workers) == ("pictures", 224 * 160, 1)


@pytest.mark.parametrize(
    ("batch", "kind", "size"),
    [
        ({"pixel_values": torch.zeros(2, 3, 64, 64)}, "pictures", 64 * 64),
        (torch.zeros(2, 64, 64, 3), "pictures", 64 * 64),
        (torch.zeros(2, 16, 3, 112, 112), "video", 16),
        ({"input_ids": torch.zeros(2, 9, dtype=torch.long)}, "tokens", None),
        (torch.zeros(2, 3, 32, 32), None, None),  # as CIFAR has them, in memory
        (torch.zeros(2, 4, 64, 64), None, None),  # latents
        (torch.zeros(2, 20), None, None),
    ],
)
def test_the_shape_of_a_batch_shows_the_kind(batch: Any, kind: str | None, size: int | None) -> None:
    """Where nothing is known of the loader."""
    facts = describe_input(InputSource(), batch)
    assert (facts and facts.kind) == kind
    assert facts is None or (facts.frames or facts.pixels) == size


def test_audio_counts_its_seconds() -> None:
    """Waves at 16 kHz, else frames of 10 ms."""
    for batch, seconds in ((torch.zeros(2, 32_000), 2.0), (torch.zeros(2, 80, 300), 3.0)):
        facts = describe_input(InputSource("audio"), batch)
        assert facts is not None
        assert facts.seconds == seconds


def test_attributes_that_fail_say_nothing() -> None:
    """The user's objects may do anything: what was not read is not known."""

    class Odd:
        num_workers = 2

        @property
        def dataset(self) -> Any:
            raise RuntimeError

    assert read_source(Odd()) == InputSource()
    assert read_source(None) == InputSource()
