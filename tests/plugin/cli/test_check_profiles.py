"""A change that is traced in one place and judged in another, where none of its code runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from builders.cli import run_main
from builders.toy_market import book, offer_row, small_job
from trainfare.prices.lock import LockHeader, lock_text
from trainfare_core.policy.check import PolicyCheck

POLICY = """\
lock = "prices/trainfare.lock"
[jobs.net]
target = "net.json"
max_usd = 20
max_increase_percent = 10
"""
SCRIPT = "print('was here')\nraise SystemExit('no job')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The base in `base`, where the judge works; the change in `head`."""
    base = tmp_path / "base"
    (base / "prices").mkdir(parents=True)
    header = LockHeader.model_validate({"tool_version": "0", "locked_on": "2026-10-01", "rows": 1})
    prices = book(offer_row(usd_per_hour=4.0, observed_on="2026-10-01"))
    (base / "prices" / "trainfare.lock").write_text(lock_text(header, prices))
    (base / "net.json").write_text(small_job(steps=1000).to_json())
    (base / "trainfare.toml").write_text(POLICY)
    shutil.copytree(base, tmp_path / "head")
    monkeypatch.chdir(base)
    return tmp_path


def trace(folder: Path, monkeypatch: pytest.MonkeyPatch, side: str) -> int:
    """Trace a side as a job of CI does, into a folder beside it."""
    with monkeypatch.context() as patch:
        patch.chdir(folder / side)
        return run_main("profile", "-o", str(folder / f"{side}-profiles"))


def judge(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, PolicyCheck]:
    capsys.readouterr()
    profiles = ("--profiles", str(folder / "head-profiles"), "--base", str(folder / "base-profiles"))
    code = run_main("check", *profiles, "--format", "json", *arguments)
    return code, PolicyCheck.model_validate_json(capsys.readouterr().out)


def test_a_change_is_judged_by_what_was_traced_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same cost passes; a longer run breaks the limit on the increase; a raised limit does not help it."""
    assert trace(folder, monkeypatch, "base") == 0
    assert trace(folder, monkeypatch, "head") == 0
    assert sorted(path.name for path in (folder / "head-profiles").iterdir()) == [
        "net.json",
        "prices",
        "trainfare.toml",
    ]
    code, answer = judge(folder, capsys)
    assert code == 0
    assert [job.name for job in answer.jobs] == ["net"]

    (folder / "head" / "net.json").write_text(small_job(steps=10_000_000).to_json())
    (folder / "head" / "trainfare.toml").write_text(POLICY.replace("= 10", "= 1e9"))
    assert trace(folder, monkeypatch, "head") == 0
    code, answer = judge(folder, capsys)
    assert code == 1
    broken = {finding.rule for job in answer.jobs for finding in job.findings if finding.status == "broken"}
    assert broken - {"max_price_age_days"} == {"max_increase_percent", "policy_change"}


def test_a_job_that_could_not_be_traced_is_not_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason travels beside the profiles; the judge runs nothing of the change."""
    assert trace(folder, monkeypatch, "base") == 0
    (folder / "head" / "train.py").write_text(SCRIPT)
    (folder / "head" / "trainfare.toml").write_text(POLICY.replace("net.json", "train.py"))
    assert trace(folder, monkeypatch, "head") == 2
    assert "was here" in capsys.readouterr().err
    code, answer = judge(folder, capsys)
    assert code == 2
    assert answer.jobs[0].verdict == "not_checked"
    assert "the job was not traced: train.py" in answer.jobs[0].findings[0].message
    assert "was here" not in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["net.json", "trainfare.toml"])
def test_a_folder_that_lacks_something_is_no_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """A change that uploads less than its jobs is not judged by what is there."""
    assert trace(folder, monkeypatch, "head") == 0
    (folder / "head-profiles" / missing).unlink()
    capsys.readouterr()
    assert run_main("check", "--profiles", str(folder / "head-profiles")) == 2


def test_a_link_in_the_folder_shows_nothing_of_what_it_leads_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder comes from a machine on which the change ran its code."""
    secret = folder / "secret"
    secret.write_text("cAnArY = 1")
    for name in ("net.json", "trainfare.toml"):
        shutil.rmtree(folder / "head-profiles", ignore_errors=True)
        assert trace(folder, monkeypatch, "head") == 0
        (folder / "head-profiles" / name).unlink()
        (folder / "head-profiles" / name).symlink_to(secret)
        capsys.readouterr()
        assert run_main("check", "--profiles", str(folder / "head-profiles")) == 2
        shown = capsys.readouterr()
        assert "cAnArY" not in shown.out + shown.err


def test_the_reason_why_there_is_no_policy_is_left_in_a_folder_that_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who judges has it; a folder is not made for it, since TARGET may have been forgotten."""
    (folder / "head" / "trainfare.toml").write_text("confidense = 1\n")
    assert trace(folder, monkeypatch, "head") == 2
    assert not (folder / "head-profiles").exists()
    (folder / "head-profiles").mkdir()
    assert trace(folder, monkeypatch, "head") == 2
    capsys.readouterr()
    assert run_main("check", "--profiles", str(folder / "head-profiles")) == 2
    assert "unknown key 'confidense'" in capsys.readouterr().err


def test_a_folder_that_is_too_large_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change chooses how much it leaves; the bytes of its folder are counted before any is read."""
    assert trace(folder, monkeypatch, "head") == 0
    with (folder / "head-profiles" / "more").open("wb") as file:
        file.truncate(2**30)
    capsys.readouterr()
    assert run_main("check", "--profiles", str(folder / "head-profiles")) == 2
    assert "more than 512 MiB" in capsys.readouterr().err


def test_a_new_job_has_no_base_and_a_job_that_was_not_traced_cannot_be_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base's policy tells them apart, not what is missing in the folder of its profiles."""
    assert trace(folder, monkeypatch, "base") == 0
    (folder / "head" / "trainfare.toml").write_text(
        POLICY + POLICY[POLICY.index("[") :].replace("net]", "two]")
    )
    assert trace(folder, monkeypatch, "head") == 0
    code, answer = judge(folder, capsys)
    assert code == 0
    assert "no base was given" in str([job.findings for job in answer.jobs if job.name == "two"])
    (folder / "base-profiles" / "net.json").unlink()
    code, answer = judge(folder, capsys)
    assert code == 3
    assert "it has no net.json" in str(answer.jobs[0].findings)


def test_a_commit_is_no_base_of_profiles(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its code would run where only profiles are judged."""
    del folder
    assert run_main("check", "--profiles", ".", "--compare-to", "HEAD") == 2
    assert "--compare-to" in capsys.readouterr().err
    assert run_main("check", "net.json", "--profiles", ".", "--max-usd", "5") == 2
    assert "--profiles with TARGET" in capsys.readouterr().err
