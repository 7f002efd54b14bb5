"""CONTRIBUTING.md, "Add a training loop": the recipe is followed, and what it lists is all that changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
ROOTS = ("core", "providers", "plugin")
LINT = "import sys; from importlinter.cli import lint_imports_command as lint; sys.path[:0] = sys.argv[1].split(':'); lint(['--no-cache', '--contract=port', '--contract=loops', '--contract=plugin'])"
TRACE = """
from trainfare import TrainingJob, trace_job
from trainfare.plain.loop_kind import PlainModule, SAMPLES, make_batch
job = TrainingJob(module=PlainModule, batch=make_batch, batch_size=SAMPLES, max_steps=5)
print(trace_job(job).name)
"""
FRAMEWORK = """
class Trainer:
    def __init__(self, module):
        self.module = module

    def train(self):
        open("trained", "w").close()
"""
TRAIN = """
from plain_framework import Trainer
from trainfare.plain.loop_kind import PlainModule
Trainer(PlainModule()).train()
open("went on", "w").close()
"""
SCRIPT = """
import os, sys
from trainfare import trace_job
from trainfare.job import Probe, Script
from trainfare.script import probe_script, run_script

how = sys.argv[1]  # a script has arguments of its own

def end(give):
    made = give()
    profile = trace_job(made) if how == "trace" else made
    print(profile.name, profile.source.how, profile.plan.optimizer_steps, bool(profile.measured), flush=True)
    os._exit(0)

if how == "trace":
    run_script(Script("train.py"), end)
probe_script(Script("train.py"), Probe(3, False, end))
"""

pytestmark = pytest.mark.sources


def replace_text(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == count, (path, old)
    path.write_text(text.replace(old, new), encoding="utf-8")


def run_python(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(folder / root) for root in ROOTS)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """A copy of the product's sources, with a loop of plain PyTorch added as the recipe says."""
    ignored = shutil.ignore_patterns("__pycache__")
    for root in (*ROOTS, "benchmarks"):
        shutil.copytree(TOP / root, tmp_path / root, ignore=ignored)
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    own = tmp_path / "plugin" / "trainfare" / "plain"
    own.mkdir()
    (own / "__init__.py").write_text('"""A loop of plain PyTorch."""\n')
    shutil.copy(TOP / "tests" / "builders" / "plain_loop.py", own / "loop_kind.py")
    script = (TOP / "tests" / "builders" / "plain_script.py").read_text(encoding="utf-8")
    (own / "script.py").write_text(script.replace("builders.plain_loop", "trainfare.plain.loop_kind"))
    replace_text(
        tmp_path / "plugin" / "trainfare" / "__init__.py",
        "\n\n\ndef __getattr__",
        '\nregister_loop("trainfare.plain.loop_kind", script="trainfare.plain.script", trainers={"plain_framework": "train"})\n\n\ndef __getattr__',
    )
    settings = tmp_path / "pyproject.toml"
    replace_text(
        settings, '  "huggingface | keras | lightning",\n', '  "huggingface | keras | lightning | plain",\n'
    )
    replace_text(settings, '["trainfare.lightning", ', '["trainfare.lightning", "trainfare.plain", ', count=2)
    return tmp_path


def test_a_loop_by_the_recipe_breaks_no_contract(product: Path) -> None:
    paths = ":".join(str(product / root) for root in (*ROOTS, "."))
    done = run_python(LINT, product, paths)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_loop_by_the_recipe_traces_its_modules(product: Path) -> None:
    done = run_python(TRACE, product)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "PlainModule\n"


@pytest.mark.parametrize(
    ("how", "answer"), [("trace", "PlainModule fake 24 False\n"), ("probe", "PlainModule real 24 True\n")]
)
def test_a_loop_by_the_recipe_answers_for_its_scripts(how: str, answer: str, product: Path) -> None:
    """Its script half is the module that it registers: a script is traced before launch, and measured."""
    (product / "plain_framework.py").write_text(FRAMEWORK)
    (product / "train.py").write_text(TRAIN)
    done = run_python(SCRIPT, product, how)
    assert (done.returncode, done.stdout) == (0, answer), done.stderr
    assert not (product / "trained").exists()
    assert not (product / "went on").exists()


def test_the_recipe_names_each_file_that_changes() -> None:
    page = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = page.partition("## Add a training loop\n")[2].partition("\n## ")[0]
    assert "`plugin/trainfare/__init__.py`" in recipe
    assert "`pyproject.toml`" in recipe
    assert "Nothing else of the product changes." in recipe
