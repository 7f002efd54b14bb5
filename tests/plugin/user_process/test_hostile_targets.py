"""Whatever the code of a TARGET does, the command decides how it ends: never with 0 or 1 on the code's behalf."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.cli import CliResult, capture_main, run_cli
from builders.processes import ends
from builders.profiles import profile
from trainfare.job import load_job
from trainfare_core.errors import TargetError

HONEST = """
import torch
from trainfare import TrainingJob

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def job(module=Net, **fields):
    return TrainingJob(module=module, batch=lambda: torch.zeros(4, 8), batch_size=4, max_steps=10**6, **fields)
"""
TOP = Path(__file__).parents[3]
OVER = ("--max-usd", "0.000001")
"""A budget that the honest job exceeds: the verdict is 1."""


def run(folder: Path, *arguments: str, **settings: str) -> CliResult:
    """Run a command on real pipes, as a CI job does."""
    return run_cli(*arguments, cwd=folder, environment=settings)


Command = Callable[..., CliResult]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process; the code of its TARGET runs in one of its own all the same."""

    def run_in(folder: Path, *arguments: str) -> CliResult:
        monkeypatch.chdir(folder)
        return capture_main(capsys, *arguments)

    return run_in


def script(folder: Path, text: str) -> Path:
    (folder / "t.py").write_text(text, encoding="utf-8")
    return folder


BEFORE_A_JOB = {
    "exits": ("import os; os._exit(0)", "ended its process with exit code 0"),
    "exits when an attribute is read": (
        ("import os, sys\njob = None\nsys.modules[__name__].__class__ = type('M', (type(sys),), "
        "{'__getattribute__': lambda self, name: os._exit(0) if name == 'job' else object.__getattribute__(self, name)})"),
        "ended its process with exit code 0",
    ),
    "raises SystemExit": ("raise SystemExit(0)", "raised SystemExit: 0 at t.py:1"),
    "raises a BaseException of its own": ("class Stop(BaseException): pass\nraise Stop('now')", "raised Stop: now at t.py:2"),
    "raises GeneratorExit": ("raise GeneratorExit", "raised GeneratorExit at t.py:1"),
    "raises KeyboardInterrupt": ("raise KeyboardInterrupt", "raised KeyboardInterrupt at t.py:1"),
    "raises what cannot be printed": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        "raised Mute: its message cannot be read at t.py:3",
    ),
    "recurses without end": ("def f(): f()\nf()", "raised RecursionError"),
    "runs out of memory": ("x = bytearray(2**50)", "raised MemoryError at t.py:1"),
    "is ended by its own alarm": (
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nwhile True: pass",
        "was ended by SIGALRM",
    ),
    "becomes another program": ("import os\nos.execv('/bin/true', ['true'])", "ended its process with exit code 0"),
    "exits in a thread": (
        "import os, threading\nthreading.Thread(target=os._exit, args=(0,)).start()\nthreading.Event().wait()",
        "ended its process with exit code 0",
    ),
    "exits in the call": ("import os\ndef job(): os._exit(0)", "ended its process with exit code 0"),
    "exits when its job is looked at": (
        "import os\nclass Job:\n    __class__ = property(lambda _: os._exit(0))\njob = Job",
        "ended its process with exit code 0",
    ),
    "leaves a daemon with its pipes": (
        "import os, signal\nif os.fork() == 0:\n    os.setsid()\n    signal.alarm(9)\n    signal.pause()\nos._exit(0)",
        "ended its process with exit code 0",
    ),
    "aborts": ("import os; os.abort()", "was ended by SIGABRT"),
    "reads memory that is not its own": ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV"),
    "raises words of ours": (
        "raise SystemExit('\\nerror: x\\npassed: 1 of 1 jobs pass; exit code 0')", "raised SystemExit: error: x passed: 1 of"
    ),
    "raises a command to the runner": ("raise ValueError('\\r::set-env name=PATH::x')", "raised ValueError: ::set-env name=PATH::x at t.py:1"),
    "raises without a hook of errors": (
        "import sys\nsys.excepthook = sys.stderr = None\nraise ValueError('now')", "raised ValueError: now at t.py:3"
    ),
    "has no file left": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))\nopen('x')", "Too many open files"
    ),
    "breaks the import system": ("import builtins\nbuiltins.__import__ = None\nimport os", "raised TypeError"),
    "deletes itself": ("import os\nos.remove(__file__)\nraise ValueError('gone')", "raised ValueError: gone"),
    "answers without end": (
        "import os\nwhile True:\n    for n in range(3, 20):\n        try: os.write(n, b'x' * 65536)\n        except OSError: pass",
        "answered with something else than a result",
    ),
    "kills its group": ("import os\nos.killpg(0, 9)", "was ended by SIGKILL, as the system"),
    "closes every pipe and ends": ("import os\nos.closerange(0, 99)\nos._exit(1)", "exit code 1"),
    "answers in the place of its process": (
        ("import os\nfor n in range(3, 20):\n    try: os.write(n, b'{\"verdict\": \"within\"}\\n')\n"
        "    except OSError: pass\nos._exit(0)"),
        "answered with something else than a result",
    ),
    "gives an empty profile": (
        ("import os\nfor n in range(3, 20):\n    try: os.write(n, b'{\"kind\": \"job\", \"job\": {\"precision\": \"32-true\", "
        "\"train_samples\": null, \"tokens_per_sample\": null}}\\n{\"kind\": \"profile\", \"body_bytes\": 2}\\n{}')\n"
        "    except OSError: pass\nos._exit(0)"),
        "gave a result that is none",
    ),
}  # fmt: skip


