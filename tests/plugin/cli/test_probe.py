"""The exit code of `trainfare probe` is its own, whatever the script does to its process, streams and handlers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.cli import CliResult, run_cli
from builders.processes import ends

pytestmark = pytest.mark.own_start  # signals, streams and ends of the process are its subject
LOOP = """
import torch
model = torch.nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters())
for step in range(400):
    if step == 3: {within}
    model(torch.ones(4, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
HEAD = "import atexit, ctypes, faulthandler, os, pathlib, signal, sys, threading\n"
OPTIONS = ("probe", "train.py", "--steps", "3", "--total-steps", "1000", "--format", "json")


def write(folder: Path, first: str = "", within: str = "pass") -> None:
    """Write a script with a loop of its own that does something before it, or within its fourth step."""
    (folder / "train.py").write_text(f"{HEAD}{first}\n{LOOP.format(within=within)}", encoding="utf-8")


def probe(folder: Path) -> CliResult:
    return run_cli(*OPTIONS, cwd=folder)


def assert_answers(done: CliResult) -> None:
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["job"]["optimizer_steps"] == 1000


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the script runs in a fork on Linux alone")
CALLED = "error: train.py called os."
ENDED = "error: the process of the script was ended "


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("os._exit(0)", f"{CALLED}_exit at train.py:2 in <module>, before its steps were measured\n"),
        ("os._exit(1)", f"{CALLED}_exit"),
        ("os.execlp('true', 'true')", f"{CALLED}execv"),
        ("os.execve(sys.executable, [sys.executable, '-c', ''], {})", f"{CALLED}execve"),
        ("os.abort()", f"{CALLED}abort"),
        ("thread = threading.Thread(target=os._exit, args=(0,)); thread.start(); thread.join()", f"{CALLED}_exit"),
        ("sys.exit(0)", "error: train.py ended, and no training was seen"),
        ("sys.exit(1)", "error: train.py ended with exit code 1 before its training began"),
        ("atexit.register(os._exit, 0); sys.exit(0)", "error: train.py ended, and no training was seen"),
        ("sys.excepthook = lambda *_: os._exit(0); int('a')", "error: train.py raised ValueError"),
        ("os._exit = lambda _: None; sys.exit = print; int('a')", "error: train.py raised ValueError"),
        ("raise type('Own', (BaseException,), {})('mine')", "error: train.py raised Own: mine\n"),
        ("os.fork() and os.wait()\nsys.exit(0)", "error: train.py ended, and no training was seen"),
        pytest.param("ctypes.CDLL(None).exit(0)", f"{ENDED}with exit code 0, before", marks=on_linux),
        pytest.param("ctypes.CDLL(None)._exit(1)", f"{ENDED}with exit code 1, before", marks=on_linux),
        pytest.param("faulthandler.dump_traceback_later(1e-3, exit=True); threading.Event().wait()", ENDED, marks=on_linux),
        pytest.param("faulthandler._sigsegv()", f"{ENDED}by signal 11 (Segmentation fault), before", marks=on_linux),
        pytest.param("os.kill(os.getpid(), 9)", f"{ENDED}by signal 9 (Killed), as the system does", marks=on_linux),
        pytest.param("os.closerange(0, 256); int('a')", f"{ENDED}with exit code 2, before", marks=on_linux),
    ],
)  # fmt: skip
def test_a_script_that_ends_before_an_answer_is_2_with_the_reason(
    first: str, reason: str, tmp_path: Path
) -> None:
    write(tmp_path, first)
    done = probe(tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("first", "within"),
    [
        ("", "os._exit(0)"),
        ("", "threading.Thread(target=os._exit, args=(0,)).start(); threading.Event().wait()"),
        ("signal.signal(signal.SIGALRM, lambda *_: os._exit(0))", "os.kill(os.getpid(), signal.SIGALRM)"),
    ],
)
def test_a_loop_that_ends_its_process_is_2(first: str, within: str, tmp_path: Path) -> None:
    write(tmp_path, first, within)
    done = probe(tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{CALLED}_exit" in done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "os.close(1); mine = open('mine.txt', 'w'); mine.write('x')",
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None; os.close(1); os.close(2)",
        "atexit.register(os._exit, 1)",
        "atexit.register(int, 'a')",
        "os._exit = sys.exit = print",
        "if not os.fork(): os._exit(7)",
        "signal.signal(signal.SIGTERM, lambda *_: None)",
    ],
)
def test_the_answer_is_printed_all_the_same(first: str, tmp_path: Path) -> None:
    """With closed or replaced streams, exit handlers, a changed `os._exit`, a fork that ends."""
    write(tmp_path, first, "os.kill(os.getppid(), signal.SIGTERM)" if "SIGTERM" in first else "pass")
    assert_answers(probe(tmp_path))


