"""Scripts whose library imports torch, or is imported late, answer under each command; each runs in a process of its own."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from builders.cli import run_cli
from builders.environments import lean_python

pytestmark = pytest.mark.own_start
TESTS = Path(__file__).parents[2]
LOOP = """
for batch in loader:
    optimizer.zero_grad()
    backward(model(batch).square().mean())
    optimizer.step()
open("trained to its end", "w").close()
"""
PARTS = """
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters())
loader = torch.utils.data.DataLoader(torch.randn(800, 4), batch_size=4)
"""
FABRIC = """
fabric = Fabric(accelerator="cpu", devices=1)
(model, optimizer), loader = fabric.setup(model, optimizer), fabric.setup_dataloaders(loader)
backward = fabric.backward
"""
ACCELERATE = """
accelerator = Accelerator(cpu=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
backward = accelerator.backward
"""
HUGGING_FACE = """
class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 2)
    def forward(self, x):
        return {"loss": self.head(x).sum()}
arguments = TrainingArguments("out", use_cpu=True, report_to="none", max_steps=90, save_strategy="no", disable_tqdm=True)
Trainer(Tiny(), arguments, train_dataset=[{"x": torch.ones(4)}] * 400).train()
"""
KERAS = """
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
model.compile(loss="mse")
model.fit(torch.randn(400, 4), torch.randn(400, 2), batch_size=4, epochs=2, verbose=0)
"""
FIRST = {
    "lightning": f"from lightning.fabric import Fabric\nimport torch\n{PARTS}{FABRIC}{LOOP}",
    "lightning_fabric": f"import lightning_fabric\nimport torch\nFabric = lightning_fabric.Fabric\n{PARTS}{FABRIC}{LOOP}",
    "accelerate": f"from accelerate import Accelerator\nimport torch\n{PARTS}{ACCELERATE}{LOOP}",
    "transformers": f"from transformers import Trainer, TrainingArguments\nimport torch\n{HUGGING_FACE}",
    "trl": "from trl import SFTTrainer\nfrom builders.trl_trainers import make_trl_trainer\nmake_trl_trainer('sft', 'out').train()",
    "keras": f"import os\nos.environ['KERAS_BACKEND'] = 'torch'\nimport keras\nimport torch\n{KERAS}",
    "torch": f"import torch\nfrom accelerate import Accelerator\n{PARTS}{ACCELERATE}{LOOP}",
}
"""Scripts by what they import first."""
LATE = """
def main():
    from lightning.fabric import Fabric
    import torch
{body}
if __name__ == "__main__":
    main()
"""
HEAVY = ("transformers", "trl", "accelerate", "torch", "keras")
"""What cannot do without the packages that `lean_python` leaves out, or is quicker with them."""


def indent(text: str) -> str:
    return re.sub(r"^(?=.)", "    ", text, flags=re.MULTILINE)


def run(folder: Path, command: str, *arguments: str, python: str) -> dict[str, object]:
    """Return the answer of a command on train.py, in JSON."""
    given = ("--no-cache",) if command == "recommend" else ()
    options = ("--steps", "2") if command == "probe" else given
    script = ("--", *arguments) if arguments else ()
    environment = {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "KERAS_HOME": str(folder / "keras")}
    done = run_cli(
        command, "train.py", *options, *(() if command == "profile" else ("--format", "json")), *script,
        cwd=folder, environment=environment, python=python,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert not (folder / "trained to its end").exists()
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def check(folder: Path, text: str, *arguments: str, python: str) -> None:
    """Run the three commands on a script; the step of a probe was measured."""
    (folder / "train.py").write_text(text, encoding="utf-8")
    assert run(folder, "profile", *arguments, python=python)["operations"]
    run(folder, "recommend", *arguments, python=python)
    job = run(folder, "probe", *arguments, python=python)["job"]
    assert isinstance(job, dict)
    assert job["measured_step_s"] > 0


@pytest.mark.parametrize("first", FIRST)
def test_a_script_answers_whatever_it_imports_first(first: str, tmp_path: Path) -> None:
    library = "accelerate" if first == "torch" else first  # whose loop it is
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    check(tmp_path, FIRST[first], python=sys.executable if first in HEAVY else lean_python())


def test_a_script_answers_that_imports_nothing_before_it_trains(tmp_path: Path) -> None:
    check(tmp_path, LATE.format(body=indent(f"{PARTS}{FABRIC}{LOOP}")), python=lean_python())


@pytest.mark.sources
@pytest.mark.parametrize(
    "spelling", ["import pytorch_lightning as pl", "import lightning.pytorch as pl", "import lightning as pl"]
)
def test_the_script_of_the_tutorial_answers_in_each_spelling(spelling: str, tmp_path: Path) -> None:
    page = (TESTS.parent / "docs" / "start" / "tutorial.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(import argparse.*?)```", page, re.DOTALL)
    text = script.replace("import pytorch_lightning as pl\nimport torch\n", f"{spelling}\nimport torch\n")
    assert f"\n{spelling}\n" in text
    check(tmp_path, text, "--width", "64", "--layers", "1", "--batch", "1", python=lean_python())
