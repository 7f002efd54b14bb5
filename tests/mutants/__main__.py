"""
Change one place of a copy of the sources at a time; for each change a test must fail.

    python -m mutants [--package NAME] [--only written|generated] [--again] [WORD ...]
    python -m mutants --seed N [--most N] [--again]

WORD keeps the mutants whose name contains one of them. A mutant that a test has caught is not run again while its file
and that test's file are the same, unless `--again` is given: a change elsewhere may hide it.

Mutants that people wrote stand in `written/*.toml`; others are made by rule, one to four of every file of `PACKAGES`.
The results are put into `tests/evidence/mutants.json` as the run goes, in the place of earlier results of the same
mutants. The exit status is 1 if a mutant that a person wrote survives, or if a package's score is below 95 %.

With a seed, mutants are drawn at random from all files of `DRAWN`, 60 a run; the next run goes on. Their results are
put into `tests/evidence/drawn_mutants.json` and stay: what is caught later, which `--again` tries, counts as survived.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mutants.caught import STOPPED, Caught
from mutants.draws import (
    SLICE,
    add_result,
    mirror_of,
    next_slice,
    read_draws,
    survivors,
    write_draws,
)
from mutants.generate import draw, sample
from mutants.mutant import DRAWN, PACKAGES, TOP, Mutant, files_of, read_written_mutants
from mutants.reach import Reach, reach_of, tests_of_module
from mutants.results import (
    Result,
    equivalents,
    result_of,
    scores,
    scores_table,
    write_results,
)
from mutants.trial import Copy, fork_pytest, load_libraries, sources_copied

PASS_SCORE: Final = 0.95
_CACHE: Final = TOP / ".cache" / "mutants"
_CPU_LIMIT_S: Final = 300.0
"""Of the tests of one mutant: three times what the slowest take."""
_INTERNAL_ERROR: Final = 3
"""Exit code of pytest where its own code fails."""
_WRITTEN_EVERY: Final = 20
"""Mutants, a minute or two: what a run that is stopped loses at most."""
_FIRST_S, _SECOND_S = 15.0, 45.0
"""Of tests that reach the line, and then of those that reach the file, where those named after it find nothing."""


def main() -> None:
    """Run the mutants that the arguments name, or all."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=str(__doc__).split("\n\n")[0])
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="keep the mutants whose name contains one of them"
    )
    parser.add_argument("--seed", type=int, help="draw mutants at random, or go on with this draw; 1 or more")
    parser.add_argument("--package", choices=PACKAGES, help="those of one package")
    parser.add_argument(
        "--only", choices=("written", "generated"), help="those of people, or those made by rule"
    )
    parser.add_argument(
        "--again", action="store_true", help="also those that were caught before the last change"
    )
    parser.add_argument("--most", type=int, default=SLICE, help=f"new mutants of a draw in one run ({SLICE})")
    options = parser.parse_args()
    if options.seed is not None:
        _run_draw(options.seed, most=options.most, again=options.again)
        return
    mutants = [
        mutant
        for mutant in _mutants(options.only)
        if options.package in (None, mutant.package)
        if not options.words or any(word in mutant.name for word in options.words)
    ]
    if not mutants:
        parser.error("no mutant is named so")
    sys.stderr.write(
        f"{len(mutants)} mutants: 2 s of one processor each, and up to 10 minutes to learn what the tests reach\n"
    )
    began = time.monotonic()
    reasons, names = equivalents(), [mutant.name for mutant in _mutants(None)]
    results_by_name: dict[str, Result] = {}
    caught = Caught(_CACHE / "caught.json", use=not options.again)
    load_libraries()
    with sources_copied() as copy:
        for tries, (mutant, source, by, final) in enumerate(_try_mutants(copy, mutants, caught), 1):
            result = result_of(
                mutant, source, caught=bool(by), by=by, reasons=reasons, nearest_only=not final
            )
            results_by_name[mutant.name] = result
            sys.stdout.write(_format_line(result) if final else f"later   {result.name}\n")
            sys.stdout.flush()
            if tries % _WRITTEN_EVERY == 0:
                write_results(list(results_by_name.values()), names)
    results = list(results_by_name.values())
    write_results(results, names)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in used)
    sys.stdout.write(scores_table(results))
    sys.stdout.write(
        f"{cpu_s / 60:.0f} minutes of processor, {(time.monotonic() - began) / 60:.0f} on the clock\n"
    )
    survived = any(result.written and not result.caught for result in results)
    sys.exit(survived or any(score.share < PASS_SCORE for score in scores(results)))


def _run_draw(seed: int, *, most: int, again: bool) -> None:
    """Try the next slice of a draw, or again those that survived, and note each result as it comes."""
    order, known, reasons = draw(seed), read_draws(), equivalents()
    mutants = survivors(order, seed, known) if again else next_slice(order, seed, known, most)
    sys.stderr.write(f"{len(mutants)} mutants of the draw with seed {seed}\n")
    load_libraries()
    with sources_copied() as copy:
        for mutant, source, by, final in _try_mutants(
            copy, mutants, Caught(_CACHE / "drawn.json", use=False)
        ):
            result = result_of(
                mutant, source, caught=bool(by), by=by, reasons=reasons, nearest_only=not final
            )
            sys.stdout.write(_format_line(result) if final else f"later   {result.name}\n")
            sys.stdout.flush()
            if final or not again:
                known = add_result(known, seed, result)
                write_draws(known)


