"""Every reader is fuzzed, and what fuzzing has tried stays readable or refused; `python -m fuzz.run` tries more."""

from __future__ import annotations

import ast
import importlib
import json
import logging
import re
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType

import pytest

from fuzz.run import RESULTS, Outcome
from fuzz.target import Target, refusal
from fuzz.targets import CORPORA, TARGETS, inputs_of
from trainfare_core.errors import InputError, InternalError

TOP = Path(__file__).parents[2]
READS = re.compile(
    r"\b(json\.loads|(model_)?validate_json|tomllib\.loads|yaml\.(parse|safe_load)|csv\.(reader|DictReader)|"
    r"read_parquet|read_ipc_stream|parse_json|ast\.parse|zlib\.decompress(obj)?)\("
)
"""A call of a parser."""
ROOTS = ("core", "plugin", "providers")
OWN_DATA = {
    "trainfare/script/frame_values.py": "the source of a script, in the process that runs it",
    "trainfare/plain_loop/loop_writer.py": "the source of a script, in the process that runs it",
    "trainfare_core/batch_scaling/prior.py": "a table in the wheel",
    "trainfare_core/installation.py": "what pip has written of this installation",
    "trainfare/ledger/bucket.py": "orders to a process of its own",
    "trainfare/prices/apart.py": "questions and replies between two processes of its own",
    "trainfare/huggingface/run_facts.py": "a configuration of DeepSpeed, in the process that runs the script",
    "trainfare/trace/kinds.py": "a table in the wheel",
    "trainfare/lightning/script/made_up_source.py": "the source of a script, in the process that runs it",
    "trainfare/lightning/strategy_arguments.py": "a configuration of DeepSpeed, in the process that runs the script",
    "trainfare/pull_request/workflow.py": "a table in the wheel",
    "trainfare/script/imported_packages.py": "the source of a script that was traced before",
    "trainfare/script/unsuited.py": "the source of a script, before it runs",
    "trainfare/script/fit_calls.py": "the source of a script, in the process that runs it",
    "trainfare/user_process/passes.py": "how a pass of its own ended",
    "trainfare/user_process/child.py": "requests of the command that started it",
    "trainfare_core/changes/change_range.py": "a table in the wheel",
    "trainfare_core/decline/claims.py": "a table in the wheel",
    "trainfare_core/hardware/accelerator_rows.py": "a table in the wheel",
    "trainfare_core/prices/age_doubt.py": "a table in the wheel",
    "trainfare_core/run_cost_facts/facts.py": "a table in the wheel",
    "trainfare_core/prediction/language_models/coefficients.py": "a table in the wheel",
    "trainfare_core/prediction/distance.py": "a table in the wheel",
    "trainfare_core/prediction/memory/calibrated.py": "a table in the wheel",
    "trainfare_core/prediction/network/collectives.py": "a table in the wheel",
    "trainfare_core/prediction/roofline/coefficients.py": "a table in the wheel",
    "trainfare_providers/disk/foreign_parquet.py": "rows from a process of its own, which reads them as shared_book does",
    "trainfare_providers/machine_types.py": "a table in the wheel",
    "trainfare_providers/snapshot/__init__.py": "a table in the wheel, read as any Parquet file by price_rows' reader",
}
"""Modules with a parser that reads nothing from outside, and what they read."""
OWN_FUNCTION = "data_rows"
"""Of a module that also reads from outside: it reads the tables in the wheel, once a process."""


@pytest.fixture(autouse=True)
def quiet() -> Generator[None, None, None]:
    """A file that is set aside is logged as a warning, here and in no other test less."""
    logger = logging.getLogger("trainfare")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def readers(module: Path) -> set[tuple[str, str]]:
    """Return the functions of a module in which a parser is called: file and name."""
    text = module.read_text(encoding="utf-8")
    calls = [
        number for number, line in enumerate(text.split("\n"), 1) if READS.search(line) and "def " not in line
    ]
    found: set[tuple[str, str]] = set()
    for call in calls:
        around = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and node.lineno <= call <= (node.end_lineno or 0)
        ]
        if around:  # what a module reads while it is imported is a table beside it
            found.add((str(module), max(around, key=lambda node: node.lineno).name))
    return found


@contextmanager
def collect_called() -> Generator[set[tuple[str, str]], None, None]:
    """Collect the functions that run: file and name."""
    found: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            found.add((frame.f_code.co_filename, frame.f_code.co_name))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("name", TARGETS)
def test_known_inputs_are_read_or_refused(name: str) -> None:
    """
    Seeds, and what fuzzing has kept: a document or an error of ours; some are documents, and some are not.

    They reach every reader of the target's modules.
    """
    target = TARGETS[name]
    with collect_called() as functions:
        read = {label: refusal(target, data) is None for label, data in inputs_of(target)}
    assert any(read.values()), "no input is a document: the target tests nothing"
    for module in target.modules:
        package, _, inside = module.partition("/")
        (folder,) = importlib.import_module(package).__path__
        unread = {
            reader for reader in readers(Path(folder) / inside) - functions if reader[1] != OWN_FUNCTION
        }
        assert unread == set()
    for data in (b"", b"\x00", b"\xff\xfe", b"[" * 5000, b"= " * 3000):
        refusal(target, data)


@pytest.mark.parametrize("name", TARGETS)
def test_corpora_are_small(name: str) -> None:
    """Each target has one; replaying them is quick, and a clone of the repository stays small."""
    sizes = [path.stat().st_size for path in (CORPORA / name).glob("*")]
    assert sizes
    assert sum(sizes) < 40 * 2**10  # about a megabyte for all
    assert {path.name for path in CORPORA.iterdir()} == set(TARGETS)


@pytest.mark.sources
def test_every_parser_has_a_target() -> None:
    """A module that parses JSON, TOML, YAML, CSV or Parquet is named by a target, or reads our own data only."""
    named = {module for target in TARGETS.values() for module in target.modules}
    parsers: set[str] = set()
    for root in ROOTS:
        for path in (TOP / root).rglob("*.py"):
            if readers(path):
                parsers.add(path.relative_to(TOP / root).as_posix())
    assert parsers - named - set(OWN_DATA) == set()
    assert set(OWN_DATA) - parsers == set()
    for module in named:
        assert any((TOP / root / module).is_file() for root in ROOTS), module


@pytest.mark.sources
def test_published_runs_are_of_targets_that_exist() -> None:
    """What `tests/evidence/fuzz.json` says, the runner wrote."""
    published = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert published == sorted(published, key=lambda one: one["target"])
    assert {one["target"] for one in published} <= set(TARGETS)
    assert all(set(one) == {field.name for field in fields(Outcome)} for one in published)


def plant_error(error: BaseException) -> Target:
    def read(_data: bytes) -> None:
        raise error

    return Target("planted", read, lambda: [b"x"], "bytes", ())


def test_what_is_no_error_of_ours_is_a_finding() -> None:
    """Other exceptions, our own "this is a defect", warnings, and errors that say nothing."""
    assert str(refusal(plant_error(InputError("no such thing")), b"")) == "no such thing"
    for error in (KeyError("x"), InternalError("x"), RecursionError(), SystemExit(0), MemoryError()):
        with pytest.raises(type(error)):
            refusal(plant_error(error), b"")
    with pytest.raises(AssertionError, match="without a message"):
        refusal(plant_error(InputError("")), b"")

    def warns(_data: bytes) -> None:
        warnings.warn("overflow", RuntimeWarning, stacklevel=1)

    with pytest.raises(RuntimeWarning):
        refusal(Target("planted", warns, lambda: [b"x"], "bytes", ()), b"")