NOT_PYTHON = {
    "null bytes": (b"x = 1\n\x00\n", "null bytes"),
    "no UTF-8": (b'x = "\xff"\n', "'utf-8' codec can't decode byte 0xff"),
    "tabs and spaces": (b"def job():\n\tif 1:\n        pass\n", "raised TabError"),
}


@pytest.mark.parametrize("name", NOT_PYTHON)
def test_a_file_that_is_no_python_is_one_line(name: str, tmp_path: Path) -> None:
    """The message has the line where the parser knows it, and says nothing of it where it does not."""
    text, message = NOT_PYTHON[name]
    (tmp_path / "t.py").write_bytes(text)
    with pytest.raises(TargetError) as stop:
        load_job(f"{tmp_path / 't.py'}:job")
    assert message in str(stop.value)
    assert "None" not in str(stop.value)


@pytest.mark.parametrize("name", BEFORE_A_JOB)
def test_code_that_gives_no_job_is_one_line_and_2(name: str, command: Command, tmp_path: Path) -> None:
    """It ends its process, or raises anything at all, while it is imported."""
    text, message = BEFORE_A_JOB[name]
    done = command(script(tmp_path, text), "check", "t.py:job", *OVER)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        done.stderr.splitlines()[-1]
    ]


REPLACES_OURS = {
    "modules of ours": "import sys\nfor name in list(sys.modules):\n    if name.startswith('trainfare'): sys.modules[name] = None",
    "builtins": "import builtins\nbuiltins.isinstance = lambda *_: True\nbuiltins.getattr = None",
    "the writer of JSON": "import json, pydantic\npydantic.BaseModel.model_dump_json = lambda *_, **__: '{}'",
}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        *((("check", *OVER), name) for name in REPLACES_OURS),
        *(((subcommand,), "modules of ours") for subcommand in ("profile", "recommend", "strategy")),
    ],
)
def test_code_that_replaces_ours_is_no_verdict(
    arguments: tuple[str, ...], name: str, command: Command, tmp_path: Path
) -> None:
    """What is replaced is replaced in the process of the code alone: one line, bad input or a defect."""
    folder = script(tmp_path, f"{REPLACES_OURS[name]}\njob = lambda: 5\n")
    done = command(folder, arguments[0], "t.py:job", *arguments[1:])
    assert done.exit_code in (2, 4), done.stderr
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("while True: pass", ("--target-seconds", "0.5"), "no answer within 0.5 s and was stopped"),
        ("import threading\nthreading.Event().wait()", ("--target-seconds", "0.5"), "no answer within 0.5 s"),
        ("while True: print('x' * 10**6)", ("--target-seconds", "1"), "no answer within 1 s"),
        ("while True: pass", ("--target-cpu-seconds", "1"), "ended by SIGXCPU after 1 s of CPU"),
        ("import os\nos.kill(os.getpid(), 19)", ("--target-seconds", "1"), "no answer within 1 s"),
        (
            "import signal\nfor number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\nwhile True: pass",
            ("--target-seconds", "1"),
            "no answer within 1 s",
        ),
    ],
    ids=["endless loop", "waits for ever", "prints for ever", "CPU time", "stops itself", "ignores signals"],
)
def test_code_that_never_ends_is_stopped(
    text: str, settings: tuple[str, str], message: str, command: Command, tmp_path: Path
) -> None:
    """The limits are options, and the message names the one to raise."""
    done = command(script(tmp_path, text), "check", "t.py:job", *OVER, *settings)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr
    assert settings[0] in done.stderr
    assert len(done.stderr) < 2**20 + 2000


