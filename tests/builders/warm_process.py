"""
A Python that has torch and what comes with it in memory: it starts in some milliseconds, by a fork of a server.

    monkeypatch.setattr(sys, "executable", warm_python())     commands start the process of a TARGET so
    run_cli(..., python=warm_python())                        the command itself, and what it starts
    warm_python(LAUNCHED)                                     any program of a launcher that trains, with its loops in memory

`warm_python` is a small program that a process starts like any Python. It hands its arguments, variables, working
folder and standard streams to the server, whose fork does the work in a session of its own, waits for it and ends alike.
Where it is killed, the server kills the fork's group. What the server has not prepared for (another program than a
command or the process of a TARGET, a variable that is read on import) is run by the real Python in its place.

No library of a training loop is in memory beforehand, so a script imports its own as ever. A test whose subject is the
start of a process, its imports, its signals or its limits takes `sys.executable`. With modules that are named besides, as
`LAUNCHED`, every program is a fork, whatever its variables: a script that trains without trainfare cannot tell.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import importlib.util
import io
import multiprocessing.process
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

PRELOADED = (
    "numpy", "torch", "torch._dynamo", "torch._inductor.utils", "torch._subclasses.fake_tensor", "torch.distributed.fsdp",
    "torch.distributed.algorithms.ddp_comm_hooks", "torch.distributed.algorithms.model_averaging.averagers",
    "torch.distributed.checkpoint.state_dict", "torch.distributed.tensor.parallel", "torch.distributed.optim",
    "torch.export", "torch.fx.experimental.symbolic_shapes", "torch.multiprocessing", "torch.nn.parallel", "torch.onnx",
    "torch.testing", "torch.utils.checkpoint", "torch.utils.data", "torch.utils.flop_counter", "torch.utils.hooks",
    "torchvision", "scipy.signal", "scipy.optimize", "scipy.stats", "matplotlib.pyplot",
    "aiohttp", "yaml", "jinja2", "requests", "httpx", "regex", "tqdm.auto",
    "anyio", "filelock", "h11", "tokenizers", "packaging.version", "mpmath",
    "rich.console", "rich.progress", "rich.table", "fsspec",
    "trainfare.cli", "trainfare.user_process.child", "trainfare.user_process.passes",
    "trainfare.fake_step.job_trace", "trainfare.fake_step.user_errors", "trainfare.methods.module_changes",
    "trainfare.script.run", "trainfare.trace.repetition", "trainfare.report",
)  # fmt: skip
"""Modules that take time and behave alike whenever they are imported; without what trainfare waits for, the loops."""
LOOPS = {"lightning", "pytorch_lightning", "transformers", "accelerate", "keras", "trl", "peft", "datasets"}
LAUNCHED = (
    "torch.distributed.launcher.api", "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend",
    "torch.distributed.elastic.agent.server.local_elastic_agent", "torch.distributed.elastic.rendezvous.dynamic_rendezvous",
    "lightning.pytorch", "lightning.fabric", "accelerate", "transformers.trainer", "transformers.models.bert.modeling_bert",
)  # fmt: skip
"""Modules of torchrun, and of scripts that it starts to train."""
READ_ON_IMPORT = (
    "ACCELERATE_", "COVERAGE", "CUDA", "FAKETIME", "GLOO_", "HF_", "JAX_", "KMP_", "LANG", "LC_", "LD_", "MALLOC_",
    "MKL_", "MPL", "NO_COLOR", "NPY_", "NUMEXPR", "NUMBA", "OMP_", "OPENBLAS_", "POLARS_", "PYTHON", "PYTORCH", "SCIPY_",
    "TORCH", "TZ", "USE_", "XDG_",
)  # fmt: skip
"""How names of variables begin that a module may read once, when it is imported; and `HOME`."""
_KNOWN = {"OPENBLAS_NUM_THREADS", "PYTHONPATH", "PYTHONHASHSEED"}
"""Variables that the fork heeds, or needs not heed."""
_STUB = """#!{python} -IS
import _socket, array, posix, sys
call, server = sys.argv[1:], {folder!r} + "/socket"
real = {real!r}
def be_cold():
    posix.execv(real, [real, *call])
