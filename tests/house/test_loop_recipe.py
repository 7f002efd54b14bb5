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
LINT = "import sys; from importlinter.cli import lint_imports_command as lint; sys.path[:0] = sys.argv[1].split(':'); lint(['--no-cache', '--contract=port', '--contract=plugin'])"
TRACE = """
from trainfare import TrainingJob, trace_job
from trainfare.plain.loop_kind import PlainModule, SAMPLES, make_batch
job = TrainingJob(module=PlainModule, batch=make_batch, batch_size=SAMPLES, max_steps=5)
print(trace_job(job).name)
"""

pytestmark = pytest.mark.sources


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (path, old)
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
    replace_once(
        tmp_path / "plugin" / "trainfare" / "__init__.py",
        "\n\n\ndef __getattr__",
        '\nregister_loop("trainfare.plain.loop_kind")\n\n\ndef __getattr__',
    )
    settings = tmp_path / "pyproject.toml"
    replace_once(
        settings, '  "huggingface | keras | lightning",\n', '  "huggingface | keras | lightning | plain",\n'
    )
    replace_once(settings, '["trainfare.lightning", ', '["trainfare.lightning", "trainfare.plain", ')
    return tmp_path


def test_a_loop_by_the_recipe_breaks_no_contract(product: Path) -> None:
    paths = ":".join(str(product / root) for root in (*ROOTS, "."))
    done = run_python(LINT, product, paths)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_loop_by_the_recipe_traces_its_modules(product: Path) -> None:
    done = run_python(TRACE, product)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "PlainModule\n"


def test_the_recipe_names_each_file_that_changes() -> None:
    page = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = page.partition("## Add a training loop\n")[2].partition("\n## ")[0]
    assert "`plugin/trainfare/__init__.py`" in recipe
    assert "`pyproject.toml`" in recipe
    assert "Nothing else of the product changes." in recipe
