"""`trainfare check --compare-to REF`: the other commit traced beside the working tree, in real repositories."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from builders.cli import run_main
from builders.git_repository import GitRepository
from builders.launched_scripts import FIT, LIGHTNING, ROWS, SIZE
from builders.toy_market import book, offer_row
from trainfare.prices.lock import LockHeader, lock_text
from trainfare_core.policy.budget_check import BudgetCheck
from trainfare_core.policy.check import PolicyCheck

SCRIPT = """
import sys
import torch
from trainfare import TrainingJob
WIDTH = {width}
print("loaded from", __file__, file=sys.stderr)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Linear(64, WIDTH), torch.nn.Linear(WIDTH, 2)
    def training_step(self, batch, batch_idx):
        return self.head(self.body(batch)).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def job():
    return TrainingJob(module=Net, batch=lambda: torch.zeros(32, 64), batch_size=32, max_steps={steps}, precision="{precision}")
"""
TARGET = "train.py:job"


def script(*, width: int = 64, steps: int = 1_000_000, precision: str = "32-true") -> str:
    return SCRIPT.format(width=width, steps=steps, precision=precision)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepository:
    """A repository with a job in its first commit; it is the working directory."""
    repository = GitRepository.new(tmp_path / "project")
    repository.put("train.py", script())
    repository.put(".gitignore", "__pycache__/\n")  # Python writes one where it imports the job
    repository.commit("the job")
    monkeypatch.chdir(repository.root)
    return repository


def check(*arguments: str, target: str = TARGET) -> int:
    """Run the command line in this process and return its exit code."""
    return run_main("check", target, "--max-usd", "100000", *arguments)


def compare_to_base(capsys: pytest.CaptureFixture[str], *arguments: str, target: str = TARGET) -> BudgetCheck:
    """Check against a commit, which must end with 0, and return the answer."""
    capsys.readouterr()
    code = check("--format", "json", *arguments, target=target)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return BudgetCheck.model_validate_json(captured.out)


def error_of(capsys: pytest.CaptureFixture[str], code: int, *arguments: str, target: str = TARGET) -> str:
    capsys.readouterr()
    assert check(*arguments, target=target) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def assert_cleaned_up(repository: GitRepository, printed: str = "") -> None:
    """No worktree is left: neither registered nor on disk, where the target printed its place."""
    assert len(repository.worktrees()) == 1
    assert repository.git("status", "--porcelain") == ""
    for place in re.findall(r"loaded from (\S+trainfare-base-\S+)", printed):
        assert not Path(place).exists()
        assert not Path(place).parents[1].exists()


def test_the_other_commit_is_traced_and_its_worktree_removed(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Base is the commit's own code, head the working tree's, and nothing is left behind."""
    repository.put("train.py", script(steps=2_000_000))
    head = repository.commit("train longer")
    capsys.readouterr()
    assert check("--compare-to", "HEAD~1", "--format", "json", "--no-cache") == 0
    captured = capsys.readouterr()
    answer = BudgetCheck.model_validate_json(captured.out)
    change = answer.change
    assert change is not None
    assert [(cause.cause, cause.detail) for cause in change.causes] == [
        ("steps", "1,000,000 -> 2,000,000 optimizer steps")
    ]
    base = repository.git("rev-parse", "HEAD~1").strip()
    assert change.base.label == f"HEAD~1 ({base[:10]})"
    assert "trainfare-base-" in captured.err
    assert "trainfare-base-" not in captured.out
    assert repository.git("rev-parse", "HEAD").strip() == head
    assert_cleaned_up(repository, captured.err)