@pytest.mark.parametrize("limit", ["nan", "0", "abc"])
@pytest.mark.parametrize("option", ["--target-seconds", "--target-memory-gib"])
def test_a_limit_that_is_none_is_bad_usage(option: str, limit: str, command: Command, tmp_path: Path) -> None:
    """NaN would be no limit at all."""
    done = command(script(tmp_path, "raise KeyError"), "profile", "t.py:job", option, limit)
    assert done.exit_code == 2
    assert option in done.stderr
    assert "KeyError" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_memory_is_limited(tmp_path: Path) -> None:
    """An allocation past the limit fails in the code, also one that the machine could serve."""
    done = run(
        script(tmp_path, "x = bytearray(2**31)"),
        "check",
        "t.py:job",
        *OVER,
        TRAINFARE_TARGET_MEMORY_GIB="2",
    )
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert "raised MemoryError at t.py:1" in done.stderr


@pytest.mark.own_start
@pytest.mark.parametrize(
    "error", ["ImportError('libcublasLt.so.12: failed to map segment')", "MemoryError()"]
)
def test_a_torch_that_cannot_be_loaded_is_no_defect_of_trainfare(error: str, tmp_path: Path) -> None:
    """With CUDA its libraries alone take 0.6 GiB: within less, or damaged, it is one line and 2."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(f"raise {error}", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run(script(tmp_path, HONEST), "check", "t.py:job", *OVER, PYTHONPATH=path)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert f"error: torch cannot be loaded: {error[:11]}" in done.stderr
    assert "--target-memory-gib" in done.stderr


AFTER_A_JOB = """
import atexit, os, subprocess, sys, threading
atexit.register(os._exit, 0)
threading.Thread(target=threading.Event().wait).start()
print('{"verdict": "within"}')
os.write(1, b'\\xff\\x1b[31mred\\x1b]0;title\\x07\\n')
subprocess.run([sys.executable, "-c", "print('a grandchild')"])
sleeper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("the pid is", sleeper.pid)
"""


def test_the_honest_verdict_stands_whatever_runs_beside_it(tmp_path: Path) -> None:
    """Exit handlers, threads, children and forged output change nothing: 1, one JSON document, and no process left."""
    done = run(script(tmp_path, HONEST + AFTER_A_JOB), "check", "t.py:job", *OVER, "--format", "json")
    assert done.exit_code == 1, done.stderr
    assert json.loads(done.stdout)["verdict"] == "over"
    for printed in ('{"verdict": "within"}', "a grandchild", "\ufffdred\n"):
        assert printed in done.stderr
    assert "\x1b" not in done.stderr
    assert ends(int(done.stderr.partition("the pid is ")[2].split()[0]))


@pytest.mark.parametrize(
    "command",
    [
        ("profile", "t.py:job"),
        ("recommend", "t.py:job", "--limit", "2", "--format", "json"),
        ("predict", "t.py:job", "--on", "H100-SXM-80GB", "--format", "json"),
        ("strategy", "t.py:job", "--format", "json"),
    ],
    ids=lambda command: command[0],
)
def test_json_on_standard_output_is_one_document(command: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever the code prints, and however: in its module, in its step, by a child of its own."""
    noisy = HONEST.replace(
        "        return self.layer", "        print('{\"step\": 1}')\n        return self.layer"
    )
    done = run(script(tmp_path, noisy + AFTER_A_JOB), *command)
    assert done.exit_code in (0, 3), done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stderr.count('{"step": 1}') >= 1
    assert "a grandchild" in done.stderr
    assert "\x1b" not in done.stderr
    assert ends(int(done.stderr.partition("the pid is ")[2].split()[0]))


