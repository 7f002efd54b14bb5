"""Bounded reads and whole-file writes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainfare_core.errors import InputError, ProfileError
from trainfare_providers.disk.files import read_at_most, read_input, write_text


def test_a_file_at_the_limit_is_read_whole(tmp_path: Path) -> None:
    """The limit itself is allowed, one byte more is not, and the error has the class and words asked for."""
    path = tmp_path / "job.json"
    path.write_bytes(b"x" * 2**20)
    assert len(read_input(path, 2**20, kind="a job profile")) == 2**20
    path.write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(ProfileError, match=r"the file .*job\.json: larger than 1 MiB: not a job profile"):
        read_input(path, 2**20, kind="a job profile", label="the file ", error=ProfileError)


def test_a_missing_file_is_an_error_with_the_hint(tmp_path: Path) -> None:
    """The system's reason and what to do, not a traceback."""
    with pytest.raises(InputError, match=r"none: cannot be read: No such file or directory; write one"):
        read_input(tmp_path / "none", 10, kind="a list", hint="; write one")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    """A pipe may have no writer, and a device no end."""
    pipe = tmp_path / "job.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(
            ProfileError, match=r"the file .*: a pipe or a device, not a job profile; write one"
        ):
            read_input(
                path, 10, kind="a job profile", label="the file ", hint="; write one", error=ProfileError
            )


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="this system has no /dev/fd")
def test_the_output_of_a_command_in_place_of_a_file_is_read() -> None:
    """A shell puts `/dev/fd/63` in place of `<(command)`."""
    reader, writer = os.pipe()
    os.write(writer, b"{}")
    os.close(writer)
    assert read_input(Path(f"/dev/fd/{reader}"), 10, kind="a job profile") == b"{}"
    os.close(reader)


def test_a_stream_is_not_read_past_the_limit() -> None:
    """Standard input may have no end: at most one byte more than the limit is taken from it."""
    stream = io.BytesIO(bytes(3 * 2**20))
    with pytest.raises(InputError, match="-: larger than 1 MiB"):
        read_at_most(stream, 2**20, name="-", kind="a job profile")
    assert stream.tell() == 2**20 + 1


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from trainfare_providers.disk.files import write_text
from trainfare_core.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path(sys.argv[1]), "y" * 5000)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """When a write fails half way the old content stays, no leftovers remain, and the error is ours."""
    target = tmp_path / "report.json"
    target.write_text("old", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(target)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be replaced elsewhere")
def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Who has the file open while it is replaced reads the old content to its end, not a mixture."""
    target = tmp_path / "report.json"
    write_text(target, "old" * 10_000)
    with target.open(encoding="utf-8") as reader:
        assert reader.read(3) == "old"
        write_text(target, "new")
        assert reader.read() == "old" * 9_999
    assert target.read_text(encoding="utf-8") == "new"


@pytest.mark.skipif(os.name != "posix", reason="permission bits of POSIX")
def test_a_report_has_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    """The page can be read by whom the user's umask lets read, unlike a private temporary file."""
    plain = tmp_path / "plain"
    plain.write_text("", encoding="utf-8")
    write_text(tmp_path / "ours", "text")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode
