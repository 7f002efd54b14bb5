"""Mutants fit the sources: each can be applied and compiled, and every file of the named packages has some."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

import pytest

from mutants.__main__ import nearest_tests, reaching_tests
from mutants.caught import Caught
from mutants.draws import (
    SLICE,
    DrawnResult,
    add_result,
    mirror_of,
    next_slice,
    read_draws,
    survivors,
    write_draws,
)
from mutants.generate import all_mutants, draw, sample
from mutants.mutant import DRAWN, PACKAGES, TOP, Mutant, files_of, read_written_mutants
from mutants.reach import Reach
from mutants.results import (
    Result,
    equivalents,
    merge_tables,
    read_results,
    result_of,
    results_text,
    scores,
    write_results,
)
from mutants.trial import Copy, cpu_s_of, end_processes_in, wait_for

pytestmark = pytest.mark.sources


def test_each_written_mutant_applies_once_and_names_its_tests() -> None:
    """`read_written_mutants` refuses a text that does not occur once; the tests to run are there."""
    mutants = read_written_mutants()
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        files = [word for word in shlex.split(mutant.tests) if word.endswith(".py")]
        assert files, mutant.name
        assert all((TOP / file).is_file() for file in files), mutant.name


def test_mutants_compile() -> None:
    """A mutant with a syntax error would fail any test, and so would say nothing about the tests that it runs."""
    generated = [
        mutant
        for package in PACKAGES
        for file in files_of(PACKAGES[package])
        for mutant in sample(file, seed=0)
    ]
    for mutant in (*read_written_mutants(), *generated):
        source = (TOP / mutant.file).read_text(encoding="utf-8")
        changed = mutant.apply(source)
        if mutant.file.endswith(".py"):
            compile(changed, mutant.file, "exec")


def only_imports(file: str) -> bool:
    tree = ast.parse((TOP / file).read_text(encoding="utf-8"))
    return all(
        isinstance(one, (ast.Import, ast.ImportFrom, ast.Expr)) or "__all__" in ast.unparse(one)
        for one in tree.body
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_has_mutants(package: str) -> None:
    """By rule, or where a file holds no code that a rule changes, by a person."""
    written = {mutant.file for mutant in read_written_mutants()}
    files = files_of(PACKAGES[package])
    assert files
    for file in files:
        assert only_imports(file) or file in written or sample(file, seed=0), file
    for name in PACKAGES[package].tests:
        assert (TOP / name).exists(), name


def test_a_draw_takes_any_line_of_what_decides() -> None:
    """Of every root, by all kinds of change, one a line, all of which compile; another seed draws others."""
    order = draw(1)
    assert [mutant.name for mutant in order[:SLICE]] == [mutant.name for mutant in draw(1)[:SLICE]]
    assert [mutant.name for mutant in order[:SLICE]] != [mutant.name for mutant in draw(2)[:SLICE]]
    assert {mutant.file.partition("/")[0] for mutant in order[:SLICE]} == {"core", "providers", "plugin"}
    kinds = {mutant.operator for mutant in order}
    assert {"comparison", "opposite comparison", "arithmetic", "number", "smaller number"} < kinds
    assert {"dropped statement", "dropped call", "swapped arguments"} < kinds
    for mutant in order[:SLICE]:
        compile(mutant.apply((TOP / mutant.file).read_text(encoding="utf-8")), mutant.file, "exec")
    for name in (*DRAWN.files, *DRAWN.tests):
        assert (TOP / name).exists(), name


def test_a_draw_goes_on_and_keeps_its_score(tmp_path: Path) -> None:
    """In slices; a mutant tried with its nearest tests alone comes first; what is caught later was not caught."""
    file = "core/trainfare_core/ranking/rank.py"
    source = (TOP / file).read_text(encoding="utf-8")
    order = [
        Mutant(f"m{number}", file, 0, '"', "'", operator="number", seed=5) for number in range(2 * SLICE)
    ]

    def result(mutant: Mutant, *, by: str = "", nearest_only: bool = False) -> Result:
        return result_of(mutant, source, caught=bool(by), by=by, reasons={}, nearest_only=nearest_only)

    known: list[DrawnResult] = []
    assert next_slice(order, 5, known) == order[:SLICE]
    assert next_slice(order, 5, known, most=3) == order[:3]
    for mutant in order[: SLICE - 1]:
        known = add_result(known, 5, result(mutant, by="tests/a.py::b"))
    known = add_result(known, 5, result(order[SLICE - 1], nearest_only=True))
    assert next_slice(order, 5, known) == [order[SLICE - 1]], "the slice is not at its end yet"
    known = add_result(known, 5, result(order[SLICE - 1]))
    assert next_slice(order, 5, known) == order[SLICE:]
    assert survivors(order, 5, known) == [order[SLICE - 1]]
    known = add_result(known, 5, result(order[SLICE - 1], by="tests/new.py::c"))
    document = tmp_path / "drawn.json"
    write_draws(known, document)
    assert read_draws(document) == known
    (head,) = json.loads(document.read_text(encoding="utf-8"))["draws"]
    assert (head["drawn"], head["caught"], head["caught_since"]) == (SLICE, SLICE - 1, 1)
    assert survivors(order, 5, known) == []


def test_the_tests_of_a_drawn_mutant_are_those_of_its_part() -> None:
    """With those of the commands that lead to it; a file at the top has those at the top."""
    assert mirror_of("core/trainfare_core/ranking/pricing/priced_runs.py") == ("tests/core/ranking",)
    assert mirror_of("plugin/trainfare/policy/jobs.py")[:2] == (
        "tests/plugin/policy",
        "tests/plugin/cli/test_check_policy.py",
    )
    assert "tests/core/test_number_format.py" in mirror_of("core/trainfare_core/number_format.py")
    for mutant in draw(1)[:SLICE]:
        assert all((TOP / name).exists() for name in mirror_of(mutant.file)), mutant.file


def test_a_mutant_names_its_lines() -> None:
    """The lines before and after stand in the results and in the table of equivalent mutants."""
    source = "x = 1\nif x < (2,\n        3):\n    y = 'é'; z = x <= 4\n"
    mutants = {mutant.name: mutant for mutant in all_mutants("a.py", source)}
    first = mutants["a.py: module: comparison: `x < (2, 3)` becomes `(x <= (2, 3))`"]
    assert first.lines_before_and_after(source) == ("if x < (2,\n        3):", "if (x <= (2, 3)):")
    assert list(first.lines(source)) == [2, 3]
    last = mutants["a.py: module: comparison: `x <= 4` becomes `(x < 4)`"]
    assert last.lines_before_and_after(source) == ("y = 'é'; z = x <= 4", "y = 'é'; z = (x < 4)")
    with pytest.raises(ValueError, match="has changed"):
        last.apply(source.replace("4", "5"))


def test_the_same_seed_draws_the_same_mutants() -> None:
    """No two of a line; another seed draws others."""
    file = "core/trainfare_core/ranking/rank.py"
    source = (TOP / file).read_text(encoding="utf-8")
    first = sample(file, seed=0)
    assert first == sample(file, seed=0) != sample(file, seed=1)
    lines = [line for mutant in first for line in mutant.lines(source)]
    assert len(lines) == len(set(lines))


def test_an_equivalent_mutant_is_not_counted() -> None:
    """It says why, and a mutant that a test catches is none."""
    file = "core/trainfare_core/ranking/rank.py"
    mutant = Mutant("one", file, 0, '"', "'")
    source = (TOP / file).read_text(encoding="utf-8")
    reasons = {(file, *mutant.lines_before_and_after(source)): "the same"}
    early = result_of(mutant, source, caught=False, by="", reasons={}, nearest_only=True)
    assert json.loads(results_text([early], command="c", not_run=0))["mutants"][0]["nearest_only"] is True
    lives = result_of(mutant, source, caught=False, by="", reasons=reasons)
    caught = result_of(mutant, source, caught=True, by="tests/a.py::b", reasons=reasons)
    alive = result_of(mutant, source, caught=False, by="", reasons={})
    assert (lives.equivalent, caught.equivalent, alive.equivalent) == ("the same", None, None)
    total = scores([lives, caught, alive])[-1]
    assert (total.made, total.caught, total.equivalent, total.share) == (2, 1, 1, 0.5)
    document = json.loads(results_text([lives, caught, alive], command="x", not_run=4))
    assert [one["caught"] for one in document["mutants"]] == [False, True, False]
    assert (document["not_run"], document["scores"][-1]["score"]) == (4, 0.5)


def test_results_are_written_as_the_run_goes(tmp_path: Path) -> None:
    """Each time as a whole document, with what earlier runs found of the other mutants."""
    file = "core/trainfare_core/ranking/rank.py"
    source = (TOP / file).read_text(encoding="utf-8")
    first, second = (
        result_of(Mutant(name, file, 0, '"', "'"), source, caught=True, by="", reasons={})
        for name in ("first", "second")
    )
    document = tmp_path / "new" / "mutants.json"
    write_results([second], ["first", "second", "third"], document)
    assert read_results(document) == [second]
    write_results([first], ["first", "second", "third"], document)
    assert read_results(document) == [first, second]
    assert json.loads(document.read_text(encoding="utf-8"))["not_run"] == 1
    assert [path.name for path in document.parent.iterdir()] == ["mutants.json"]


def test_results_of_a_part_take_the_place_of_earlier_ones() -> None:
    """A run of one package leaves the others' results; those of mutants that are no longer made go."""
    file = "core/trainfare_core/ranking/rank.py"
    source = (TOP / file).read_text(encoding="utf-8")

    def result(name: str, *, caught: bool) -> Result:
        return result_of(Mutant(name, file, 0, '"', "'"), source, caught=caught, by="", reasons={})

    before = [result("gone", caught=True), result("first", caught=False), result("second", caught=False)]
    results = merge_tables([result("second", caught=True)], before, ["second", "new", "first"])
    assert [(item.name, item.caught) for item in results] == [("second", True), ("first", False)]


