"""The mutations and the runner of the fuzz targets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.mutations import mutate
from fuzz.run import INPUT_S, Outcome, keep_findings, keep_inputs, launcher, limits_of, main, with_outcomes
from fuzz.target import Form
from fuzz.targets import TARGETS

FORMS: tuple[Form, ...] = get_args(Form)


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    data=st.binary(max_size=60),
    seed=st.integers(0, 2**32),
    most=st.integers(1, 80),
)
def test_any_bytes_can_be_changed(form: Form, data: bytes, seed: int, most: int) -> None:
    """A fuzzer may hand over anything, and asks for a length."""
    assert len(mutate(form, data, most, Random(seed), lambda old, size: old[:size])) <= max(most, 60)


@pytest.mark.parametrize("name", TARGETS)
def test_changes_keep_the_form_and_change(name: str) -> None:
    """Of a hundred changes of a seed most are new, and most changes of JSON are JSON still."""
    target = TARGETS[name]
    seed = target.seeds()[0]
    contents = [
        mutate(target.form, seed, 10**6, Random(number), lambda old, _: old + b"x") for number in range(100)
    ]
    assert len(set(contents)) > (0 if target.form == "bytes" else 50)
    if target.form == "json":
        assert sum(is_json(content) for content in contents) > 70


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def outcome(target: str, **fields: object) -> Outcome:
    base: dict[str, object] = {
        "seconds": 9, "executions": 5, "findings": (), "date": "2026-11-26", "python": "3.11.7", "atheris": "3.0.0",
    }  # fmt: skip
    return Outcome(**{"target": target, **base, **fields})  # type: ignore[arg-type]


def test_a_run_replaces_the_results_of_its_targets_alone() -> None:
    """One line a target, sorted; a target that is gone goes from the results too."""
    first = with_outcomes("[]", [outcome("policy"), outcome("aws_answers"), outcome("no longer there")])
    again = with_outcomes(first, [outcome("policy", executions=7, findings=("KeyError at x.py:1",))])
    assert [(load["target"], load["executions"]) for load in json.loads(again)] == [
        ("aws_answers", 5),
        ("policy", 7),
    ]
    assert json.loads(again)[1]["findings"] == ["KeyError at x.py:1"]
    assert len(again.splitlines()) == 4


def test_an_unknown_target_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["no_such_target"])
    assert "no target no_such_target; there are " in capsys.readouterr().err


def test_what_was_found_goes_into_the_corpus_once(tmp_path: Path) -> None:
    """The inputs that an error came from and those that ended the process, without the tracebacks."""
    findings, corpus = tmp_path / "findings", tmp_path / "corpus"
    findings.mkdir()
    corpus.mkdir()
    (findings / "found-1").write_bytes(b"{")
    (findings / "found-1.txt").write_text("ValueError at x.py:1", encoding="utf-8")
    (findings / "timeout-2").write_bytes(b"[[[")
    for _ in range(2):
        keep_findings(findings, corpus)
    assert all(path.name.startswith("found-") for path in corpus.iterdir())
    assert sorted(path.read_bytes() for path in corpus.iterdir()) == [b"[[[", b"{"]


def test_a_stopped_merge_leaves_the_corpus_alone(tmp_path: Path) -> None:
    """Inputs of findings stay; the others are replaced by what a merge found, and kept where it found none."""
    merged, corpus = tmp_path / "merged", tmp_path / "corpus"
    merged.mkdir()
    corpus.mkdir()
    (corpus / "00").write_bytes(b"old")
    (corpus / "found-1").write_bytes(b"once")
    keep_inputs(merged, corpus)
    assert sorted(path.name for path in corpus.iterdir()) == ["00", "found-1"]
    (merged / "a").write_bytes(b"longer")
    (merged / "b").write_bytes(b"new")
    keep_inputs(merged, corpus)
    contents_by_key = {path.name: path.read_bytes() for path in corpus.iterdir()}
    assert contents_by_key == {"00": b"new", "01": b"longer", "found-1": b"once"}


def test_an_input_is_slow_from_the_time_at_which_it_is_a_finding() -> None:
    limits = limits_of(TARGETS["policy"])
    assert {f"-timeout={INPUT_S}", f"-report_slow_units={INPUT_S}"} <= set(limits)


def test_a_merge_can_start_its_process_again(tmp_path: Path) -> None:
    """The first argument of libFuzzer is a command that it runs, with its own options behind."""
    command = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "policy", "a folder"]
    path = launcher(tmp_path / "again", command)
    done = subprocess.run([path, "-merge=1"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['policy', 'a folder', '-merge=1']"
