"""A function is called once a module is imported: at once, later, or at the end of an import that has begun."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from trainfare.job.on_import import on_import

MODULES = ("half_loaded", "loaded_within")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[contextlib.ExitStack]:
    """A stack of the test; what `loaded_within` calls waits on it."""
    monkeypatch.syspath_prepend(tmp_path)
    with contextlib.ExitStack() as stack:
        yield stack
    for name in MODULES:
        sys.modules.pop(name, None)


def write_modules(folder: Path, end: str = "Name = 1\n") -> None:
    """Write a module that imports another one before it has its name, as Fabric's imports torch."""
    (folder / "half_loaded.py").write_text(f"import loaded_within\n{end}", encoding="utf-8")
    (folder / "loaded_within.py").write_text("", encoding="utf-8")


def read_name() -> object:
    return getattr(sys.modules["half_loaded"], "Name", "none yet")


def wait_within(stack: contextlib.ExitStack, found: list[object]) -> None:
    """Wait for the module from inside of its own import, as a loop does that begins with that of torch."""
    stack.enter_context(
        on_import(
            "loaded_within",
            lambda: stack.enter_context(on_import("half_loaded", lambda: found.append(read_name()))),
        )
    )


@pytest.mark.parametrize("waiting", [1, 2])
def test_an_import_that_has_begun_is_waited_for(
    waiting: int, tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    write_modules(tmp_path)
    found: list[object] = []
    for _ in range(waiting):
        wait_within(stack, found)
    module = import_module("half_loaded")
    assert found == [1] * waiting
    assert module.__spec__ is not None
    assert type(module.__spec__).__dict__.get("_initializing") is None, "the spec is as it was"


def test_an_import_that_fails_is_none(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """The next one counts, from its begin to its end."""
    write_modules(tmp_path, "raise OSError('no file')\n")
    found: list[object] = []
    wait_within(stack, found)
    with pytest.raises(OSError, match="no file"):
        import_module("half_loaded")
    assert found == []
    write_modules(tmp_path, "the_file = 'is here'\nName = 2\n")
    import_module("half_loaded")
    assert found == [2]


def test_nothing_is_called_after_the_block(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    write_modules(tmp_path, "import close_it\nclose_it.stack.close()\nName = 1\n")
    found: list[object] = []
    wait_within(stack, found)
    close_it = type(sys)("close_it")
    vars(close_it)["stack"] = stack
    sys.modules["close_it"] = close_it
    try:
        import_module("half_loaded")
    finally:
        del sys.modules["close_it"]
    assert found == []


def test_a_module_that_is_imported_counts_at_once_and_another_later(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    write_modules(tmp_path)
    found: list[object] = []
    with on_import("half_loaded", lambda: found.append(read_name())):
        assert found == []
        import_module("half_loaded")
        assert found == [1]
    with on_import("half_loaded", lambda: found.append(read_name())):
        assert found == [1, 1]
