"""The terminal and the pipe: no encoding, closed or full stream makes a traceback, or an answer of its own."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builders.aws_server import aws_environment
from builders.ci_jobs import CI_VARIABLES, github_environment
from builders.cli import run_python
from builders.processes import HANG_S, ends
from builders.profiles import profile
from builders.target_files import JOB, TWO_LAYERS
from trainfare.cli.check_options import Output, write_outputs
from trainfare.cli.streams import AnswerFile
from trainfare_core.errors import OutputError

pytestmark = pytest.mark.own_start
COMMAND = (sys.executable, "-m", "trainfare")
WITHIN = ("check", "job.json", "--max-usd", "100000")
OVER = ("check", "job.json", "--max-usd", "0.01")
NAME = "Modell mit Größe – 模型 😀"
TARGET = (TWO_LAYERS + JOB).replace("Net", "模型")
PROFILE = ("profile", "t.py:job")
STRATEGY = (
    "strategy", "t.py:job", "--provider", "aws", "--instance-type", "p5",
    "--strategies", "full_finetune", "--strategies", "linear_probe",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a profile and a TARGET whose names few encodings can hold."""
    job_profile = profile().model_copy(update={"name": NAME})
    (tmp_path / "job.json").write_text(job_profile.to_json(), encoding="utf-8")
    (tmp_path / "t.py").write_text(TARGET, encoding="utf-8")
    return tmp_path


def shell(
    folder: Path, redirected: str, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with its streams redirected by a shell."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirected}', "sh", *COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        env={**os.environ, **settings},
    )


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


@pytest.mark.parametrize(
    "arguments",
    [
        WITHIN,
        OVER,
        ("recommend", "job.json", "--format", "html"),
        ("offers", "--limit", "3"),
        ("--help",),
        ("--version",),
        PROFILE,
        STRATEGY,
    ],
)
@pytest.mark.parametrize("redirected", [pytest.param(">/dev/full", marks=needs_dev_full), ">&-"])
def test_an_answer_that_cannot_be_written_is_2(
    redirected: str, arguments: tuple[str, ...], folder: Path
) -> None:
    """Neither 0 nor 1: what was asked for did not arrive, and that says nothing of a budget."""
    done = shell(folder, redirected, *arguments)
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert errors == done.stderr.decode().splitlines()[-1:]
    assert errors[0].startswith("error: standard output: the answer cannot be written: ")
    assert b"Traceback" not in done.stderr


@needs_dev_full
def test_the_first_failure_alone_is_an_error() -> None:
    """What an interpreter flushes when it ends is dropped: it would end with a code of its own."""
    with AnswerFile("/dev/full", "wb") as full:
        with pytest.raises(OutputError, match="No space left"):
            full.write(b"answer")
        assert full.write(b"more") == 4


@pytest.mark.parametrize("redirected", [pytest.param("2>/dev/full", marks=needs_dev_full), "2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (WITHIN, 0),
        (OVER, 1),
        (("check", "job.json"), 2),
        (("check", "prints.py:job", "--max-usd", "1"), 2),
        (("no-such",), 2),
    ],
)
def test_messages_that_cannot_be_written_change_nothing(
    redirected: str, arguments: tuple[str, ...], code: int, folder: Path
) -> None:
    """Warnings, errors and what a TARGET prints are lost; the answer and the exit code are as ever."""
    (folder / "prints.py").write_text("print('x' * 10**5)\n1 / 0\n", encoding="utf-8")
    done = shell(folder, redirected, *arguments)
    assert (done.returncode, done.stderr) == (code, b"")
    assert bool(done.stdout) == (code < 2)


def test_a_closed_input_is_an_empty_profile(folder: Path) -> None:
    """`-` without standard input is bad input."""
    done = shell(folder, "<&-", "check", "-", "--max-usd", "5")
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [(WITHIN, 0), (OVER, 1), (("offers", "--limit", "3000"), 0)])
def test_a_reader_that_stops_is_no_error(arguments: tuple[str, ...], code: int, folder: Path) -> None:
    """After `| head -1` the exit code is the command's own, and nothing is said."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=folder, stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == code
    assert b"rror" not in done.stderr


ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]


IN_TURN = """
import json, sys
from trainfare.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as stop:
        print(f"ended with {stop.code}", file=sys.stderr)
