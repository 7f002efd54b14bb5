"""`trainfare.lock`: deterministic bytes, every edit found, the same answer from it on any day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.cli import run_main
from builders.offers import book_of, offer_row, small_market
from builders.processes import HANG_S
from builders.profiles import gpt_profile, write_profile
from trainfare.prices.lock import LockHeader, lock_text, read_lock
from trainfare_core.errors import PriceLockError
from trainfare_core.prices.book import PriceBook

HEADER = LockHeader(tool_version="1.2.3", locked_on=date(2026, 11, 24), rows=1)
SMALL = lock_text(HEADER, small_market())


def write(folder: Path, text: str) -> Path:
    path = folder / "trainfare.lock"
    path.write_bytes(text.encode())
    return path


def test_a_lock_gives_its_prices_back(tmp_path: Path) -> None:
    """Every column of every row, bit for bit, and who brought it; the counts are of the lock."""
    lock = read_lock(write(tmp_path, SMALL))
    assert lock.book.sort_by().frame.equals(small_market().sort_by().frame)
    assert lock.header.rows == len(small_market())
    assert [(i.origin, i.provider, i.accepted) for i in lock.book.intakes] == [
        ("test", "aws", 5), ("test", "azure", 1), ("test", "gcp", 1)
    ]  # fmt: skip
    assert lock_text(lock.header, lock.book) == SMALL


def test_the_order_of_rows_makes_no_difference() -> None:
    """The same prices are the same bytes."""
    frame = small_market().frame.sample(fraction=1.0, shuffle=True, seed=5)
    assert lock_text(HEADER, PriceBook(frame)) == SMALL


def test_it_reads_in_review() -> None:
    """One price a line, named by its first fields; what was locked and when on top; ASCII throughout."""
    lines = SMALL.splitlines()
    assert lines[0].startswith('{"trainfare_lock": 1, "tool_version": "1.2.3", "locked_on": "2026-11-24"')
    assert [json.loads(line)["service"] for line in lines[1:4]] == ["ec2", "azure_vm", "tpu"]
    assert len(lines) == 1 + 3 + 7 + 1
    assert lines[4].startswith('{"provider": "aws", "service": "ec2", "instance_type": "g6.xlarge"')
    hostile = lock_text(HEADER, book_of(offer_row(instance_type="p4d\u2028\n\x1b[31m", caveat="déjà vu")))
    assert hostile.isascii()
    assert "\x1b" not in hostile


def test_line_ends_of_windows_are_no_edit(tmp_path: Path) -> None:
    """Git may check out CRLF: the same lock."""
    assert (
        read_lock(write(tmp_path, SMALL.replace("\n", "\r\n"))).sha256
        == read_lock(write(tmp_path, SMALL)).sha256
    )


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(SMALL) - 1), new=st.sampled_from('019.,:"{}a \n'))
def test_any_edited_byte_is_found(tmp_path_factory: pytest.TempPathFactory, place: int, new: str) -> None:
    """Change one byte anywhere: an error that says what to do, never another price."""
    if SMALL[place] == new:
        return
    path = tmp_path_factory.getbasetemp() / "edited.lock"
    path.write_bytes((SMALL[:place] + new + SMALL[place + 1 :]).encode())
    with pytest.raises(PriceLockError, match=r"edited\.lock"):
        read_lock(path)


@pytest.mark.parametrize("cut", [0, 1, 50, 400, len(SMALL) // 2, len(SMALL) - 80, len(SMALL) - 1])
def test_a_lock_that_ends_early_is_found(tmp_path: Path, cut: int) -> None:
    """A merge or a copy that stopped in the middle."""
    with pytest.raises(PriceLockError, match="damaged or was edited"):
        read_lock(write(tmp_path, SMALL[:cut]))


def resign_lock(lines: list[str]) -> str:
    """What somebody gets who edits a lock and mends its last line."""
    import hashlib

    body = "".join(f"{line}\n" for line in lines)
    return body + json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n"


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ('"usd_per_hour": 55.04', '"usd_per_hour": 5.504', "the hash or the count of a cloud service"),
        ('"usd_per_hour": 55.04', '"usd_per_hour": NaN', "no JSON object"),
        ('"usd_per_hour": 55.04', '"usd_per_hour": -1.0', "a row is no price"),
        ('"usd_per_hour": 55.04', '"usd_per_hour": "55"', "wrong type"),
        ('"usd_per_hour": 55.04', '"usd_per_hour": ' + "9" * 400, "a value that no price has"),
        ('"usd_per_hour": 55.04', '"usd_per_hour": ' + "9" * 5000, "no JSON object"),
        ('"instance_type": "p5.48xlarge"', '"instance_type": "\\ud800"', "a value that no price has"),
        ('"usd_per_hour": 55.04', '"usd_per_hours": 55.04', "field that is none of ours"),
        ('"rows": 7', '"rows": 6', "a service line is not one"),
        ('"rows": 7', '"rows": 70', "holds fewer"),
        ('"on_stale": "warn"', '"on_stale": "shrug"', "first line is not that of a lock"),
        ('"trainfare_lock": 1', '"trainfare_lock": 2', "newer trainfare"),
    ],
)
def test_an_edit_with_a_mended_signature_is_found_too(tmp_path: Path, was: str, now: str, words: str) -> None:
    """The hashes of the services, the checks of every price and the counts stand behind the signature."""
    assert was in SMALL
    with pytest.raises(PriceLockError, match=words):
        read_lock(write(tmp_path, resign_lock(SMALL.replace(was, now, 1).splitlines()[:-1])))


def _other_order(lines: list[str]) -> list[str]:
    return [*lines[:4], lines[-1], *lines[4:-1]]  # the price of the last service before those of the first


def _other_form(lines: list[str]) -> list[str]:
    return [json.dumps(json.loads(lines[0]), separators=(",", ":")), *lines[1:]]


def _other_number(lines: list[str]) -> list[str]:
    return [lines[0].replace('"max_price_age_days": 30', '"max_price_age_days": 3e1'), *lines[1:]]


def _further_field(lines: list[str]) -> list[str]:
    return [f'{lines[0][:-1]}, "own_prices_sha256": null}}', *lines[1:]]


@pytest.mark.parametrize("edit", [_other_order, _other_form, _other_number, _further_field])
def test_a_lock_in_another_order_or_form_is_no_lock(
    tmp_path: Path, edit: Callable[[list[str]], list[str]]
) -> None:
    """The same prices have one text: what a person or a merge has put together is refused, though every hash is right."""
    lines = SMALL.splitlines()[:-1]
    assert edit(lines) != lines
    with pytest.raises(PriceLockError, match="not in the order or form that trainfare writes"):
        read_lock(write(tmp_path, resign_lock(edit(lines))))


def test_no_file_and_no_prices_are_said(tmp_path: Path) -> None:
    """Where there is nothing the message says how to get it."""
    with pytest.raises(PriceLockError, match="`trainfare prices lock` writes one"):
        read_lock(tmp_path / "none.lock")
    with pytest.raises(PriceLockError, match="no price to lock"):
        lock_text(HEADER, PriceBook.empty())


@pytest.fixture
def job(tmp_path: Path) -> str:
    return write_profile(tmp_path, gpt_profile(batch_size=32))


def test_a_repository_decides_with_its_lock_alone(
    tmp_path: Path, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lock, then recommend, check and offers with it: only what was locked is known, and the answer names the lock."""
    lock = str(tmp_path / "trainfare.lock")
    wanted = ("--provider", "aws", "--purchase", "on_demand", "--region", "us-east-1")
    assert run_main("prices", "lock", *wanted, "--as-of", "2026-11-24", "-o", lock) == 0
    assert "commit it" in capsys.readouterr().out
    assert run_main("recommend", job, "--lock", lock, "--format", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert {option["provider"] for option in answer["options"]} == {"aws"}
    assert {option["region"] for option in answer["options"]} == {"us-east-1"}
    assert any("locked on 2026-11-24" in line for line in answer["assumptions"])
    assert run_main("recommend", job, "--format", "json", *wanted) == 0
    unlocked = json.loads(capsys.readouterr().out)
    facts = ("instance_type", "run_usd", "run_hours", "price_observed_on", "price_source")
    first, second = (
        [[option[name] for name in facts] for option in one["options"]] for one in (answer, unlocked)
    )
    assert first == second
    assert run_main("check", job, "--max-usd", "100000", "--lock", lock) == 0
    assert "locked on 2026-11-24" in capsys.readouterr().out
    assert run_main("offers", "--lock", lock, "--format", "json") == 0
    capsys.readouterr()
    assert run_main("offers", "--lock", lock, "--provider", "azure") == 2
    assert run_main("prices", "status", "--lock", lock) == 0


def test_a_damaged_lock_stops_every_command(
    tmp_path: Path, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input, exit 2, never a fall back on other prices."""
    lock = str(write(tmp_path, SMALL.replace("55.04", "5.504")))
    for command in (
        ("recommend", job),
        ("check", job, "--max-usd", "1"),
        ("offers",),
        ("prices", "status"),
    ):
        assert run_main(*command, "--lock", lock) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "damaged or was edited" in captured.err


@pytest.mark.parametrize(
    ("locked", "asked", "code"),
    [
        (("--max-price-age-days", "200", "--on-stale", "fail"), (), 0),
        (("--max-price-age-days", "100", "--on-stale", "fail"), (), 3),
        (("--max-price-age-days", "100", "--on-stale", "warn"), (), 0),
        (("--max-price-age-days", "100", "--on-stale", "warn"), ("--on-stale", "fail"), 3),
        (("--max-price-age-days", "100", "--on-stale", "fail"), ("--max-price-age-days", "200"), 0),
        ((), ("--on-stale", "fail"), 3),
    ],
)
def test_past_the_limit_it_warns_or_fails_as_configured(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    locked: tuple[str, ...],
    asked: tuple[str, ...],
    code: int,
) -> None:
    """The limit in the lock decides unless the command names another; a warning leaves the answer alone."""
    lock = str(tmp_path / "trainfare.lock")
    narrow = ("--accelerator", "B300-SXM-288GB", "--purchase", "on_demand")  # of 2026-07-20
    assert run_main("prices", "lock", *narrow, *locked, "-o", lock) == 0
    capsys.readouterr()
    assert run_main("offers", "--lock", lock, "--as-of", "2026-11-24", *asked) == code
    captured = capsys.readouterr()
    if code:
        assert captured.out == ""
        assert "past the limit of" in captured.err
    else:
        assert ("past the limit" in captured.err) == (locked[1] == "100" and not asked)


def test_an_existing_file_is_not_overwritten_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--replace writes over a lock, whole or damaged, and never over something else."""
    path = tmp_path / "trainfare.lock"
    one = ("prices", "lock", "--accelerator", "TPU-v5p", "-o", str(path))
    assert run_main(*one) == 0
    assert run_main(*one) == 2
    assert run_main(*one, "--replace") == 0
    write(tmp_path, path.read_text()[:-5])
    assert run_main(*one, "--replace") == 0
    path.write_text("my notes")
    assert run_main(*one, "--replace") == 2
    assert path.read_text() == "my notes"
    assert "is not a price lock" in capsys.readouterr().err
    assert run_main("prices", "lock", "-o", str(tmp_path / "no" / "trainfare.lock")) == 2
    assert run_main("prices", "lock", "--provider", "awz", "-o", str(tmp_path / "x.lock")) == 2


def test_same_commit_and_lock_same_bytes_anywhere(
    tmp_path: Path, job: str, record_property: Callable[[str, object], None]
) -> None:
    """Lock and answers are the same in another process, time zone, locale, hash seed and year."""
    outputs: list[bytes] = []
    for number, (zone, language, seed) in enumerate([("UTC", "C", "0"), ("Asia/Tokyo", "C.UTF-8", "1")]):
        lock = tmp_path / f"{number}.lock"
        environment = {**os.environ, "TZ": zone, "LC_ALL": language, "PYTHONHASHSEED": seed}
        wanted = ["--accelerator", "H100", "--as-of", "2026-11-24", "-o", str(lock)]
        later = ["--as-of", "2026-11-25" if number else "2031-01-01", "--lock", str(lock)]
        script = (
            "import sys; from trainfare.cli import main\n"
            "for line in sys.argv[1].split('|'):\n"
            "    try: main(line.split())\n"
            "    except SystemExit as end: assert not end.code, (line, end.code)\n"
        )
        lines = [
            ["prices", "lock", *wanted],
            ["recommend", job, *later, "--format", "json"],
            ["recommend", job, *later],
            ["check", job, "--max-usd", "1000000", *later],
            ["offers", *later],
        ]
        done = subprocess.run(
            [sys.executable, "-c", script, "|".join(" ".join(line) for line in lines)],
            capture_output=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        outputs.append(lock.read_bytes() + done.stdout.replace(str(lock).encode(), b"LOCK"))
    assert outputs[0] == outputs[1]
    record_property("{} processes compared in pairs", len(outputs))
    record_property(
        "{} bytes of answers equal in another process, time zone, locale and hash seed", len(outputs[0])
    )


def test_fare_meter_takes_its_prices_from_the_lock(tmp_path: Path, job: str) -> None:
    """The ranking at the end and the dollars while training, from the one file."""
    from trainfare.meter.services import MeterServices
    from trainfare.meter.settings import MeterSettings
    from trainfare_core.job_profile import JobProfile

    lock = write(tmp_path, SMALL)
    profile = JobProfile.from_json(Path(job).read_text(encoding="utf-8"), where=job)
    answer = MeterServices().recommend(profile, MeterSettings(price_lock=str(lock)))
    assert {option.instance_type for option in answer.options} <= {
        row[2] for row in small_market().frame.rows()
    }
    assert any("locked on 2026-11-24" in line for line in answer.assumptions)
    assert MeterServices().usd_per_hour("aws:p5.48xlarge@us-east-1", str(lock), HANG_S) == 55.04
    with pytest.raises(PriceLockError):
        MeterServices().recommend(profile, MeterSettings(price_lock=str(tmp_path / "none.lock")))


def test_fare_meter_ranks_with_a_quota_and_the_value_of_an_hour(tmp_path: Path, job: str) -> None:
    """A machine over the quota is rejected with the reason, and the best value comes first, as `recommend` does it."""
    from trainfare.meter.services import MeterServices
    from trainfare.meter.settings import MeterSettings
    from trainfare_core.job_profile import JobProfile

    lock, quota = str(write(tmp_path, SMALL)), tmp_path / "quota.toml"
    quota.write_text('[[quota]]\nprovider = "aws"\nfamily = "p"\nvcpus = 0\n', encoding="utf-8")
    profile = JobProfile.from_json(Path(job).read_text(encoding="utf-8"), where=job)
    free = MeterServices().recommend(profile, MeterSettings(price_lock=lock))
    limited = MeterServices().recommend(
        profile, MeterSettings(price_lock=lock, quota=str(quota), value_usd_per_hour=20.0)
    )
    assert free.objective == "cheapest"
    assert any(option.instance_type.startswith("p") for option in free.options)
    assert (limited.objective, limited.constraints.value_usd_per_hour) == ("best_value", 20.0)
    assert not any(option.instance_type.startswith("p") for option in limited.options)
    assert "over_quota" in {rejection.reason for rejection in limited.rejections}