def test_a_script_is_compared_with_its_arguments(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands after `--` goes to both commits; the run of each is read from its own Trainer."""
    fit = "pl.Trainer(max_steps=int(sys.argv[1]), devices=1).fit(Net(), torch.utils.data.DataLoader(torch.zeros(64, 64), 32))\n"
    job = "import pytorch_lightning as pl\n" + script().replace("torch.nn.Module", "pl.LightningModule")
    repository.put("jobs/fit.py", job + fit)
    repository.commit("a script")
    repository.put("jobs/fit.py", job + fit.replace("sys.argv[1]", "sys.argv[1] + '0'"))
    change = compare_to_base(capsys, "--compare-to", "HEAD", "--", "5000", target="jobs/fit.py").change
    assert change is not None
    assert [cause.detail for cause in change.causes] == ["5,000 -> 50,000 optimizer steps"]
    repository.git("checkout", "jobs/fit.py")
    assert_cleaned_up(repository)


def test_devices_that_a_script_no_longer_names_are_the_cause(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """From `devices=1` to "auto" on a machine of eight, and back, with both batches; not "details of the traces"."""
    fit = {
        devices: LIGHTNING
        + FIT.format(devices=devices, options="max_epochs=400", loader=f"rows({ROWS})", validated=16)
        for devices in ("1", "'auto'")
    }
    repository.put("fit.py", fit["1"])
    repository.commit("one device")
    eight = ("--compare-to", "HEAD", "--instance-type", "p5.48xlarge")
    for head, said in (
        ("'auto'", f"1 -> auto, global batch {SIZE} -> {8 * SIZE}"),
        ("1", f"auto -> 1, global batch {8 * SIZE} -> {SIZE}"),
    ):
        repository.put("fit.py", fit[head])
        answer = compare_to_base(capsys, *eight, target="fit.py")
        assert answer.change is not None
        assert [(cause.cause, cause.detail) for cause in answer.change.causes] == [
            ("devices", f"devices: {said} on 8 devices")
        ]
        assert (answer.change.quality is not None) is (head == "'auto'")
        repository.commit("other devices")


def test_what_is_not_committed_is_head(repository: GitRepository, capsys: pytest.CaptureFixture[str]) -> None:
    """The working tree is the head, with changes that no commit has yet."""
    repository.put("train.py", script(width=4096))
    change = compare_to_base(capsys, "--compare-to", "HEAD").change
    assert change is not None
    model = next(cause for cause in change.causes if cause.cause == "model")
    assert {module.module for module in model.modules} == {"body", "head", ""}
    assert len(repository.worktrees()) == 1


def test_no_change_says_so(repository: GitRepository, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit that does not touch the job costs nothing more."""
    repository.put("README.md", "words")
    repository.commit()
    assert check("--compare-to", "HEAD~1") == 0
    printed = capsys.readouterr().out
    assert "no change in cost" in printed
    assert "what differs" not in printed


def test_the_same_commits_give_the_same_bytes(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the temporary folder nor anything else of a run is in the answer."""
    repository.put("train.py", script(width=128, precision="bf16-mixed"))
    answers = [
        compare_to_base(capsys, "--compare-to", "HEAD", "--as-of", "2026-11-24").to_json() for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_a_target_in_a_folder_and_its_own_modules(
    repository: GitRepository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules beside a target, on PYTHONPATH or named by a package come from the other commit, from any directory."""
    repository.put("src/sizes/__init__.py", "STEPS = 1_000_000\n")
    repository.put(
        "jobs/train.py",
        "from sizes import STEPS\n" + script().replace("max_steps=1000000", "max_steps=STEPS"),
    )
    repository.commit("a package")
    repository.put("src/sizes/__init__.py", "STEPS = 3_000_000\n")
    monkeypatch.syspath_prepend(str(repository.root / "src"))  # as an editable install does
    monkeypatch.chdir(repository.root / "jobs")
    absolute = f"{repository.root / 'jobs' / 'train.py'}:job"
    for target in ("train.py:job", "train:job", absolute):
        change = compare_to_base(capsys, "--compare-to", "HEAD", target=target).change
        assert change is not None
        assert [cause.detail for cause in change.causes] == ["1,000,000 -> 3,000,000 optimizer steps"], target
    monkeypatch.chdir("/")
    assert compare_to_base(capsys, "--compare-to", "main", target=absolute).change == change.model_copy(
        update={"base": change.base.model_copy(update={"label": change.base.label.replace("HEAD", "main")})}
    )


def test_a_module_of_the_other_commit_is_no_trace_of_the_base(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import hook that maps a name to a file of the working tree would compare head with head: it is noticed."""
    repository.put("lib/sizes.py", "STEPS = 1_000_000\n")
    hook = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('sizes', {str(repository.root / 'lib' / 'sizes.py')!r})\n"
        "sizes = importlib.util.module_from_spec(spec)\nsys.modules['sizes'] = sizes\nspec.loader.exec_module(sizes)\n"
    )
    repository.put("train.py", hook + script())
    repository.commit("a hook")
    repository.put("README.md", "another tree")
    change = compare_to_base(capsys, "--compare-to", "HEAD").change
    assert change is not None
    assert change.change_usd is None
    assert change.unknown_because is not None
    assert "its module sizes was imported from" in change.unknown_because


def test_a_job_that_is_new_has_no_base(repository: GitRepository, capsys: pytest.CaptureFixture[str]) -> None:
    """The commit that adds a job is judged by its budget; its change is unknown, and the reason is in words."""
    repository.put("new/other.py", script())
    repository.commit("a new job")
    answer = compare_to_base(capsys, "--compare-to", "HEAD~1", target="new/other.py:job")
    assert answer.verdict == "within"
    assert answer.change is not None
    assert answer.change.unknown_because is not None
    assert answer.change.unknown_because.endswith("it has no new/other.py")
    assert answer.change.head.usd is not None


def test_a_broken_base_does_not_fail_the_head(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A base that cannot be loaded is no fault of the change: unknown, with the base's error, and no folder of ours."""
    repository.put("train.py", "1 / 0\n")
    repository.commit("broken")
    repository.put("train.py", script())
    repository.commit("repaired")
    answer = compare_to_base(capsys, "--compare-to", "HEAD~1")
    assert answer.change is not None
    assert answer.change.unknown_because is not None
    assert "ZeroDivisionError" in answer.change.unknown_because
    assert "trainfare-base-" not in answer.to_json()
    assert_cleaned_up(repository)


def test_a_broken_head_leaves_no_worktree(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worktree is removed when the check fails."""
    repository.put("train.py", "1 / 0\n")
    repository.commit("broken")
    assert "ZeroDivisionError" in error_of(capsys, 2, "--compare-to", "HEAD~1")
    assert_cleaned_up(repository)


def test_other_dependencies_are_refused(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A base with other packages is not traced with these: exit code 3, the file, and the way out."""
    repository.put("requirements.txt", "torch\n")
    said = get_refusal_after(repository, capsys)
    assert "requirements.txt" in said
    assert "`trainfare profile train.py:job -o base.json`" in said
    assert "--base base.json" in said


def get_refusal_after(repository: GitRepository, capsys: pytest.CaptureFixture[str]) -> str:
    repository.commit("other packages")
    said = error_of(capsys, 3, "--compare-to", "HEAD~1")
    assert_cleaned_up(repository)
    return said


def test_an_unknown_commit_ends_with_two(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A branch that is not here is bad input."""
    assert "there is no such commit" in error_of(capsys, 2, "--compare-to", "nonesuch")
    assert_cleaned_up(repository)


def test_a_base_and_a_commit_are_one_too_many(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two bases are bad usage, as is a profile on standard input."""
    assert "give one of them" in error_of(capsys, 2, "--compare-to", "HEAD", "--base", "base.json")
    assert "standard input" in error_of(capsys, 2, "--compare-to", "HEAD", target="-")


def test_an_older_branch_is_noted(repository: GitRepository, capsys: pytest.CaptureFixture[str]) -> None:
    """Compared with a branch that went on, its own commits count as taken away: the answer says so."""
    repository.git("switch", "--quiet", "--create", "topic")
    repository.git("switch", "--quiet", "main")
    repository.put("train.py", script(steps=7))
    repository.commit("main goes on")
    repository.git("switch", "--quiet", "topic")
    change = compare_to_base(capsys, "--compare-to", "main").change
    assert change is not None
    assert "git merge-base main HEAD" in change.notes[0]


def test_every_job_of_a_policy_is_compared(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without TARGET each job of the policy has its own base in the commit; a limit on the increase breaks the check."""
    repository.put(
        "trainfare.toml", '[jobs.small]\ntarget = "train.py:job"\nmax_usd = 1000\nmax_increase_percent = 20\n'
    )
    repository.commit("a policy")
    repository.put("train.py", script(steps=4_000_000))
    capsys.readouterr()
    assert run_main("check", "--compare-to", "HEAD", "--format", "json") == 1
    answer = PolicyCheck.model_validate_json(capsys.readouterr().out)
    check = answer.jobs[0].check
    assert check is not None
    assert check.change is not None
    assert [cause.detail for cause in check.change.causes] == ["1,000,000 -> 4,000,000 optimizer steps"]
    assert len(repository.worktrees()) == 1


def write_locked(usd_per_hour: float, day: str) -> str:
    header = LockHeader.model_validate({"tool_version": "0", "locked_on": day, "rows": 1})
    return lock_text(header, book(offer_row(usd_per_hour=usd_per_hour, observed_on=day)))


def test_a_changed_lock_is_judged_at_the_prices_of_both(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sides of a comparison have the same prices; a run must keep its limits at those of either lock."""
    repository.put("trainfare.lock", write_locked(4.0, "2026-10-01"))
    repository.commit()
    repository.put("trainfare.lock", write_locked(5.0, "2026-11-01"))
    repository.commit()
    arguments = ("--compare-to", "HEAD~1", "--lock", "trainfare.lock")
    answer = compare_to_base(capsys, *arguments)
    assert answer.best is not None
    assert answer.best.usd_per_hour == 4.0
    assert answer.change is not None
    assert answer.change.causes == ()
    limit = (
        10 * answer.best.run_usd.high_80
    )  # nothing like so small a step was measured: a guess up to ten times
    for usd_per_hour, code in ((4.0, 0), (4_000.0, 1), (0.04, 0)):
        repository.put("trainfare.lock", write_locked(usd_per_hour, "2026-11-02"))
        assert run_main("check", TARGET, "--max-usd", str(limit * 2), *arguments) == code


def test_a_lock_with_false_prices_does_not_hide_an_increase(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A branch that divides all prices by a thousand and makes the run a hundred times as long costs more."""
    repository.put("trainfare.lock", write_locked(4.0, "2026-10-01"))
    policy = '[jobs.net]\ntarget = "train.py:job"\nmax_increase_percent = 10\n'
    repository.put("trainfare.toml", f'lock = "trainfare.lock"\n{policy}')
    repository.commit()
    repository.put("trainfare.lock", write_locked(0.004, "2026-10-02"))
    repository.put("train.py", script(steps=100_000_000))
    assert run_main("check", "--compare-to", "HEAD") == 1
    shown = capsys.readouterr().out
    assert "checked at the prices of both" in " ".join(shown.split())


def test_a_base_without_a_lock_has_the_same_prices(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commit that adds the lock changes no price; a lock of the base that cannot be read is none."""
    repository.put("trainfare.lock", "nonsense\n")
    repository.commit()
    repository.put("trainfare.lock", write_locked(4.0, "2026-10-01"))
    repository.commit()
    for ref in ("HEAD~1", "HEAD~2", "HEAD"):
        change = compare_to_base(capsys, "--compare-to", ref, "--lock", "trainfare.lock").change
        assert change is not None
        assert change.change_usd == 0


def test_a_committed_profile_is_compared_with_its_own_past(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile file in the repository is read in both commits, without a trace."""
    for steps in (1_000_000, 2_000_000):  # fewer cost the same: a machine is billed for a while at least
        repository.put("train.py", script(steps=steps))
        assert run_main("profile", TARGET, "-o", repository.root / "job.json", "--force") == 0
        repository.commit()
    change = compare_to_base(capsys, "--compare-to", "HEAD~1", target="job.json").change
    assert change is not None
    assert [cause.detail for cause in change.causes] == ["1,000,000 -> 2,000,000 optimizer steps"]


@pytest.mark.own_start
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_worktree(repository: GitRepository, number: signal.Signals) -> None:
    """A job that is cancelled while the base is being traced removes its worktree."""
    # Head and base print at the same time: each line in one piece, also where Python does not buffer.
    repository.put("train.py", "import os\nos.write(1, b'waiting\\n')\nwhile True: pass\n")
    repository.commit("endless")
    repository.put("README.md", "another tree")
    repository.commit("words")
    process = subprocess.Popen(
        [sys.executable, "-m", "trainfare", "check", TARGET, "--max-usd", "5", "--compare-to", "HEAD~1"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=repository.root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stderr is not None
    with process:
        for _ in range(2):  # head and base
            assert b"waiting" in process.stderr.readline()
        worktrees = repository.worktrees()
        process.send_signal(number)
        process.stderr.read()
    assert len(worktrees) > 1
    assert process.returncode == 128 + number
    assert_cleaned_up(repository)
