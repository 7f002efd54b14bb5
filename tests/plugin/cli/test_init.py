"""`trainfare init`: the scripts it finds, what it writes for which CI system, and what it keeps."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest

from builders.cli import capture_main
from trainfare.cli.init import name_job
from trainfare.policy import read_policy
from trainfare.pull_request.workflow import find_systems, write_workflow
from trainfare.script.find_scripts import OWN_LOOP, find_obstacle, find_scripts
from trainfare.script.imported_packages import list_requirements

TOP = Path(__file__).parents[3]
TEMPLATES = TOP / "plugin" / "trainfare" / "pull_request" / "ci"
TRAIN = """\
import pytorch_lightning as pl
import torch

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(512, 512)

    def training_step(self, batch, _):
        return self.net(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

if __name__ == "__main__":
    print("a line of its own")
    data = torch.utils.data.TensorDataset(torch.rand(640, 512))
    loader = torch.utils.data.DataLoader(data, batch_size=32)
    pl.Trainer(max_epochs=3000).fit(Net(), loader)
"""
LOOP = """\
import torch
net = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.rand(4, 2)).sum().backward()
optimizer.step()
"""
BROKEN = "import lightning as L\nL.Trainer().fit(\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, with traces that are kept beside it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRAINFARE_TRACE_CACHE", str(tmp_path / "traces"))
    return folder


def put(files: dict[str, str]) -> None:
    """Write files into the working folder."""
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")


def test_scripts_of_which_one_is_broken_and_one_needs_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The job of the one that can be priced, and why the others have none; `check` runs with what was written.

    Its limit is 1.5 times the upper end that `recommend` has. A second time nothing is written, but with --force.
    """
    put(
        {
            "args.py": "import sys\n" + TRAIN.replace("print(", "sys.exit(2)  # ("),
            "train.py": TRAIN,
            "src/loop.py": LOOP,
            "src/broken.py": BROKEN,
            ".github/dependabot.yml": "",
        }
    )
    dry = capture_main(capsys, "init", "--dry-run")
    assert (dry.exit_code, Path("trainfare.toml").exists()) == (0, False)
    assert (
        "would write trainfare.toml\nwould write .github/workflows/training-cost.yml\nnext:\n  trainfare init\n"
        in dry.stdout
    )
    done = capture_main(capsys, "init")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert lines[0] == "training scripts: 4"
    cost = re.fullmatch(r"  train\.py: \$[\d.]+( \(a guess\))? a run on \w+:[\w.-]+@[\w-]+", lines[1])
    assert cost
    assert bool(cost[1]) == ("its time is a guess" in Path("trainfare.toml").read_text(encoding="utf-8"))
    assert lines[2:5] == [
        "  args.py: ended with exit code 2 before its training began: give its ...",
        "  src/broken.py: SyntaxError in line 2",
        "  src/loop.py: its own loop: trainfare recommend --steps N prices it",
    ]
    assert lines[5:7] == ["wrote trainfare.toml", "wrote .github/workflows/training-cost.yml"]
    assert '  if args.py needs arguments: target = "args.py -- ARGUMENTS"' in lines
    answer = json.loads(capture_main(capsys, "recommend", "train.py", "--format", "json").stdout)
    policy = read_policy(None).policy
    assert list(policy.jobs) == ["train"]
    best = answer["options"][answer["cheapest_rank"] - 1]
    assert policy.jobs["train"].max_usd == pytest.approx(1.5 * best["run_usd"]["high_80"], rel=0.05)
    assert capture_main(capsys, "check").exit_code == 0
    put({"trainfare.toml": "# mine\n" + Path("trainfare.toml").read_text(encoding="utf-8")})
    assert "kept trainfare.toml; --force writes it again" in capture_main(capsys, "init").stdout
    assert Path("trainfare.toml").read_text(encoding="utf-8").startswith("# mine")
    capture_main(capsys, "init", "--force")
    assert not Path("trainfare.toml").read_text(encoding="utf-8").startswith("# mine")


def test_nothing_is_written_through_a_link_out_of_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`.github` of a repository that somebody else wrote may lead anywhere; the rest is written."""
    outside = folder.parent / "outside"
    outside.mkdir()
    put({"train.py": TRAIN})
    Path(".github").symlink_to(outside)
    done = capture_main(capsys, "init", "--force")
    assert done.exit_code == 0
    said = "left .github/workflows/training-cost.yml: its folder is a link that leads out of this one"
    assert said in done.stdout.splitlines()
    assert list(outside.iterdir()) == []
    assert Path("trainfare.toml").is_file()


def test_without_a_script_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Code that defines a model, a test of it and an environment are no training scripts."""
    model = TRAIN.partition("if __name__")[0]
    put({"model.py": model, "tests/train.py": TRAIN, "env/pyvenv.cfg": "", "env/lib/train.py": TRAIN})
    done = capture_main(capsys, "init")
    assert (done.exit_code, done.stdout) == (3, "training scripts: none\n")
    assert "no script with a Trainer could be priced, so nothing was written" in done.stderr
    assert not (folder / "trainfare.toml").exists()


def test_a_script_that_raises_is_followed_by_the_command_that_says_all_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line has no room for the name of a missing module."""
    put({"train_broken.py": "import not_installed_package\n" + TRAIN})
    done = capture_main(capsys, "init")
    assert done.stdout.splitlines() == [
        "training scripts: 1",
        "  train_broken.py: raised ModuleNotFoundError: No module named ...",
        "next:",
        "  trainfare profile train_broken.py # the whole reason",
    ]
    whole = capture_main(capsys, "profile", "train_broken.py").stderr
    assert "No module named 'not_installed_package' at train_broken.py:1" in whole


def test_a_price_that_is_a_guess_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As its job in the policy is, and `check` may name a machine of which like work was measured."""
    put({"train.py": TRAIN.replace("batch_size=32", "batch_size=640")})
    shown = capture_main(capsys, "init").stdout
    assert "its time is a guess" in Path("trainfare.toml").read_text(encoding="utf-8")
    assert re.search(r"^  train\.py: \$[\d.]+ \(a guess\) a run on ", shown, re.MULTILINE)