def test_an_answer_for_which_no_stream_is_left_is_2(tmp_path: Path) -> None:
    write(tmp_path, "os.closerange(3, 256)")
    done = probe(tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: standard output: the answer cannot be written: " in done.stderr


def test_of_a_fork_that_trains_too_one_answers(tmp_path: Path) -> None:
    write(tmp_path, "fork = os.fork()")
    assert_answers(probe(tmp_path))


@pytest.mark.parametrize(
    ("first", "within"),
    [
        ("", "os.kill(os.getpid(), signal.SIGINT)"),
        ("signal.signal(signal.SIGINT, lambda *_: os._exit(0))", "os.kill(os.getpid(), signal.SIGINT)"),
        ("signal.signal(signal.SIGINT, lambda *_: sys.exit(0))", "os.kill(os.getpid(), signal.SIGINT)"),
        pytest.param("", "os.kill(os.getppid(), signal.SIGINT); threading.Event().wait()", marks=on_linux),
        pytest.param("signal.signal(signal.SIGINT, signal.SIG_DFL)", "os.kill(os.getpid(), signal.SIGINT)", marks=on_linux),
    ],
)  # fmt: skip
def test_ctrl_c_is_130_and_one_word(first: str, within: str, tmp_path: Path) -> None:
    """Also where a handler of the script ends it, or the command alone gets the signal."""
    write(tmp_path, first, within)
    done = probe(tmp_path)
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert done.stderr.count("interrupted") == 1
    assert "Traceback" not in done.stderr


def test_a_handler_of_the_script_that_lets_it_go_on_is_no_interrupt(tmp_path: Path) -> None:
    write(tmp_path, "signal.signal(signal.SIGINT, lambda *_: None)", "os.kill(os.getpid(), signal.SIGINT)")
    assert_answers(probe(tmp_path))


@on_linux
def test_a_signal_that_ends_the_script_ends_the_command(tmp_path: Path) -> None:
    """As a scheduler sends it: who waits for the command sees that it was ended, and by what."""
    write(tmp_path, within="os.kill(os.getppid(), signal.SIGTERM); threading.Event().wait()")
    assert probe(tmp_path).exit_code == -15


@on_linux
def test_the_script_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    note = "pathlib.Path('pid').write_text(str(os.getpid()))"
    write(tmp_path, f"{note}; os.kill(os.getppid(), signal.SIGKILL); threading.Event().wait()")
    assert probe(tmp_path).exit_code == -9
    assert ends(int((tmp_path / "pid").read_text()))


@on_linux
def test_the_command_stops_with_the_script_and_goes_on_with_it(tmp_path: Path) -> None:
    """As after Ctrl-Z and `fg`: a shell sees the command alone."""
    write(tmp_path, within="os.kill(os.getpid(), signal.SIGSTOP)")
    command = [sys.executable, "-m", "trainfare", *OPTIONS]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(process.pid, 18)
        out, errors = process.communicate()
    assert_answers(CliResult(process.returncode, out.decode(), errors.decode()))