"""
"""Commands of one process, which imports what they need once."""


@pytest.mark.parametrize("settings", ENCODINGS, ids=["ascii", "cp1252", "locale C"])
def test_no_output_fails_for_its_encoding(settings: dict[str, str], folder: Path) -> None:
    """What cannot be encoded is written in other characters."""
    commands = [
        ("recommend", "job.json", "--limit", "3"),
        ("recommend", "job.json", "--limit", "3", "--format", "markdown"),
        ("recommend", "job.json", "--limit", "3", "--format", "html"),
        *((*WITHIN, "--format", output) for output in ("markdown", "sarif", "github", "junit")),
        ("check", "--policy", "policy.toml"),
        PROFILE,
        STRATEGY,
        # The report of recommend, of a model that is traced for six seconds: in the narrowest encoding alone.
        *([("estimate", "--model", "resnet50", "--samples", "1000")] if "ascii" in settings.values() else []),
        ("comment", "job.json"),
        ("predict", "job.json", "--on", "H100-SXM-80GB"),
        ("why", "p5.48xlarge", "job.json"),
        ("offers", "--limit", "3"),
        ("prices", "lock", "-o", "prices.lock"),
        ("prices", "verify"),
        ("prices", "status"),
        ("prices", "update", "--provider", "gcp"),
        ("decline", "claims"),
        ("prices", "quotas", "--provider", "azure"),
    ]
    (folder / "policy.toml").write_text('jobs.named = {target = "job.json", max_usd = 1e5}', "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(CI_VARIABLES)}
    no_account = {"TRAINFARE_GCP_API_KEY": "", "AZURE_SUBSCRIPTION_ID": "", "TF_BUILD": "true"}
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN, json.dumps(commands)],
        cwd=folder,
        capture_output=True,
        check=True,
        env={**environment, **no_account, **settings},
    )
    assert re.findall(rb"ended with (\d+)", done.stderr) == [b"0"] * (len(commands) - 1) + [b"3"], done.stderr
    assert b"Traceback" not in done.stderr
    assert "─".encode() not in done.stdout


@pytest.mark.parametrize("settings", ENCODINGS, ids=["ascii", "cp1252", "locale C"])
def test_no_argument_fails_for_its_encoding(settings: dict[str, str], folder: Path) -> None:
    """A name that the locale cannot decode is named in the error."""
    done = shell(folder, "", "recommend", "missing – 模型.json", **settings)
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("settings", ENCODINGS, ids=["ascii", "cp1252", "locale C"])
def test_json_stays_the_same_document_in_any_encoding(settings: dict[str, str], folder: Path) -> None:
    """Characters that cannot be encoded are escaped as JSON escapes them, those beyond 16 bits too."""
    done = shell(folder, "", *WITHIN, "--format", "json", **settings)
    encoding = "cp1252" if "1252" in str(settings) else "ascii"
    assert json.loads(done.stdout.decode(encoding))["job"]["name"] == NAME


def test_html_and_markdown_name_what_they_cannot_encode(folder: Path) -> None:
    """A browser shows the character: it is written as a reference."""
    for output in ("html", "markdown"):
        done = shell(folder, "", "recommend", "job.json", "--format", output, PYTHONIOENCODING="ascii")
        assert "&#27169;&#22411; &#128512;" in done.stdout.decode("ascii")


def test_xml_names_what_it_cannot_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JUnit report stays XML: an escape of JSON would be other text."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    write_outputs([Output("junit", None)], {"junit": lambda: "<testcase name='模'/>"})
    assert written.getvalue() == b"<testcase name='&#27169;'/>"


INTERNAL = """
import sys
from trainfare_core.policy import budget_check
def broken(*_, **__):
    raise {error}
