"""A warm process is like one of a new Python: arguments, variables, streams, folder and end; what it is not made for is a new one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from builders.cli import CliResult, run_cli
from builders.processes import ends
from builders.target_files import JOB, TWO_LAYERS
from builders.warm_process import LOOPS, warm_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no warm process on this system")
MARK = "from trainfare.user_process.child import main"
"""By which a program is known as the process of a TARGET."""


def run(code: str, *arguments: str, environment: dict[str, str] | None = None) -> CliResult:
    """Run a program in a warm process, with a line on its standard input."""
    done = subprocess.run(
        [warm_python(), "-c", f"{code} # {MARK}", *arguments],
        input="given\n", env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return CliResult(done.returncode, done.stdout, done.stderr)


SAID = "import os, sys; print(sys.argv, sys.stdin.read(), os.environ.get('OURS')); print(os.getcwd(), file=sys.stderr); sys.exit(7)"


def test_arguments_variables_streams_and_the_exit_code_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(SAID, "one", "größer", environment={"OURS": "a=b"})
    assert done == CliResult(7, "['-c', 'one', 'größer'] given\n a=b\n", f"{tmp_path}\n")


def test_torch_is_there_and_no_loop_is_and_one_thread_runs() -> None:
    code = f"loops = {{*sys.modules}} & {LOOPS!r}; threads = os.listdir('/proc/self/task')"
    done = run(
        f"import os, sys; {code}; print(len(sys.modules), 'torch' in sys.modules, len(threads), *loops)"
    )
    count, *said = done.stdout.split()
    assert said == ["True", "1"]
    assert int(count) > 1000


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit('words')", 1),
        ("raise ValueError", 1),
        ("os._exit(9)", 9),
        ("os.kill(os.getpid(), 15)", -15),
        ("os.kill(os.getpid(), 9)", -9),
        ("pass", 0),
    ],
)
def test_it_ends_as_the_program_does(end: str, code: int) -> None:
    assert run(f"import os, sys; {end}").exit_code == code


def test_the_group_ends_with_what_was_started() -> None:
    """A command kills the process of a TARGET, or is killed itself."""
    code = "import os, time; os.fork(); os.write(1, b'%d\\n' % os.getpid()); time.sleep(10**6)"
    command = [warm_python(), "-c", f"{code} # {MARK}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -9
    assert all(ends(pid) for pid in pids)


@pytest.mark.parametrize(
    "variables", [{"OMP_NUM_THREADS": "7"}, {"PYTHONHASHSEED": "3"}, {"HF_HOME": "elsewhere"}, {"HOME": "elsewhere"}]
)  # fmt: skip
def test_a_variable_that_is_read_on_import_takes_a_new_python(variables: dict[str, str]) -> None:
    assert run("import sys; print('torch' in sys.modules)", environment=variables).stdout == "False\n"


def test_a_module_that_stands_before_one_in_memory_takes_a_new_python(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("MINE = 'mine'", encoding="utf-8")
    code = "import sys; sys.path[:] = sys.argv[1:]; import yaml; print(yaml.MINE)"
    assert run(code, str(tmp_path)).stdout == "mine\n"


def test_another_program_takes_a_new_python() -> None:
    code = "import sys; print('torch' in sys.modules)"
    done = subprocess.run([warm_python(), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_command_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(TWO_LAYERS + JOB, encoding="utf-8")
    warm, new = (
        run_cli("profile", "t.py:job", "--no-cache", cwd=tmp_path, python=python)
        for python in (warm_python(), sys.executable)
    )
    assert warm == new
    assert json.loads(new.stdout)["operations"]
