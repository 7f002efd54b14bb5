"""Where a job is defined, found without running its code."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from trainfare.policy import place_of
from trainfare_core.policy.check import SourcePlace

SOURCE = '''\
raise SystemExit("never run")
from jobs import imported as other


def first():
    def job():
        """Not this one."""


@decorator
def job():
    pass


class Jobs:
    @staticmethod
    def large():
        pass


try:
    import fast
except ImportError:

    def in_try():
        pass
else:
    assigned = lambda: None
    annotated: object = None

if fast:
    def twice(): ...
else:
    def twice(): ...
'''


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("job", 11),
        ("first", 5),
        ("Jobs", 15),
        ("Jobs.large", 17),
        ("other", 2),
        ("in_try", 25),
        ("assigned", 28),
        ("annotated", 29),
        ("twice", 34),
        ("missing", 1),
        ("Jobs.missing", 15),
    ],
)
def test_the_line_of_a_callable(name: str, line: int, tmp_path: Path) -> None:
    """Functions, methods, assignments and imports at the top of the module, the last of several; else its first line."""
    (tmp_path / "train.py").write_text(SOURCE, encoding="utf-8")
    assert place_of(f"train.py:{name}", tmp_path) == SourcePlace(path="train.py", line=line)


def test_paths_count_from_the_repository(tmp_path: Path) -> None:
    """Code hosts know files by their path in the repository, wherever the command runs."""
    inner = tmp_path / "jobs" / "vision"
    inner.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (inner / "train.py").write_text("def job(): ...\n", encoding="utf-8")
    (inner / "job.json").write_text("{}", encoding="utf-8")
    expected = SourcePlace(path="jobs/vision/train.py", line=1)
    assert place_of("train.py:job", inner) == expected
    assert place_of("jobs/vision/train.py:job", tmp_path) == expected
    assert place_of("jobs.vision.train:job", tmp_path) == expected
    assert place_of(f"{inner / 'train.py'}:job", tmp_path) == expected
    assert place_of("train.py -- --lr 1:2", inner) == expected
    assert place_of("-m jobs.vision.train -- fit", tmp_path) == expected
    assert place_of("job.json", inner) == SourcePlace(path="jobs/vision/job.json", line=1)


@pytest.mark.parametrize(
    "target",
    ["-", "", ":job", "nowhere.py:job", "no.module:job", "a:b:c", ".:x", "..:x", "x" * 5000 + ".py:job"],
)
def test_no_file_is_no_place(target: str, tmp_path: Path) -> None:
    """What is not there has no line."""
    assert place_of(target, tmp_path) is None


def test_a_file_that_is_not_python_has_its_first_line(tmp_path: Path) -> None:
    """Its error comes with the trace."""
    (tmp_path / "train.py").write_bytes(b"def job(:\n\xff\x00")
    assert place_of("train.py:job", tmp_path) == SourcePlace(path="train.py", line=1)


DEEP = {
    "operands": "x = " + "1+" * 20_000 + "1",
    "signs": "x = " + "-" * 50_000 + "1",
    "attributes": "x = a" + ".b" * 50_000,
    "branches": "if a: pass\n" + "elif a: pass\n" * 3_000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_code_that_is_nested_too_deeply_ends_no_gate(text: str, tmp_path: Path) -> None:
    """How deep is too deep for Python's parser depends on its version: the line of the callable, or the first."""
    (tmp_path / "train.py").write_text(f"{text}\ndef job(): ...\n", encoding="utf-8")
    source_place = place_of("train.py:job", tmp_path)
    assert source_place is not None
    assert source_place.line in (1, text.count("\n") + 2)


def test_a_long_file_is_not_parsed(tmp_path: Path) -> None:
    """A parser takes hundreds of times the memory of the text."""
    for size, line in ((2**19, 2), (2**19 + 1, 1)):
        end = "\ndef job(): ...\n"
        (tmp_path / "train.py").write_text("#" * (size - len(end)) + end, encoding="utf-8")
        assert place_of("train.py:job", tmp_path) == SourcePlace(path="train.py", line=line)


def test_a_warning_of_the_parser_is_not_shown_twice(tmp_path: Path) -> None:
    """The process that runs the code shows it."""
    (tmp_path / "train.py").write_text('text = "\\d"\ndef job(): ...\n', encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert place_of("train.py:job", tmp_path) == SourcePlace(path="train.py", line=2)
