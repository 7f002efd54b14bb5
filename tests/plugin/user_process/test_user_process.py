"""The process of the user's code by its own interface: several traces, errors that keep their class, limits."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from builders.target_files import JOB, TWO_LAYERS
from trainfare.fake_step import load_profile
from trainfare.methods.step_change import StepChange
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare.user_process.limits import ANSWER_LIMIT_S, CPU_LIMIT_S, OUTPUT_LIMIT_KIB
from trainfare.user_process.messages import Reply, error_of, reply_of
from trainfare.user_process.process import list_search_path
from trainfare_core import errors
from trainfare_core.errors import (
    InputError,
    InternalError,
    MissingExtraError,
    NothingFitsError,
    TargetError,
    TrainfareError,
)

SCRIPT = TWO_LAYERS + JOB
LIMITS = ProcessLimits()


@pytest.fixture
def target(tmp_path: Path) -> str:
    (tmp_path / "t.py").write_text(SCRIPT, encoding="utf-8")
    return f"{tmp_path / 't.py'}:job"


def test_one_process_answers_several_traces(target: str) -> None:
    """Facts, the step as it is, changed steps, and a failed one between them; equal to a trace in this process."""
    with UserProcess(target, LIMITS) as process:
        assert (process.job.precision, process.job.train_samples, process.job.tokens_per_sample) == (
            "32-true",
            36,
            None,
        )
        assert process.profile() == load_profile(target)
        with pytest.raises(InputError, match="no such layer"):
            process.profile(StepChange("linear_probe", "32-true", head="missing"))
        probe = process.profile(StepChange("linear_probe", "bf16-mixed"))
        assert process.profile(precision="bf16-true").parameters[0].dtype == "bf16"
        assert process.profile() == load_profile(target)
    assert (probe.trainable_parameters, probe.precision) == (8 * 2 + 2, "bf16-mixed")


def test_libraries_are_counted_and_the_script_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning's own lines are kept from the screen; prints, log lines and warnings of the script's stay."""
    said = """
import logging, warnings
from lightning.pytorch import seed_everything
seed_everything(3)
print("printed")
warnings.warn("warned")
logging.getLogger("lightning.pytorch").warning("logged")
"""
    (tmp_path / "t.py").write_text(said + SCRIPT, encoding="utf-8")
    with UserProcess(f"{tmp_path / 't.py'}:job", LIMITS) as process:
        _ = process.job
    shown = capsys.readouterr().err
    assert "Seed set" not in shown
    assert [word for word in ("printed", "warned", "logged") if word not in shown] == []
    assert "note: 1 message of the script's libraries, not shown: TRAINFARE_DEBUG=1 shows it" in shown


@pytest.mark.parametrize(
    "name", sorted(name for name in vars(errors) if name.endswith("Error") and not name.startswith("Fetch"))
)
def test_errors_keep_their_class_message_and_code(name: str) -> None:
    """What is raised in the process is raised by the command."""
    error = getattr(errors, name)("a", "b") if name == "MissingExtraError" else getattr(errors, name)("a: b")
    crossed = error_of(Reply.model_validate_json(reply_of(error).model_dump_json()))
    said = f"in the process of the TARGET: {error}" if name == "InternalError" else str(error)
    assert (type(crossed), str(crossed), crossed.exit_code) == (type(error), said, error.exit_code)


def test_an_unknown_class_of_error_is_bad_input() -> None:
    """A forged name is no way to another exit code."""
    assert type(error_of(Reply(kind="error", error="SystemExit", message="x"))) is TargetError


def test_a_fault_that_the_process_reports_is_said_to_be_its_own() -> None:
    """Code of the TARGET can forge that too, so its sentence never stands as one of ours."""
    error = error_of(Reply(kind="error", error="InternalError", message="nothing is wrong"))
    assert type(error) is InternalError
    assert str(error) == "in the process of the TARGET: nothing is wrong"


def says(*replies: bytes) -> list[str]:
    """Return a command that reads its first request and answers so."""
    code = (
        "import sys; sys.stdin.readline(); sys.stdout.buffer.write(%r); sys.stdout.flush(); sys.stdin.read()"
    )
    return [sys.executable, "-c", code % b"".join(replies)]