def test_a_caught_mutant_is_run_again_when_its_test_has_changed(tmp_path: Path) -> None:
    """Also when its file has changed, and whenever that is asked for."""
    file, test = "core/trainfare_core/ranking/rank.py", "tests/house/test_mutants.py::test_mutants_compile"
    mutant, source = Mutant("one", file, 0, '"', "'"), '"'
    caught = Caught(tmp_path / "new" / "caught.json", use=True)
    assert caught.by(mutant, source) == ""
    caught.add(mutant, source, test)
    again = Caught(tmp_path / "new" / "caught.json", use=True)
    assert again.by(mutant, source) == test
    assert again.by(mutant, '"""') == ""
    assert Caught(tmp_path / "new" / "caught.json", use=False).by(mutant, source) == ""
    text = (tmp_path / "new" / "caught.json").read_text()
    (tmp_path / "new" / "caught.json").write_text(text.replace(text.split('"')[3][:16], "0" * 16))
    assert Caught(tmp_path / "new" / "caught.json", use=True).by(mutant, source) == ""
    again.add(mutant, source, "")
    assert Caught(tmp_path / "new" / "caught.json", use=True).by(mutant, source) == ""


def test_the_tests_of_a_module_come_first() -> None:
    """Those named after it or importing it, then what reaches the line and the file; a person's mutant names its own."""
    copy = Copy(TOP)
    (mutant, *_) = sample("core/trainfare_core/ranking/pricing/chances.py", seed=0)
    (line, *_) = mutant.lines(copy.source(mutant.file))
    reach = Reach(
        {
            "tests/core/ranking/test_rank.py::a": 1.0,
            "tests/x.py::b": 2.0,
            "tests/x.py::c": 90.0,
            "tests/x.py::d": 1.0,
        },
        {
            mutant.file: {
                line: {"tests/core/ranking/test_rank.py::a", "tests/x.py::b"},
                1: {"tests/x.py::c", "tests/x.py::d"},
            }
        },
    )
    near = nearest_tests(mutant)
    of_line, of_file = reaching_tests(copy, mutant, {"ranking": reach})
    assert near[0] == "tests/core/ranking/pricing/test_chances.py"
    assert "tests/core/ranking/test_rank.py" in near
    assert (of_line, of_file) == (["tests/x.py::b"], ["tests/x.py::d"])
    (written, *_) = read_written_mutants()
    assert nearest_tests(written) == shlex.split(written.tests)