def test_kinds_of_scripts() -> None:
    """By what they import, call, and run by themselves."""
    assert find_obstacle(TRAIN.encode()) == ""
    assert find_obstacle(LOOP.encode()) == OWN_LOOP
    guarded = "import transformers\ndef main():\n    transformers.Trainer(m).train()\nif __name__ == '__main__':\n    main()\n"
    assert find_obstacle(guarded.encode()) == ""
    assert find_obstacle(guarded.partition("if __name__")[0].encode()) is None
    assert find_obstacle(b"from lightning.pytorch.cli import LightningCLI\nLightningCLI()\n") == ""
    assert find_obstacle(b"import sklearn\nModelTrainer().fit()\n") is None
    assert find_obstacle(b"import keras\nmodel.compile('adam')\nmodel.fit(x, y)\n") == ""
    assert find_obstacle(TRAIN.encode() + b"text = '\\d'  # of which Python warns\n") == ""


def test_scripts_whose_names_are_alike_have_jobs_of_their_own() -> None:
    """Else the policy would have one table twice, which TOML forbids: https://toml.io/en/v1.0.0#table."""
    jobs: list[str] = []
    for path in ("a/b.py", "a-b.py", f"{'x' * 90}/one.py", f"{'x' * 90}/two.py"):
        jobs.append(name_job(path, jobs))
    assert jobs[:2] == ["a-b", "a-b-2"]
    assert len(set(jobs)) == 4
    assert max(map(len, jobs)) <= 80


def test_source_that_is_no_python_is_passed_over_or_named() -> None:
    """A null byte, and nesting beyond what Python parses; only what names a trainer is named."""
    put({"a.py": "x = \0", "b.py": "import lightning\n" + "(" * 5000, "c.py": "import os\nx = ("})
    (found,) = find_scripts(Path().glob("*"))
    assert (found[0], bool(found[1])) == ("b.py", True)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({".github/x": ""}, ["GitHub Actions"]),
        ({".gitlab-ci.yml": "", "azure-pipelines.yml": ""}, ["GitLab CI", "Azure Pipelines"]),
        ({".git/config": '[remote "origin"]\n\turl = https://gitlab.example.org/a/b.git\n'}, ["GitLab CI"]),
        (
            {".git/config": '[remote "origin"]\n\turl = git@github.com:a/b.git\n', ".gitlab-ci.yml": ""},
            ["GitLab CI"],
        ),
        ({"readme": ""}, []),
    ],
)
def test_ci_systems_are_those_of_the_files_else_of_the_remote(
    files: dict[str, str], names: list[str]
) -> None:
    """Files of a system say more than where a clone comes from."""
    put(files)
    assert [system.name for system in find_systems(Path())] == names


def test_a_pipeline_of_the_users_is_kept() -> None:
    """GitLab's own file goes beside it, to be included; with our own there, that one is meant."""
    put({".gitlab-ci.yml": "stages: [build]\n"})
    (system,) = find_systems(Path())
    path, text = write_workflow(system, Path())
    assert path == ".gitlab/training-cost.yml"
    assert text == (TEMPLATES / "gitlab-ci.yml").read_text(encoding="utf-8")
    put({".gitlab-ci.yml": text})
    assert write_workflow(system, Path()) == (".gitlab-ci.yml", text)


@pytest.mark.sources
def test_the_workflow_of_github_is_that_of_the_documentation() -> None:
    """With the requirements only where the repository has them."""
    page = (TOP / "docs" / "ci.md").read_text(encoding="utf-8")
    block = re.search(r"   ```yaml\n(   name: training cost\n.*?)   ```\n", page, re.DOTALL)
    assert block is not None
    put({".github/x": "", "requirements.txt": "torch\n"})
    (system,) = find_systems(Path())
    path, text = write_workflow(system, Path())
    assert (path, text) == (".github/workflows/training-cost.yml", textwrap.dedent(block[1]))
    Path("requirements.txt").unlink()
    shorter = write_workflow(system, Path())[1]
    assert text.startswith(shorter)
    assert re.search(r"training-cost\.yml@[\w.-]+\n$", shorter)


def test_requirements_of_the_scripts_where_a_repository_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    """What scripts and their own modules import, without the library and what a workflow installs anyway."""
    imports = "import os, helper, numpy, parts.layers, not_installed_anywhere\n"
    put(
        {
            "train.py": imports + TRAIN,
            "helper.py": "from rich import print",
            "parts/layers.py": "import yaml, helper",
            ".github/x": "",
        }
    )
    names = [line.partition(">=") for line in list_requirements(["train.py"])]
    assert [name for name, _, _ in names] == ["numpy", "PyYAML", "rich"]
    assert all(re.fullmatch(r"[\d.]+", number) for _, _, number in names)
    put({"train.py": "import numpy\n" + TRAIN})
    Path("helper.py").unlink()
    done = capture_main(capsys, "init")
    assert done.exit_code == 0
    assert Path("trainfare-requirements.txt").read_text(encoding="utf-8").startswith("numpy>=")
    assert "requirements: trainfare-requirements.txt" in Path(
        ".github/workflows/training-cost.yml"
    ).read_text(encoding="utf-8")