READY = b'{"kind": "ready"}\n'
JOB = b'{"kind": "job", "job": {"precision": "32-true", "train_samples": null, "tokens_per_sample": null}}\n'


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ([READY, JOB, JOB], "a result that is none"),
        ([READY, b'{"kind": "job"}\n'], "a result that is none"),
        ([READY, JOB, b'{"kind": "profile", "body_bytes": 2}\n{}'], "a result that is none"),
        ([READY, JOB, b'{"kind": "profile", "body_bytes": 99999999999}\n'], "99,999,999,999 bytes"),
        ([READY, b"within\n"], "something else than a result"),
        ([READY, b'{"kind": "job", "verdict": "within"}\n'], "something else than a result"),
    ],
)
def test_what_is_no_result_is_refused(replies: list[bytes], message: str) -> None:
    """By its kind, its schema or its size, before it is read."""
    with (
        UserProcess("t.py:job", LIMITS, command=says(*replies)) as process,
        pytest.raises(TargetError, match=message),
    ):
        process.profile()


def test_the_time_limit_counts_by_the_clock() -> None:
    """An hour on the clock is past the limit; the process is stopped, and asking again says the same."""
    hours = iter(range(0, 10**6, 3600))
    with UserProcess("t.py:job", LIMITS, command=says(), clock=lambda: float(next(hours))) as process:
        for _ in range(2):
            with pytest.raises(TargetError, match="no answer within 600 s"):
                process.profile()


def test_a_process_that_does_not_start_is_a_defect() -> None:
    """Code of the user has not run yet, so it is not to blame."""
    with (
        UserProcess("t.py:job", LIMITS, command=[sys.executable, "-c", "raise SystemExit(7)"]) as process,
        pytest.raises(InternalError, match="exit code 7 before it had started"),
    ):
        process.profile()


def test_output_is_shown_up_to_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is read and counted, so that the code is not blocked."""
    (tmp_path / "t.py").write_text("print('é' * 2**20)\n1 / 0\n", encoding="utf-8")
    with (
        UserProcess(f"{tmp_path / 't.py'}:job", ProcessLimits(output_kib=1)) as process,
        pytest.raises(TargetError, match="ZeroDivisionError"),
    ):
        process.profile()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("é" * 512 + "\nwarning: ")
    assert re.search(r"warning: [0-9,]+ bytes more", captured.err)
    assert len(captured.err) < 1024


@pytest.mark.sources
def test_an_isolated_command_gives_the_process_the_python_path_of_the_user() -> None:
    """`python -I` ignores PYTHONPATH, which the code of a TARGET may need; else it is in `sys.path` already."""
    environ = {"PYTHONPATH": os.pathsep.join(["src", "", "lib"])}
    assert list_search_path(["site"], environ, isolated=True) == ["src", "lib", "site"]
    assert list_search_path(["src", "site"], environ, isolated=False) == ["src", "site"]
    assert list_search_path(["site"], {}, isolated=True) == ["site"]


def test_the_page_states_the_limits() -> None:
    """docs/exit-codes.md has the defaults, options and codes of the code."""
    page = (Path(__file__).parents[3] / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    for limit, option in (
        (f"{ANSWER_LIMIT_S:g}", "--target-seconds"),
        (f"{CPU_LIMIT_S:,}", "--target-cpu-seconds"),
        (f"{OUTPUT_LIMIT_KIB:,} KiB", "--target-output-kib"),
    ):
        assert re.search(rf"\| {limit} \| `{option}` \|", page), option
    codes = {cls.exit_code for cls in (TrainfareError, MissingExtraError, NothingFitsError, InternalError)}
    assert codes == {2, 3, 4}
    for code in (0, 1, *codes, 130):
        assert re.search(rf"^\| {code} \|", page, re.MULTILINE), code


def test_a_language_model_is_known_by_its_batch(tmp_path: Path) -> None:
    """`strategy` asks for the tokens of a sample before anything is traced."""
    text = SCRIPT + "\n\ndef words():\n    ids = torch.zeros(2, 24, dtype=torch.long)\n"
    text += (
        "    return TrainingJob(module=job().module, batch={'input_ids': ids}, batch_size=2, max_steps=9)\n"
    )
    (tmp_path / "t.py").write_text(text, encoding="utf-8")
    with UserProcess(f"{tmp_path / 't.py'}:words", LIMITS) as process:
        assert process.job.tokens_per_sample == 24


def test_temporary_files_of_the_code_go_with_its_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that it leaves to an exit handler or to a finalizer; what it starts has the usual environment."""
    text = "import os, tempfile\nkept = tempfile.TemporaryDirectory()\n"
    text += "print(kept.name, os.environ.get('TMPDIR', ''))\n"
    (tmp_path / "t.py").write_text(text + SCRIPT, encoding="utf-8")
    with UserProcess(f"{tmp_path / 't.py'}:job", LIMITS) as process:
        _ = process.job
    folder, *variable = capsys.readouterr().err.split()
    assert not Path(folder).exists()
    assert variable == [os.environ["TMPDIR"]] if "TMPDIR" in os.environ else not variable
