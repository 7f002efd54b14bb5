"""`trainfare decline ...` as a user runs it: tables that can be read, JSON of the published schema, errors in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from builders.cli import capture_main
from builders.decline_figures import HARD_DISKS, PHOTOVOLTAICS
from builders.toy_market import small_job
from trainfare import recommend
from trainfare.cli.decline import app
from trainfare_core.errors import InputError

SCHEMAS = Path(__file__).parents[3] / "docs" / "schema"
GPT3 = "2020-05-28,3.14e23,1.5,125,0.224"
MOSAIC = "2022-09-29,1.098e23,2.0,312,0.4345,450000"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(name: str, *arguments: str) -> Any:
    """The JSON of a command, checked against its published schema."""
    text = run(*arguments, "--format", "json")
    found = json.loads(text)
    schema = json.loads((SCHEMAS / f"{name}-1.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(found)
    assert text == run(*arguments, "--format", "json")
    return found


@pytest.fixture
def disks(tmp_path: Path) -> str:
    """A CSV of hard-disk prices with what was shipped."""
    path = tmp_path / "disks.csv"
    lines = [f"{year},{cost},{value}" for year, cost, value in HARD_DISKS]
    path.write_text("\n".join(["date,cost,production", *lines]) + "\n", encoding="utf-8")
    return str(path)


def test_claims_name_the_impossible_triple_and_consistent_ones() -> None:
    """Every figure with its verdict; what is off says by how much and why."""
    text = run("claims")
    for words in ("impossible, the two make 77.2 %", "(43, 47, 70), (57, 30, 70), (57, 47, 77)", "off: 1.86 times more",
                  "P11: 70 % a year makes $1.1M", "68.7 % a year", "off: 7.53 times less", "$4,600,000", "$5,525 a day"):  # fmt: skip
        assert words in text, words
    found = document("decline-claims", "claims")
    assert len(found["claims"]) == 31
    assert found["impossible_triple"]["residual"] == pytest.approx(-7.21)


def test_forecast_from_published_rates() -> None:
    """The same computation falls by 26 % a year with wide bands; the same quality faster."""
    text = run("forecast", "--cost", "450000", "--date", "2022", "--until", "2025.5")
    assert "$450,000 in 2022; the median falls by 26 % a year." in text
    assert "2025.5" in text
    assert "$145,608 - $763,242" in text
    found = document(
        "decline-forecast", "forecast", "--cost", "100", "--date", "2026-01", "--until", "2028",
        "--question", "quality", "--domain", "vision",
    )  # fmt: skip
    assert (found["law"], found["question"], len(found["years"])) == ("priors", "quality", 2)
    first = found["years"][0]
    assert (
        first["within_90"]["low"] < first["within_50"]["low"] < first["median"] < first["within_50"]["high"]
    )
    assert found["informative"]


def test_uninformative_forecasts_say_so() -> None:
    """Eight years of the widest published interval: no one may act on that."""
    text = run("forecast", "--cost", "450000", "--date", "2022", "--until", "2030", "--question", "quality")
    assert "uninformative" in text


def test_forecast_of_a_series_in_time_and_experience(disks: str) -> None:
    """A fitted series, with Moore's and with Wright's law."""
    found = document("decline-forecast", "forecast", "--series", disks, "--until", "2010")
    assert (found["law"], found["year_now"], len(found["years"])) == ("moore", 2007, 3)
    assert found["decline_per_year"] == pytest.approx(0.448, abs=0.001)
    text = run("forecast", "--series", disks, "--law", "wright", "--until", "2009")
    assert "Production is forecast" in text


def test_a_rising_series_comes_out_rising(tmp_path: Path) -> None:
    """No decline is forced: an H100 contract of 2025-26 rises."""
    path = tmp_path / "h100.csv"
    path.write_text("date,cost\n2025-10,1.70\n2026-06,2.65\n", encoding="utf-8")
    text = run("forecast", "--series", str(path), "--until", "2027-06")
    assert "the median rises by" in text


def test_wait_decides_only_where_it_can() -> None:
    """The number of the specification, a clear now, and cannot tell between."""
    found = document(
        "decline-wait", "wait", "--cost", "450000", "--value-per-month", "16666.6667", "--yearly-decline", "70",
        "--run-days", "36.525", "--obsolete-years", "10",
    )  # fmt: skip
    assert found["decision"] == "wait"
    assert round(found["best_start_years"]["at_50"], 4) == 0.9023
    assert run("wait", "--cost", "450000", "--value-per-month", "15000").startswith("Cannot tell.")
    now = run("wait", "--cost", "450000", "--value-per-month", "50000")
    assert now.startswith("Train now.")
    assert now.count("lost by starting") == 1
    quality = run("wait", "--cost", "450000", "--value-per-month", "15000", "--question", "quality")
    assert quality.startswith("Wait.")
    assert "lost by starting in" in quality


def test_a_job_has_its_own_cost_length_and_date() -> None:
    """Those of the cheapest run that `recommend` finds, in place of --cost, --run-days and --date."""
    job = Path(__file__).parents[3] / "docs" / "examples" / "resnet50.json"
    best = recommend(job).best("cheapest")
    assert best is not None
    cost, days = f"{best.run_usd.mid!r}", f"{best.run_hours.mid / 24!r}"
    value = ("--value-per-month", "60", "--format", "json")
    assert run("wait", str(job), *value) == run("wait", "--cost", cost, "--run-days", days, *value)
    until = ("--until", "2030", "--format", "json")
    by_hand = run("forecast", "--cost", cost, "--date", best.price_observed_on, *until)
    assert run("forecast", str(job), *until) == by_hand


def test_a_job_without_a_length_has_no_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a cost taken beside a job's own."""
    path = tmp_path / "endless.json"
    path.write_text(small_job(steps=None).to_json())
    assert capture_main(capsys, "decline", "wait", str(path), "--value-per-month", "60").exit_code == 3
    both = capture_main(capsys, "decline", "wait", str(path), "--cost", "5", "--value-per-month", "60")
    assert (both.exit_code, both.stderr) == (2, "error: decline wait: give a TARGET or --cost\n")
    dated = capture_main(capsys, "decline", "forecast", str(path), "--date", "2026", "--until", "2030")
    assert dated.exit_code == 2


