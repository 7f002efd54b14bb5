"""What the process of a TARGET does not get, and what it cannot do to the command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from builders.cli import capture_main, run_cli, run_python
from builders.target_files import JOB, TWO_LAYERS
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare.user_process.environment import environment_of, list_withheld
from trainfare_core.errors import TargetError

PROFILE = Path(__file__).parents[3] / "docs" / "examples" / "llama-7b.json"
SECRETS = (
    "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY", "GITHUB_TOKEN", "GH_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_RUNTIME_TOKEN", "INPUT_GITHUB_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN",
    "CI_REPOSITORY_URL", "SYSTEM_ACCESSTOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET",
    "ARM_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "WANDB_API_KEY", "OUR_SECRET", "db_password",
)  # fmt: skip
NEEDED = (
    "PATH",
    "HOME",
    "PYTHONPATH",
    "CUDA_VISIBLE_DEVICES",
    "GITHUB_SHA",
    "CI",
    "TOKENIZERS_PARALLELISM",
    "https_proxy",
)
ASKS = """
import os
present = [name for name, value in os.environ.items() if value == "SECRETVALUE"]
assert not os.path.exists("/proc/self/environ") or open("/proc/self/environ").read().count("SECRETVALUE") == len(present)
token = os.environ["HF_TOKEN"]
assert present == ["HF_TOKEN"], present
"""
ENDS_THE_COMMAND = """
import os, signal
try:
    os.kill(os.getppid(), signal.SIGCONT)
except PermissionError:
    print("refused", flush=True)
"""
KILLED = """
import os, signal, sys, time
print('{"kind":"ready"}', flush=True)
while time.process_time() < float(sys.argv[1]):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_credentials_and_files_of_the_runner_are_withheld() -> None:
    """But for those that are passed on by name; what training code needs stays."""
    environment = dict.fromkeys((*SECRETS, *NEEDED), "x")
    assert set(list_withheld(environment)) == set(SECRETS)
    assert set(environment_of(environment)) == {*NEEDED, "PYTHONHASHSEED"}
    assert set(environment_of(environment, ["HF_TOKEN"])) == {*NEEDED, "HF_TOKEN", "PYTHONHASHSEED"}


def test_the_rank_of_a_launcher_is_left_out() -> None:
    """A process that traces is alone: one that believes in others waits for them, or wraps the model for them."""
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29511", "PATH": "x"}
    assert set(environment_of(environment, ["RANK"])) == {"RANK", "PATH", "PYTHONHASHSEED"}


@pytest.mark.parametrize(("given", "seed"), [(None, "0"), ("random", "0"), ("7", "7")])
def test_sets_have_the_same_order_each_time(given: str | None, seed: str) -> None:
    """A seed that the user has chosen stays."""
    assert environment_of({} if given is None else {"PYTHONHASHSEED": given}) == {"PYTHONHASHSEED": seed}


def test_an_error_names_what_was_asked_for_and_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the option that passes it on; nothing is said of what the code did not look up."""
    (tmp_path / "t.py").write_text(ASKS + TWO_LAYERS + JOB)
    monkeypatch.chdir(tmp_path)
    for name in SECRETS:
        monkeypatch.setenv(name, "SECRETVALUE")
    done = capture_main(capsys, "check", "t.py:job", "--max-usd", "1000")
    assert done.exit_code == 2
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert error.endswith("; HF_TOKEN: withheld from the code of a TARGET, --pass-env HF_TOKEN passes it on")
    assert (
        capture_main(capsys, "check", "t.py:job", "--max-usd", "1000", "--pass-env", "HF_TOKEN").exit_code
        == 0
    )


def test_the_code_cannot_signal_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the system can see to it: a command that is stopped would never end."""
    (tmp_path / "t.py").write_text(ENDS_THE_COMMAND + TWO_LAYERS + JOB)
    with UserProcess(f"{tmp_path / 't.py'}:job", ProcessLimits()) as process:
        process.profile()
        alone = process.alone
    assert ("refused" in capsys.readouterr().err) is alone


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_the_memory_of_the_command_is_hidden() -> None:
    """The system then refuses its variables to other processes of the same user, unless that is root."""
    code = "import ctypes; from trainfare.sandbox import hide_memory as hide; hide(); print(ctypes.CDLL(None).prctl(3))"
    assert run_python("-c", code, check=True).stdout == "0\n"


def test_code_that_removes_the_working_folder_is_bad_input(tmp_path: Path) -> None:
    """The command has nowhere to stand, which is no defect of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    remove = "import os, shutil\nshutil.rmtree(os.getcwd())\n"
    (folder / "t.py").write_text(f"{remove}{TWO_LAYERS}{JOB}")
    done = run_cli("check", "t.py:job", "--max-usd", "0.000001", cwd=folder)
    assert (done.exit_code, done.stderr) == (
        2,
        "error: t.py:job gave no job: its code has removed the working folder\n",
    )


def test_a_working_folder_that_is_gone_is_no_defect(tmp_path: Path) -> None:
    """Also where a part of trainfare looks for it first."""
    code = "import os; os.rmdir(os.getcwd()); from trainfare.cli import main; main()"
    done = run_python("-c", code, "check", PROFILE, "--max-usd", "1000000", cwd=tmp_path)
    assert done.exit_code == 2
    assert done.stderr.endswith(
        "error: the working folder is gone: the code of the TARGET, or another program, has removed it\n"
    )


@pytest.mark.parametrize(
    ("cpu_s", "message"),
    [
        (1.2, "ended by SIGKILL after 1 s of CPU; allow more with"),
        (0.0, "by SIGKILL, as the system does where memory"),
    ],
)
def test_a_limit_of_cpu_that_is_ignored_is_told_as_such(cpu_s: float, message: str) -> None:
    """The system ends by SIGKILL what ignores the first signal."""
    command = [sys.executable, "-c", KILLED, str(cpu_s)]
    with (
        UserProcess("t.py", ProcessLimits(cpu_s=1), command=command) as process,
        pytest.raises(TargetError, match=message),
    ):
        process.profile()
