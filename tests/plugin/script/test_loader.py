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
    facts = JobProfile.model_validate_json(Path("job.json").read_text(encoding="utf-8")).batch.input
    assert facts is not None
    assert (facts.kind, facts.pixels, facts.workers) == ("pictures", 224 * 224, 2)
    capsys.readouterr()
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