def test_the_recorded_results_are_of_today_s_files() -> None:
    """Each names a file that is there, and no mutant of a person survived."""
    for item in read_results():
        assert (TOP / item.file).is_file(), item.file
        assert item.caught or not item.written, item.name


def test_the_reasons_of_equivalent_mutants_name_lines_that_are_there() -> None:
    """A reason for a line that has changed is no longer one."""
    for (file, was, now), reason in equivalents().items():
        assert was in (TOP / file).read_text(encoding="utf-8"), (file, was)
        assert was != now
        assert len(reason) > 20, (file, was)


_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")


@_PROC
def test_a_mutant_that_only_waits_is_stopped() -> None:
    """A test that waits for what a mutant took away uses next to no processor."""
    code = "import threading; wait = threading.Event().wait\nwhile True: wait(0.05)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    status = wait_for(child.pid, float("inf"), stall_s=1.0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == -signal.SIGKILL


@_PROC
def test_the_work_of_what_a_mutant_starts_counts() -> None:
    """A test that waits for a process of its own is at work as long as that one is."""
    work = "import time, signal; [None for _ in iter(lambda: time.process_time() < 1, False)]; signal.pause()"
    starts = (
        f"import subprocess, sys; subprocess.call([sys.executable, '-c', {work!r}], start_new_session=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", starts], start_new_session=True)
    while (cpu_s_of(child.pid) or 0.0) < 1.0:
        assert child.poll() is None
    for path in Path("/proc").glob(f"{child.pid}/task/*/children"):
        os.kill(int(path.read_text().split()[0]), signal.SIGKILL)
    assert child.wait() == 0


@_PROC
def test_what_a_mutant_leaves_behind_is_ended(tmp_path: Path) -> None:
    """Ranks of torchrun are in sessions of their own, where the end of their parent does not reach them."""
    wait = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    processes = [
        subprocess.Popen(
            wait, start_new_session=True, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.PIPE
        )
        for folder in (tmp_path / "scratch", tmp_path.parent)
    ]
    for process in processes:
        with contextlib.closing(cast("IO[bytes]", process.stdout)) as started:
            assert started.readline()
    end_processes_in(tmp_path)
    left, other = processes
    assert left.wait() == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()