def _mutants(only: str | None) -> list[Mutant]:
    written = [] if only == "generated" else read_written_mutants()
    generated = (
        []
        if only == "written"
        else [
            mutant
            for package in PACKAGES
            for file in files_of(PACKAGES[package])
            for mutant in sample(file, seed=0)
        ]
    )
    return written + generated


def _try_mutants(
    copy: Copy, mutants: list[Mutant], caught: Caught
) -> Iterator[tuple[Mutant, str, str, bool]]:
    """
    Yield each mutant with the source of its file, the test that caught it or "", and whether that is final.

    The tests that need no search come first, for all mutants: they catch most, and the search takes minutes. A mutant
    that they miss is yielded twice: a run that is stopped counts it as not caught and does not leave it out.
    """
    reaches: dict[str, Reach] = {}
    left: list[Mutant] = []
    for mutant in mutants:
        source = copy.source(mutant.file)
        by = caught.by(mutant, source) or try_mutant(copy, mutant, first_tests(mutant))
        caught.add(mutant, source, by)
        final = bool(by or mutant.tests)
        yield mutant, source, by, final
        if not final:
            left.append(mutant)
    for mutant in left:
        source = copy.source(mutant.file)
        by = try_mutant(copy, mutant, reaching_tests(copy, mutant, reaches))
        caught.add(mutant, source, by)
        yield mutant, source, by, True


def try_mutant(copy: Copy, mutant: Mutant, selections: Iterable[list[str]]) -> str:
    """
    Run tests of a mutant until one fails; return its name, `STOPPED` where the run was stopped, or "".

    Args:
        copy: of the sources.
        mutant: to be tried.
        selections: arguments of pytest for one run after another.

    Raises:
        SystemExit: pytest could not run them.
    """
    for arguments in selections:
        with copy.with_mutant(mutant):
            outcome = fork_pytest(copy, ["-x", *arguments], cpu_limit_s=_CPU_LIMIT_S)
        if outcome.code == _INTERNAL_ERROR and "INTERNALERROR> MemoryError" in outcome.output:
            return STOPPED  # the change takes memory without end: pytest itself had none left
        if outcome.code not in (0, 1, 2, 5, None) or (outcome.code in (1, 2) and not outcome.failed):
            raise SystemExit(f"{mutant.name}: its tests did not run\n{outcome.output}")
        if outcome.code not in (0, 5):
            return outcome.failed[0] if outcome.failed else STOPPED
    return ""


def first_tests(mutant: Mutant) -> list[list[str]]:
    """
    Return what needs no search: the nearest tests and, of a draw, those of `DRAWN.first`.

    Of a folder there, those files count that name the mutant's package.
    """
    if not mutant.seed:
        return [nearest_tests(mutant)]
    root, folder = Path(mutant.file).parts[1:3]
    package = re.compile(rf"\b{root}\.{Path(folder).stem}\b")
    files = [
        file
        for name in DRAWN.first
        for file in ([TOP / name] if name.endswith(".py") else sorted((TOP / name).rglob("test_*.py")))
        if name.endswith(".py") or package.search(file.read_text(encoding="utf-8"))
    ]
    return [nearest_tests(mutant), [file.relative_to(TOP).as_posix() for file in files]]


def nearest_tests(mutant: Mutant) -> list[str]:
    """Return arguments of pytest: the tests that a mutant names, or those of its module."""
    if mutant.tests:
        return shlex.split(mutant.tests)
    return [*_tests_of_module(mutant), "-m", "not sources"]


def _tests_of_module(mutant: Mutant) -> list[str]:
    if mutant.seed:
        return tests_of_module(mutant.file, DRAWN.tests) or list(mirror_of(mutant.file))
    package = PACKAGES[mutant.package]
    return tests_of_module(mutant.file, package.tests) or list(package.first)


def reaching_tests(copy: Copy, mutant: Mutant, reaches: dict[str, Reach]) -> Iterator[list[str]]:
    """
    Yield the tests that reach a mutant's lines, then those that reach its file, without the tests of its module.

    Args:
        copy: of the sources.
        mutant: made by rule.
        reaches: what the tests of each package or folder reach; filled where a mutant needs it.
    """
    tests = mirror_of(mutant.file) if mutant.seed else PACKAGES[mutant.package].tests
    name = " ".join(tests) if mutant.seed else mutant.package
    if name not in reaches:
        reaches[name] = reach_of(copy, _CACHE, tests)
    reach, near = reaches[name], tuple(_tests_of_module(mutant))
    lines = mutant.lines(copy.source(mutant.file))
    of_lines = [
        test for test in reach.tests(mutant.file, lines, most_s=_FIRST_S) if not test.startswith(near)
    ]
    of_file = [
        test
        for test in reach.tests(mutant.file, None, most_s=_SECOND_S)
        if test not in of_lines and not test.startswith(near)
    ]
    yield from (tests for tests in (of_lines, of_file) if tests)


def _format_line(result: Result) -> str:
    if result.caught:
        return f"caught  {result.name}\n"
    if result.equivalent:
        return f"equal   {result.name}: {result.equivalent}\n"
    return f"ALIVE   {result.name} (line {result.line})\n          {result.was}\n          {result.now}\n"


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