def test_decompose_gives_the_published_shares() -> None:
    """GPT-3 quality 2020 to 2022: 44.9, -12.3, 39.1 and 28.3 %."""
    text = run("decompose", "--from", GPT3, "--to", MOSAIC)
    for words in ("44.9 %", "-12.3 %", "39.1 %", "28.3 %", "10.4 times"):
        assert words in text, words
    found = document("decline-decomposition", "decompose", "--from", GPT3, "--to", MOSAIC)
    assert found["parts"][-1]["share"] == pytest.approx(1)
    big = run("decompose", "--from", "2019,1e24,8,100,0.2", "--to", "2026,1e20,8,100,0.2")
    assert "10,000 times" in big


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("forecast", "--until", "2030"), "--cost with --date, or --series"),
        (("forecast", "--cost", "1", "--until", "2030"), "--cost with --date"),
        (("forecast", "--cost", "1", "--date", "2022", "--until", "2020"), "after 2022"),
        (("forecast", "--cost", "1", "--date", "2022", "--until", "2100"), "at most 50"),
        (("forecast", "--cost", "-1", "--date", "2022", "--until", "2030"), "cost"),
        (("forecast", "--cost", "1", "--date", "then", "--until", "2030"), "'then'"),
        (("forecast", "--series", "nowhere.csv", "--until", "2030"), "cannot be read"),
        (("wait", "--cost", "0", "--value-per-month", "1"), "cost 0"),
        (("wait", "--cost", "1", "--value-per-month", "1", "--yearly-decline", "100"), "decline"),
        (("wait", "--cost", "1e308", "--value-per-month", "1e308"), "no finite number"),
        (("wait", "--cost", "1", "--value-per-month", "1", "--yearly-decline", "-1e300"), "no finite number"),
        (("decompose", "--from", "2020,1e-300,1e300,1e-300,0.1", "--to", "2021,1e300,1e-300,1,0.2"), "no finite number"),
        (("decompose", "--from", "2020,1", "--to", MOSAIC), "--from"),
        (("decompose", "--from", f"{GPT3},1,2", "--to", MOSAIC), "at most 6"),
        (("decompose", "--from", GPT3, "--to", MOSAIC.replace("450000", "500000")), "not FLOP"),
        (("decompose", "--from", MOSAIC, "--to", GPT3), "not after"),
    ],
)  # fmt: skip
def test_wrong_input_says_what_to_do(arguments: tuple[str, ...], words: str) -> None:
    """Each is our InputError, which ends with 2."""
    with pytest.raises(InputError, match=words):
        run(*arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"date,price\n2020,1\n", "columns"),
        (b"", "columns"),
        (b"date,cost\n2020,one\n", "not a number"),
        (b"date,cost\n2020\n", "not a number"),
        (b"cost,date\n1\n2\n", "date: ''"),
        (b"date,cost\r2020,1\r", "line 1 is not CSV"),
        (b"date,cost\n2020,1\n2021," + b"9" * 140_000 + b"\n", "line 3 is not CSV"),
        (b"date,cost\n2020,1e-300\n2021,1e300\n", "no finite number"),
        (b"date,cost\n2020,1\n", "at least 2"),
        (b"date,cost\n2021,1\n2020,1\n", "rise"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"date,cost\n" + b" " * (10 * 2**20), "larger than"),
    ],
)  # fmt: skip
def test_wrong_series_are_refused(text: bytes, words: str, tmp_path: Path) -> None:
    """A file that is no series of costs."""
    path = tmp_path / "series.csv"
    path.write_bytes(text)
    with pytest.raises(InputError, match=words):
        run("forecast", "--series", str(path), "--until", "2030")


def test_wright_needs_production(tmp_path: Path) -> None:
    """Moore's law fits photovoltaics without amounts, Wright's says what is missing."""
    path = tmp_path / "solar.csv"
    path.write_text("\n".join(["date,cost", *(f"{y},{c}" for y, c in PHOTOVOLTAICS)]), encoding="utf-8")
    assert "10 % a year" in run("forecast", "--series", str(path), "--until", "2015")
    with pytest.raises(InputError, match="production"):
        run("forecast", "--series", str(path), "--until", "2015", "--law", "wright")


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--cost", "-5", "--cost -5: must be above 0"),
        ("--discount", "0", "--discount 0: must be above 0"),
        ("--run-days", "-1", "--run-days -1: must not be below 0"),
        (
            "--yearly-decline",
            "120",
            "--yearly-decline 120: leaves nothing; give less than 100 percent a year",
        ),
    ],
)
def test_a_wrong_number_is_named_by_its_flag(
    capsys: pytest.CaptureFixture[str], flag: str, value: str, message: str
) -> None:
    """First and alone, in the unit of the flag."""
    given = {"--cost": "100", "--value-per-month": "10", flag: value}
    done = capture_main(capsys, "decline", "wait", *(text for pair in given.items() for text in pair))
    assert (done.exit_code, done.stderr) == (2, f"error: {message}\n")
