"""A script that decodes JPEGs, before launch: what its loader takes is in the profile, the price and the verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from trainfare.cli import main
from trainfare_core.job_profile import JobProfile
from trainfare_core.policy.budget_check import BudgetCheck
from trainfare_core.recommendation import Recommendation

SCRIPT = """
import lightning.pytorch as pl
import torch
import torchvision
from torchvision import transforms

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torchvision.models.resnet50()

    def training_step(self, batch, index):
        pictures, classes = batch
        return torch.nn.functional.cross_entropy(self.net(pictures), classes)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

work = transforms.Compose([transforms.RandomResizedCrop(224), transforms.ToTensor()])
data = torchvision.datasets.ImageFolder("data", work)
loader = torch.utils.data.DataLoader(data, batch_size=32, num_workers=2, shuffle=True)
pl.Trainer(max_steps=3_602_880, precision="bf16-mixed", logger=False, enable_checkpointing=False).fit(Net(), loader)
"""
PICTURES = """
import numpy, torch
from PIL import Image
from torch import nn

class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        with Image.open(f"data/{'cat' if index % 2 else 'dog'}/{index}.jpg") as picture:
            picture = torch.from_numpy(numpy.array(picture.resize((64, 64)))).permute(2, 0, 1) / 255
        return {sample}
"""
OTHER_LOOPS = {
    "plain": """
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(50):
    for pictures, classes in torch.utils.data.DataLoader(Pictures(), 4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pictures), classes).backward()
        optimizer.step()
""",
    "huggingface": """
from transformers import Trainer, TrainingArguments
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3 * 64 * 64, 2)
    def forward(self, pixel_values, labels):
        logits = self.net(pixel_values.flatten(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
arguments = TrainingArguments(
    "out", per_device_train_batch_size=4, report_to="none", use_cpu=True, remove_unused_columns=False)
Trainer(Net(), arguments, train_dataset=Pictures()).train()
""",
    "keras": """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(torch.utils.data.DataLoader(Pictures(), 4), epochs=50)
""",
}
MACHINE = ("--instance-type", "g6e.xlarge", "--max-nodes", "1")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a ResNet-50 of Lightning over a folder of real JPEGs."""
    for number in range(64):
        folder = tmp_path / "data" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (500, 375), (number, 0, 0)).save(folder / f"{number}.jpg")
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "train.py"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_real_jpegs_are_a_doubt_and_not_nothing(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The kind of the input is found; between the published rates a limit is neither kept nor broken."""
    assert run("profile", script, "-o", "job.json") == 0
    profile = JobProfile.model_validate_json(Path("job.json").read_text(encoding="utf-8"))
    facts, timed = profile.batch.input, profile.batch.loader_time
    assert facts is not None
    assert (facts.kind, facts.pixels, facts.workers) == ("pictures", 224 * 224, 2)
    assert timed is not None
    assert timed.workers == 2
    assert 0.2e-3 < timed.sample_cpu_s < 0.1  # a JPEG of 500 x 375 takes some milliseconds
    assert "ms of CPU a sample" in capsys.readouterr().err
    assert run("recommend", "job.json", *MACHINE, "--format", "json") == 0
    option = Recommendation.model_validate_json(capsys.readouterr().out).options[0]
    assert option.loader is not None
    assert option.loader.basis == "measured"
    assert run("check", script, *MACHINE, "--max-usd", f"{option.run_usd.mid:.2f}", "--format", "json") == 3
    reason = BudgetCheck.model_validate_json(capsys.readouterr().out).reason
    assert "the loader decides and was not measured" in reason  # a runner's own speed is in no verdict
    untimed = profile.with_loader_time(None)
    Path("job.json").write_text(untimed.to_json(), encoding="utf-8")
    assert run("recommend", "job.json", *MACHINE, "--format", "json") == 0
    option = Recommendation.model_validate_json(capsys.readouterr().out).options[0]
    assert option.loader is not None
    assert option.loader.decides
    assert option.run_usd.high_80 > 2 * option.run_usd.mid  # published rates differ by seven times
    budget = str(round(option.run_usd.mid, 2))
    assert run("check", "job.json", *MACHINE, "--max-usd", budget, "--format", "json") == 3
    check = BudgetCheck.model_validate_json(capsys.readouterr().out)
    assert check.verdict == "cannot_tell"
    assert "the loader decides and was not measured" in check.reason
    measured = ("--loader-samples-per-s-per-vcpu", "200", "--loader-measured-on", "g6e.xlarge")
    assert run("check", "job.json", *MACHINE, *measured, "--max-usd", budget, "--format", "json") == 0


@pytest.mark.parametrize("loop", OTHER_LOOPS)
@pytest.mark.usefixtures("script")
def test_every_loop_times_its_loader(loop: str) -> None:
    """The batches that it reads without a model are enough."""
    sample = (
        '{"pixel_values": picture, "labels": index % 2}' if loop == "huggingface" else "picture, index % 2"
    )
    text = PICTURES.replace("{sample}", sample) + OTHER_LOOPS[loop]
    Path("other.py").write_text(text, encoding="utf-8")
    assert run("profile", "other.py", "-o", "job.json") == 0
    timed = JobProfile.model_validate_json(Path("job.json").read_text(encoding="utf-8")).batch.loader_time
    assert timed is not None
    assert (timed.workers, 0.2e-3 < timed.sample_cpu_s < 0.1) == (0, True)
