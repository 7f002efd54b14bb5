"""What a process read, noted by the process itself, and which later change of it makes its trace another one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainfare.user_process.places import Places, places_of
from trainfare.user_process.trace_inputs import LARGEST_FILE_BYTES, States, TraceInputs

WATCHED = """
import sys
from trainfare.user_process.observer import Observer
from trainfare.user_process.places import Places
observer = Observer(Places.model_validate_json(sys.argv[1]))
observer.start()
sys.path.insert(0, "")
exec(compile(open("job.py").read(), "job.py", "exec"))
found = observer.inputs()
print("" if found is None else found.model_dump_json())
"""
JOB = """
import colorsys, importlib, os, pathlib
import sizes, settings.defaults
try:
    import override
except ImportError:
    pass
try:
    importlib.import_module("settings.local")
except ImportError:
    pass
width = open("config.yaml").read()
if os.path.exists("large.yaml"):
    width = 1
length = os.path.getsize("tokens.bin")
classes = sorted(path.name for path in pathlib.Path("classes").iterdir())
mode = os.environ.get("JOB_MODE", "fast")
try:
    open("absent.txt")
except OSError:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    result = tmp_path / "project"
    files = {
        "job.py": JOB,
        "sizes.py": "WIDTH = 4",
        "settings/__init__.py": "",
        "settings/defaults.py": "",
        "config.yaml": "width: 8",
        "tokens.bin": "abcd",
        "classes/cat.txt": "",
        "README.md": "words",
    }
    for name, text in files.items():
        path = result / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return result


def places(folder: Path) -> Places:
    return places_of(sys.path, folder)


def watch_step(
    folder: Path, job: str | None = None, environment: dict[str, str] | None = None
) -> TraceInputs | None:
    """Run a job in a process that notes what it reads."""
    if job is not None:
        (folder / "job.py").write_text(job, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, places(folder).model_dump_json()],
        cwd=folder,
        env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    last = done.stdout.splitlines()[-1]
    return TraceInputs.model_validate_json(last) if last else None


def same(inputs: TraceInputs | None, folder: Path, environment: dict[str, str] | None = None) -> bool:
    assert inputs is not None
    now = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})}
    return inputs.are_unchanged(places(folder), States(), now)


def put(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text, encoding="utf-8")

    return change