@pytest.mark.parametrize("arguments", [("check", *OVER), ("profile",), ("recommend",), ("strategy",)])
def test_an_error_inside_torch_is_one_message(
    arguments: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    """A shape error in the step is exit 3, without the traceback that torch logs."""
    text = HONEST.replace("torch.zeros(4, 8)", "torch.zeros(4, 9)")
    done = command(script(tmp_path, text), arguments[0], "t.py:job", *arguments[1:])
    assert done.exit_code == 3, done.stderr
    assert bool(done.stdout) == ("strategy" in arguments)  # which says it of each strategy
    assert "Traceback" not in done.stderr
    assert "t.py:10 in training_step" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("profile",), ("recommend",), ("strategy",), ("predict", "--on", "H100-SXM-80GB")]
)
def test_every_command_runs_the_code_elsewhere(
    arguments: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    """`os._exit(0)` in a TARGET is 2 and one line in each of them."""
    done = command(script(tmp_path, "import os; os._exit(0)"), *arguments, "t.py:job")
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert done.stderr.endswith("error: t.py:job gave no job: it ended its process with exit code 0\n")


IN_EVERY_COMMAND: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "never ends": ("while True: pass", "no answer within", ("--target-seconds", "0.5")),
    "waits for ever": (
        "import threading\nthreading.Event().wait()",
        "no answer within",
        ("--target-seconds", "0.5"),
    ),
    "uses more CPU than it may": ("while True: pass", "ended by SIGXCPU", ("--target-cpu-seconds", "1")),
    **{
        name: (*BEFORE_A_JOB[name], ())
        for name in ("raises a BaseException of its own", "runs out of memory", "is ended by its own alarm")
    },
}


@pytest.mark.parametrize("name", IN_EVERY_COMMAND)
@pytest.mark.parametrize("subcommand", ["profile", "recommend", "strategy"])
def test_every_command_survives_the_code(
    name: str, subcommand: str, command: Command, tmp_path: Path
) -> None:
    """What `check` is tested with above, in the commands that take their job in the same way."""
    text, message, limit = IN_EVERY_COMMAND[name]
    done = command(script(tmp_path, text), subcommand, "t.py:job", *limit)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_base_of_a_check_is_never_run(command: Command, tmp_path: Path) -> None:
    """`--base` takes a profile: code in its place is refused, not run in the process of the command."""
    (tmp_path / "job.json").write_text(profile().to_json(), encoding="utf-8")
    folder = script(tmp_path, "import os; os._exit(0)")
    done = command(folder, "check", "job.json", "--max-usd", "1e9", "--base", "t.py:job")
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert "not its code: write it with: trainfare profile TARGET -o base.json" in done.stderr


@pytest.mark.sources
def test_one_module_of_the_command_line_reads_jobs() -> None:
    """`cli/target.py`, which starts a process for code, and `base.py` and `ledger.py`, which read files of profiles alone."""
    readers = r"\b(?:load_job|load_profile|read_profile|trace_job|trace_changed|tracer_of)\b"
    modules = (TOP / "plugin" / "trainfare" / "cli").glob("*.py")
    match = {path.name for path in modules if re.search(readers, path.read_text(encoding="utf-8"))}
    assert match == {"base.py", "ledger.py", "target.py"}


def test_an_exit_in_a_later_trace_of_strategy_is_no_answer(command: Command, tmp_path: Path) -> None:
    """The step as it is has been traced when the module exits, with weights that another strategy has frozen."""
    late = """
import os
class Late(Net):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(8, 8)
    def training_step(self, batch, batch_idx):
        if not all(each.requires_grad for each in self.parameters()):
            os._exit(0)
        print("traced as it is")
        return self.layer(self.body(batch)).mean()
def late():
    return job(Late)
"""
    done = command(script(tmp_path, HONEST + late), "strategy", "t.py:late")
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert "traced as it is" in done.stderr
    assert (
        done.stderr.splitlines()[-1] == "error: t.py:late gave no job: it ended its process with exit code 0"
    )


@pytest.mark.own_start
def test_the_process_ends_with_the_command(tmp_path: Path) -> None:
    """A command that is killed leaves no process of the code behind."""
    text = "import os\nprint(os.getpid(), flush=True)\nwhile True: pass\n"
    command = [sys.executable, "-m", "trainfare", "profile", "t.py:job"]
    with subprocess.Popen(command, cwd=script(tmp_path, text), stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        started = int(running.stderr.readline())
        running.send_signal(signal.SIGKILL)
        assert ends(started)