if {any_program} and call[:1] == ["-u"]:
    del call[0]  # as torchrun starts a rank
of_target = len(call) > 1 and call[0] == "-c" and "trainfare.user_process.child" in call[1]
if not {any_program} and not of_target and call[:2] != ["-m", "trainfare"]:
    be_cold()
names = set() if {any_program} else {{*{environment!r}.items()}} ^ {{*posix.environ.items()}}
for name, _ in names:
    if name == b"HOME" or name.startswith({prefixes!r}) and name not in {known!r}:
        be_cold()
if not {any_program} and posix.environ.get(b"PYTHONHASHSEED", b"0") != b"0" or of_target is False and b"PYTHONSAFEPATH" in posix.environ:
    be_cold()
try:
    folder = posix.getcwdb()
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    link.connect(server)
except OSError:
    be_cold()
words = [item.encode(errors="surrogateescape") for item in call]
given = b"\\0\\0".join([b"\\0".join(words), b"\\0".join(b"=".join(pair) for pair in posix.environ.items()), folder])
streams = array.array("i", [0, 1, 2]).tobytes()
link.sendmsg([len(given).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
try:
    link.sendall(given)
    taken = link.recv(1)
except OSError:
    taken = b""
if not taken:
    be_cold()
nothing = posix.open("/dev/null", posix.O_RDWR)
for stream in (0, 1, 2):
    posix.dup2(nothing, stream)
end = link.recv(8)
code = int(end or b"-9")
if code < 0:
    import signal
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    posix.kill(posix.getpid(), -code)
posix._exit(code)
"""


@functools.cache
def warm_python(modules: tuple[str, ...] = ()) -> str:
    """Return a Python whose processes are forks of a server, with these modules too; the server ends with this process."""
    if sys.platform != "linux" or any(name.startswith("COVERAGE") for name in os.environ):
        return sys.executable  # other systems' frameworks bear no fork, and what a fork runs is not measured
    folder = Path(tempfile.mkdtemp(prefix="trainfare-warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "socket"))
    listener.listen(64)
    start = (
        f"exec(compile(open({__file__!r}).read(), '<warm process>', 'exec'))"  # no frame is of a user's file
    )
    server = subprocess.Popen(
        [sys.executable, "-c", start, str(folder), str(listener.fileno()), *modules],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()],
        env={
            **os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's, which transformers imports
        },
    )  # fmt: skip
    listener.close()
    atexit.register(server.communicate)
    stub = folder / "python"
    stub.write_text(
        _STUB.format(
            python=Path(sys.executable).resolve(),
            real=sys.executable,
            folder=str(folder),
            any_program=bool(modules),
            environment=dict(os.environb),
            prefixes=tuple(prefix.encode() for prefix in READ_ON_IMPORT),
            known={name.encode() for name in _KNOWN},
        ),
        encoding="utf-8",
    )
    stub.chmod(0o755)
    return str(stub)


class _Server:
    """Forks once for each connection, and passes the end of the fork or of the connection on to the other."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.watch = select.epoll()
        self.links: dict[int, tuple[socket.socket, int]] = {}
        """By descriptor of the connection and of the process: both, the process by its number."""
        self.watched: dict[int, int] = {}
        self.watch.register(self.listener, select.EPOLLIN)
        self.watch.register(0, select.EPOLLHUP | select.EPOLLIN)

    def serve(self) -> tuple[list[str], dict[str, str], str] | None:
        """Serve until the process that started this one ends; in a fork, return what it runs."""
        while True:
            for descriptor, _ in self.watch.poll():
                if descriptor == 0:
                    for _, child in [*self.links.values()]:
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(child, signal.SIGKILL)
                    return None
                if descriptor == self.listener.fileno():
                    given = self.accept()
                    if given is not None:
                        return given
                elif descriptor in self.links:
                    self.end(descriptor)

    def accept(self) -> tuple[list[str], dict[str, str], str] | None:
        """Fork for a new connection; return what it asks for in the fork, and None here."""
        link, _ = self.listener.accept()
        try:
            head, streams, _, _ = socket.recv_fds(link, 8, 3)
            size, body = int.from_bytes(head, "big"), b""
            while len(body) < size:
                body += link.recv(size - len(body)) or sys.exit("a connection broke")
        except OSError:
            link.close()
            return None
        begun, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.write(go, b"1")
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            self.listener.detach(), link.detach()
            call, variables, folder = (os.fsdecode(part) for part in body.split(b"\0\0"))
            pairs = (line.partition("=") for line in variables.split("\0"))
            return call.split("\0"), {name: value for name, _, value in pairs}, folder
        os.read(begun, 1)  # from here on it has a group
        for descriptor in (*streams, begun, go):
            os.close(descriptor)
        process = os.pidfd_open(child)
        with contextlib.suppress(OSError):
            link.sendall(b"+")
        self.links[process] = self.links[link.fileno()] = (link, child)
        self.watched[child] = process
        self.watch.register(process, select.EPOLLIN)
        self.watch.register(link, select.EPOLLIN | select.EPOLLRDHUP)
        return None

    def end(self, descriptor: int) -> None:
        """Tell the connection how the process has ended, or end the process of a connection that has gone."""
        link, child = self.links[descriptor]
        process = self.watched.pop(child)
        if descriptor != process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(OSError):
            link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        del self.links[process], self.links[link.fileno()]
        self.watch.unregister(process)
        self.watch.unregister(link)
        os.close(process)
        link.close()


def _prepare(call: list[str], environment: dict[str, str], folder: str, stub: str) -> None:
    """Make this fork what a new Python would be."""
    os.chdir(folder)
    # Where multiprocessing was imported: its spawned processes look there for the script.
    vars(multiprocessing.process)["ORIGINAL_DIR"] = str(folder)
    os.environ.clear()
    os.environ.update(environment)
    path = [entry for entry in sys.path if entry]
    added = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [folder, *added, *(entry for entry in path if entry not in added)]
    sys.executable = stub
    sys.orig_argv[:] = [stub, *call]
    random.seed()
    tempfile.tempdir = None
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = None
        with contextlib.suppress(OSError):
            os.fstat(number)
            raw: Any = open(number, "rb" if number == 0 else "wb", buffering=-1, closefd=False)  # noqa: SIM115
            errors = "backslashreplace" if number == 2 else "strict"
            stream = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=number == 2 or os.isatty(number))
            stream.mode = "r" if number == 0 else "w"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _is_shadowed(entries: list[str], known: list[str]) -> bool:
    """Return whether a folder that a new Python would look in has a module of its own for one that is in memory."""
    tops = {name.partition(".")[0] for name in PRELOADED}
    return any(
        entry not in known and not tops.isdisjoint(path.stem for path in Path(entry).iterdir())
        for entry in entries
        if entry and Path(entry).is_dir()
    )


def _serve(folder: Path, listener: socket.socket, real: str, modules: list[str]) -> None:
    """Import once somebody asks, serve, and in each fork run what is asked for; called in a process of its own."""
    either: list[Any] = [listener, 0]
    asked, _, _ = select.select(either, [], [])
    if 0 in asked:
        return
    for name in (*PRELOADED, *modules):
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            with contextlib.suppress(Exception):  # who needs it sees why it cannot be imported
                importlib.import_module(name)
    loops = set[str]() if modules else LOOPS & sys.modules.keys()
    threads = [*Path("/proc/self/task").iterdir()]
    assert not loops, f"{loops} are imported, for which trainfare waits"
    assert len(threads) == 1, f"{len(threads)} threads, which a fork would not have"
    gc.collect()
    gc.freeze()
    server = _Server(listener)
    given = server.serve()
    if given is None:
        return
    call, environment, directory = given
    known = list(sys.path)
    _prepare(call, environment, directory, str(folder / "python"))
    if _is_shadowed(call[2:] if call[0] == "-c" else sys.path, known):
        os.execve(real, [real, *call], environment)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv[:] = [call[0], *call[2:]]
    if call[0] == "-c":
        exec(compile(call[1], "<string>", "exec"), main.__dict__)
    elif call[0] == "-m":
        runpy.run_module(call[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv[:] = str(Path(call[0]).resolve().parent), call
        runpy.run_path(call[0], run_name="__main__")


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), sys.executable, sys.argv[3:])
