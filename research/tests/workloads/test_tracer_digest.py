"""Traces on disk are used only while the tracer is unchanged: the digest covers all of its code."""

from __future__ import annotations

from pathlib import Path

import pytest

import trainfare.fake_step
import trainfare.lightning
import trainfare.trace
from trainfare_research.workloads.tracer_digest import (
    TRACER_MODULES,
    code_digest,
    tracer_digest,
    tracer_sources,
)

pytestmark = pytest.mark.sources


def test_the_digest_covers_every_file_of_the_tracer() -> None:
    """All of `trace` and `fake_step`, and what of Lightning's loop decides a trace; a package that moves away must not silently drop out of the digest."""
    folders = [Path(module.__path__[0]) for module in (trainfare.trace, trainfare.fake_step)]
    loop = Path(trainfare.lightning.__path__[0])
    of_loop = {path for name in TRACER_MODULES if (path := loop / f"{name.rpartition('.')[2]}.py").exists()}
    assert set(tracer_sources()) == of_loop.union(path for folder in folders for path in folder.rglob("*.py"))
    assert len(tracer_sources()) >= 25
    names = {path.stem for path in tracer_sources()}
    assert {name.rpartition(".")[2] for name in TRACER_MODULES} <= names
    assert {"step_trace", "recorder", "live_memory", "flops", "kinds", "job_trace", "fake_tensors"} <= names


def test_only_executed_code_changes_the_digest() -> None:
    """A reworded docstring or comment keeps the traces; another operator or name does not."""
    plain = code_digest('"""Text."""\n\ndef f(x):\n    """Text."""\n    return x + 1  # why\n')
    assert plain == code_digest('"""Other words."""\ndef f(x):\n    return x + 1\n')
    assert plain != code_digest("def f(x):\n    return x - 1\n")
    assert plain != code_digest("def f(y):\n    return y + 1\n")
    assert plain != code_digest("def f(x):\n    return 'Text.'\n")


def test_a_source_is_parsed_once() -> None:
    """Thousands of rows ask for the digest of the same builder: the second one gets the same object."""
    first, second = ("".join(parts) for parts in (("x = ", "1\n"), ("x =", " 1\n")))
    assert code_digest(first) is code_digest(second)


def test_sources_and_versions_change_the_digest(tmp_path: Path) -> None:
    """Another model builder, or another set of libraries, gives another digest."""
    path, two = tmp_path / "one.py", tmp_path / "two.py"
    path.write_text("x = 1\n", encoding="utf-8")
    two.write_text("x = 2\n", encoding="utf-8")
    digests = {tracer_digest((path,), libraries) for path in (path, two) for libraries in ((), ("torch",))}
    assert len(digests) == 4