CHANGES = {
    "the file of the job": put("job.py", JOB + "\n"),
    "a module beside it": put("sizes.py", "WIDTH = 5"),
    "a module of a package": put("settings/defaults.py", "A = 1"),
    "a file that is read": put("config.yaml", "width: 9"),
    "a file that was not there": put("large.yaml", ""),
    "a file that could not be opened": put("absent.txt", ""),
    "the size of a file that is not opened": put("tokens.bin", "abcdefgh"),
    "a name in a folder that is listed": put("classes/dog.txt", ""),
    "a module that could not be imported": put("override.py", ""),
    "the same, by its name": put("settings/local.py", ""),
    "a module before an installed one": put("colorsys.py", ""),
    "a package for a module": put("sizes/__init__.py", ""),
    "a module that is gone": lambda folder: (folder / "sizes.py").unlink(),
    "metadata of a package of the project": put("project.dist-info/METADATA", ""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_code_read_is_another_trace(folder: Path, change: Callable[[Path], None]) -> None:
    """Each thing that the code looked at counts, also what it did not find."""
    inputs = watch_step(folder)
    assert same(inputs, folder)
    change(folder)
    assert not same(inputs, folder)


def test_what_it_did_not_read_is_not(folder: Path) -> None:
    """Other files beside it change nothing, nor does another place, another time of change or a variable not read."""
    inputs = watch_step(folder)
    put("README.md", "other words")(folder)
    put("other_job.py", "")(folder)
    put("settings/unused.py", "")(folder)
    put("sizes.py", "WIDTH = 4")(folder)
    assert same(inputs, folder, {"OTHER_VARIABLE": "1"})
    elsewhere = folder.parent / "checkout" / "elsewhere"
    shutil.copytree(folder, elsewhere)
    assert same(inputs, elsewhere)
    put("config.yaml", "width: 9")(elsewhere)
    assert not same(inputs, elsewhere)


def test_variables_that_are_read_count_and_are_not_told(folder: Path) -> None:
    """The names of variables are kept, and one digest of all their values."""
    inputs = watch_step(folder, environment={"JOB_MODE": "secret"})
    assert inputs is not None
    assert "JOB_MODE" in inputs.variables
    assert "secret" not in inputs.model_dump_json()
    assert same(inputs, folder, {"JOB_MODE": "secret"})
    assert not same(inputs, folder, {"JOB_MODE": "slow"})
    every = watch_step(folder, "import os\nprint(len({**os.environ}))")
    assert same(every, folder)
    assert not same(every, folder, {"OTHER_VARIABLE": "1"})
    own = watch_step(folder, "import os\nos.environ['JOB_MODE'] = '1'\nos.environ['JOB_MODE']")
    assert same(own, folder)


def test_what_a_job_writes_is_as_it_left_it(folder: Path) -> None:
    """A file that the job made is the same while nobody else changes it, and a temporary one may be gone."""
    job = (
        "import os, tempfile\nopen('made.txt', 'w').write('1')\nopen('made.txt').read()\n"
        "open('gone.txt', 'w').close()\nos.unlink('gone.txt')\n"
    )
    inputs = watch_step(folder, job)
    assert same(inputs, folder)
    put("made.txt", "2")(folder)
    assert not same(inputs, folder)


@pytest.mark.parametrize(
    "job",
    [
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])",
        "import os\nos.system('true')",
        "import polars",
        "import sqlite3\nsqlite3.connect(':memory:')",
        "import os\npid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)",
        f"open('large.bin', 'wb').truncate({LARGEST_FILE_BYTES + 1})",
        "import os\nopen('config.yaml').read()\nos.utime('config.yaml')",
    ],
    ids=["process", "shell", "native reader", "database", "fork", "large file", "changed meanwhile"],
)
def test_what_cannot_be_known_is_never_the_same(folder: Path, job: str) -> None:
    """The result of other programs, of compiled readers and of files that change is not known: traced each time."""
    assert watch_step(folder, job) is None


@pytest.mark.skipif(not Path("/etc/ld.so.cache").exists(), reason="no list of shared libraries here")
def test_the_list_of_shared_libraries_is_a_file(folder: Path) -> None:
    """`find_library`, which torch for CUDA calls where it is imported, reads one file by a program of the system."""
    inputs = watch_step(folder, "import ctypes.util\nctypes.util.find_library('c')")
    assert same(inputs, folder)
    assert inputs is not None
    assert any(file.place.path.endswith("etc/ld.so.cache") for file in inputs.files)
    assert watch_step(folder, "import subprocess\nsubprocess.run(['ldconfig', '-V'])") is None


def test_the_network_cannot_be_known(folder: Path) -> None:
    """A connection may bring anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (
            watch_step(folder, f"import socket\nsocket.create_connection(('127.0.0.1', {port})).close()")
            is None
        )


def test_installed_files_are_read_again_where_their_time_differs(folder: Path, tmp_path: Path) -> None:
    """A package that is installed again has the same content at another time; one that was edited has not."""
    site = tmp_path / "site-packages"
    put("library.py", "A = 1")(site)
    put("job.py", f"import sys\nsys.path.append({str(site)!r})\nimport library")(folder)
    known = places_of([*sys.path, str(site)], folder)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, known.model_dump_json()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    inputs = TraceInputs.model_validate_json(done.stdout.splitlines()[-1])
    now = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    library = [file for file in inputs.files if file.place.path == "library.py"]
    assert library[0].place.folder.startswith("installed")
    os.utime(site / "library.py", (1, 1))
    assert inputs.are_unchanged(known, States(), now)
    put("library.py", "A = 2")(site)
    assert not inputs.are_unchanged(known, States(), now)
