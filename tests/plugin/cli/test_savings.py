"""`trainfare savings`: the changes that make a run cheaper, from a script and from a profile, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.cli import capture_main
from builders.exports import EXAMPLES

_RESNET = str(EXAMPLES / "resnet50.json")
_DAY = ("--as-of", "2026-11-26")
_SCRIPT = """
import torch
from trainfare import TrainingJob
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(8)))
    def training_step(self, batch, batch_idx):
        return self.layers(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
def job():
    sizes = dict(batch=torch.zeros(4096, 2048), batch_size=4096, max_steps=1_000_000)
    return TrainingJob(module=Net, precision="32-true", **sizes)
"""


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINFARE_LEDGER", "off")


def test_a_script_in_full_precision_is_told_bf16(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without an option the script is traced in the other precisions, and the answer has its plan in one."""
    (tmp_path / "train.py").write_text(_SCRIPT)
    target = f"{tmp_path / 'train.py'}:job"
    done = capture_main(capsys, "savings", target, "--accelerator", "A10G", *_DAY, "--format", "json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    (saving,) = (each for each in answer["savings"] if each["lever"] == "precision")
    assert saving["plan"]["precision"] == "bf16-mixed"
    assert saving["saved_usd_range"]["low_80"] > 0


def test_the_first_thing_said_is_what_the_run_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """Compiling is named first among what changes nothing, and as not known well; then what may be interrupted."""
    text = capture_main(capsys, "savings", _RESNET, *_DAY).stdout
    first = text.splitlines()[0]
    assert first.startswith("As it is, the run costs $")
    assert " on aws:" in first
    same, may_end = text.index("Changes nothing in the result"), text.index("May be interrupted")
    assert same < text.index("torch.compile (not known") < may_end < text.index("spot machines")
    assert "model = torch.compile(model) before the Trainer has it" in text
    assert "--use SHARE says how much of it you would use" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_recommend_names_them_and_shows_them_in_its_details(capsys: pytest.CaptureFixture[str]) -> None:
    """One line of the first screen, a table in the whole report, and in the JSON what `savings` says."""
    job = str(EXAMPLES / "llama-7b.json")
    screen = capture_main(capsys, "recommend", job, *_DAY).stdout
    (line,) = (line for line in screen.splitlines() if line.startswith("To pay less: "))
    assert "another micro-batch or strategy, $" in line
    assert len(screen.splitlines()) <= 24
    details = capture_main(capsys, "recommend", job, *_DAY, "--details").stdout
    assert "What would make it cheaper" in details
    assert "--allow plan" in details
    ranked, priced = (
        json.loads(capture_main(capsys, command, job, *_DAY, "--format", "json").stdout)
        for command in ("recommend", "savings")
    )
    assert ranked["savings"] == priced["savings"]
    best = next(option for option in ranked["options"] if option["rank"] == ranked["cheapest_rank"])
    assert priced["before"]["usd"] == best["run_usd"]


def test_narrow_terminals_and_other_formats(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markdown and a page say the same; a file that is there is not replaced."""
    monkeypatch.chdir(tmp_path)
    markdown = capture_main(capsys, "savings", _RESNET, *_DAY, "--format", "markdown").stdout
    assert "| spot machines |" in markdown
    done = capture_main(capsys, "savings", _RESNET, *_DAY, "--format", "html", "-o", "page.html")
    assert done.exit_code == 0
    assert "What would make the run cheaper" in Path("page.html").read_text(encoding="utf-8")
    again = capture_main(capsys, "savings", _RESNET, *_DAY, "--format", "html", "-o", "page.html")
    assert again.exit_code == 2
    assert "page.html" in again.stderr


def test_a_run_of_unknown_length_cannot_be_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Exit code 3, with the reason."""
    profile = json.loads(Path(_RESNET).read_text(encoding="utf-8"))
    profile["plan"] |= {"optimizer_steps": None, "unknown_because": "no max_steps", "epoch": None}
    (tmp_path / "job.json").write_text(json.dumps(profile))
    done = capture_main(capsys, "savings", tmp_path / "job.json", *_DAY)
    assert done.exit_code == 3
    assert "no max_steps" in done.stderr