budget_check.judge = broken
from trainfare.cli import main
main()
"""


@pytest.mark.parametrize(
    "error", ["KeyError('x')", "EOFError('x')", "BrokenPipeError(32, 'x')", "SystemExit('x')"]
)
def test_a_defect_of_ours_is_one_line_and_4(error: str, folder: Path) -> None:
    """Also one that a command-line library would end with 1; the traceback is shown where it is asked for."""
    command = ("-c", INTERNAL.format(error=error), *WITHIN)
    done = run_python(*command, cwd=folder)
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert (done.exit_code, done.stdout) == (4, "")
    assert line.startswith("error: trainfare failed: ")
    assert "TRAINFARE_DEBUG=1 shows where" in line
    done = run_python(*command, cwd=folder, environment={"TRAINFARE_DEBUG": "1"})
    assert done.exit_code == 4
    assert ("in broken" in done.stderr) == ("SystemExit" not in error)


LOOP = """
import os, subprocess, sys
waits = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("here", os.getpid(), waits.pid)
while True: pass
"""


def interrupt_command(folder: Path, *command: str, line: str = "here") -> tuple[int, list[int]]:
    """Start a command, press Ctrl-C once it has said a line, and return its exit code and the numbers in that line."""
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = next(said for said in running.stderr if said.startswith(line))
        try:
            running.send_signal(signal.SIGINT)
            after = running.communicate()[1]
            assert "Traceback" not in after
            assert after.splitlines()[-1:] == ["interrupted"]
        finally:
            running.kill()
        return running.returncode, [int(word) for word in said.split() if word.isdecimal()]


@pytest.mark.parametrize("command", ["profile", "recommend"])
def test_ctrl_c_ends_a_target_that_never_ends(command: str, folder: Path) -> None:
    """130, while the code of the TARGET loops in its own process; that ends with all it has started."""
    (folder / "t.py").write_text(LOOP, encoding="utf-8")
    code, processes = interrupt_command(folder, *COMMAND, command, "t.py:job")
    assert (code, len(processes)) == (130, 2)
    assert all(map(ends, processes))


def test_ctrl_c_ends_a_later_trace_of_strategy(folder: Path) -> None:
    """130, while a step whose weights another strategy has frozen loops."""
    loop = LOOP.strip().replace("\n", "\n            ")
    late = f"""
class Late(模型):
    def training_step(self, batch, batch_idx):
        if not all(each.requires_grad for each in self.parameters()):
            {loop}
        return super().training_step(batch, batch_idx)

def late():
    return job(Late)
"""
    (folder / "t.py").write_text(TARGET + late, encoding="utf-8")
    code, processes = interrupt_command(folder, *COMMAND, "strategy", "t.py:late")
    assert (code, len(processes)) == (130, 2)
    assert all(map(ends, processes))


def test_ctrl_c_ends_the_demo(tmp_path: Path) -> None:
    """130, also where Lightning ends its training in its own way; no report is written."""
    assert interrupt_command(tmp_path, *COMMAND, "demo", line="demo: training")[0] == 130
    assert not list(tmp_path.glob("trainfare-report.*"))


def test_ctrl_c_ends_a_command_whose_threads_wait(folder: Path) -> None:
    """130 without the threads, which wait for ever: as `prices update` may for a network."""
    text = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from trainfare.cli.interrupt import end_soon_on_interrupt
end_soon_on_interrupt()
with ThreadPoolExecutor() as threads:
    waiting = threads.submit(threading.Event().wait)
    sys.stderr.write("here\\n")
    waiting.result()
"""
    assert interrupt_command(folder, sys.executable, "-c", text)[0] == 130


@pytest.mark.skipif(sys.platform != "linux", reason="the library call is that of Linux")
def test_ctrl_c_ends_a_command_that_is_inside_a_library() -> None:
    """130, though another thread gets the signal and the main thread never comes to run its handler."""
    text = """
import ctypes, signal, sys
from trainfare.cli.interrupt import end_soon_on_interrupt
end_soon_on_interrupt()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
library.pthread_mutex_lock(mutex)
while True:
    try:
        sys.stderr.write("here\\n")
        library.pthread_mutex_lock(mutex)  # for ever
    except KeyboardInterrupt:
        pass  # it came before the call
"""
    assert interrupt_command(Path(), sys.executable, "-c", text)[0] == 130


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(HANG_S)
        yield server


@pytest.mark.parametrize(
    "arguments",
    [
        ("prices", "update", "--provider", "azure"),
        ("prices", "quotas", "--provider", "aws"),
        ("comment", "job.json"),
    ],
    ids=["update", "quotas", "comment"],
)
def test_ctrl_c_ends_a_command_without_an_answer(
    arguments: tuple[str, ...], silent: socket.socket, folder: Path
) -> None:
    """130 while a proxy or a server is silent; no price file is written."""
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    cache = folder / "prices"
    cache.mkdir()
    host: Any = SimpleNamespace(url=url)
    settings: Mapping[str, str] = {
        "HTTPS_PROXY": url, "https_proxy": url, "TRAINFARE_PRICE_CACHE": str(cache),
        **aws_environment(url), **github_environment(host, folder / "runner"),
    }  # fmt: skip
    command = [*COMMAND, *arguments]
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, env={**os.environ, **settings}
    ) as running:
        connection, _ = silent.accept()
        running.send_signal(signal.SIGINT)
        try:
            _, said = running.communicate(timeout=HANG_S)
        finally:
            running.kill()
        connection.close()
    assert running.returncode == 130
    assert b"Traceback" not in said
    assert {path.suffix for path in cache.iterdir()} <= {".lock"}
