"""`trainfare recommend`: formats, exit codes, and the same bytes for the same input."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builders.profiles import gpt_profile
from builders.toy_market import small_job
from trainfare.cli import main
from trainfare.cli.limit_options import hours_of
from trainfare_core.errors import InputError
from trainfare_core.ranking.alternatives.why_not import WhyNot
from trainfare_core.recommendation import Recommendation


@pytest.fixture
def job(tmp_path: Path) -> str:
    """A profile of a small GPT on disk."""
    path = tmp_path / "job.json"
    path.write_text(gpt_profile(batch_size=32).to_json(), encoding="utf-8")
    return str(path)


def run(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        main(["recommend", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_json_is_the_recommendation_and_nothing_else(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output parses as the published model, with machines of the three clouds and a marked TPU."""
    assert run(job, "--format", "json") == 0
    answer = Recommendation.from_json(capsys.readouterr().out)
    assert {option.provider for option in answer.options} == {"aws", "azure", "gcp"}
    assert any(option.accelerator.startswith("TPU") and option.needs_porting for option in answer.options)
    assert answer.constraints.max_usd is None


def test_steps_complete_a_profile_that_lacks_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As they do for a script; a profile that says how many it makes refuses others."""
    profile, path = gpt_profile(batch_size=32), tmp_path / "job.json"
    unknown = {"optimizer_steps": None, "unknown_because": "a loop of its own"}
    path.write_text(profile.model_copy(update={"plan": profile.plan.model_copy(update=unknown)}).to_json())
    assert run(str(path), "--steps", "93750", "--format", "json") == 0
    answer = Recommendation.from_json(capsys.readouterr().out)
    assert (answer.job.optimizer_steps, answer.basis) == (93750, "whole_run")
    known = {"optimizer_steps": 640, "unknown_because": None}
    path.write_text(profile.model_copy(update={"plan": profile.plan.model_copy(update=known)}).to_json())
    assert run(str(path), "--steps", "93750") == 2
    assert "says how many steps it makes: 640; leave out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "mark"), [("table", "cheapest"), ("markdown", "|"), ("html", "<!doctype html>")]
)
def test_other_formats_are_rendered(
    job: str, form: str, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each format goes to standard output."""
    assert run(job, "--format", form) == 0
    assert mark in capsys.readouterr().out.lower()


def test_options_reach_the_ranking(job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option is recorded in the answer or visible in its options."""
    (tmp_path / "quota.toml").write_text('[[quota]]\nprovider = "AWS"\nfamily = "g5"\nvcpus = 64\n')
    code = run(
        job, "--format", "json", "--provider", "aws", "--provider", "gcp", "--region", "us-east-1", "--region",
        "us-central1", "--purchase", "on_demand", "--max-usd", "5000", "--deadline", "30d", "--objective", "fastest",
        "--max-nodes", "1", "--value-per-month", "500", "--limit", "2", "--confidence", "0.8", "--all-regions",
        "--service", "ec2", "--service", "gce", "--instance-type", "g5", "--instance-type", "g2-standard-4",
        "--accelerator", "A10G", "--accelerator", "L4", "--exclude", "g5.48xlarge", "--no-porting",
        "--keep-plan", "--allow", "batch-norm", "--max-hours", "700", "--max-accelerators", "8", "--min-network-gbit", "2",
        "--residency", "us", "--scale", "batch", "--critical-batch", "64..256", "--data-in", "aws:us-east-1", "--data-gb", "3",
        "--value-per-hour", "1.5", "--quota", str(tmp_path / "quota.toml"),
    )  # fmt: skip
    assert code == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["constraints"].pop("run_cost")["checkpoints_kept"] == 2
    assert answer["constraints"] == {
        "max_usd": 5000.0,
        "deadline_hours": 720.0,
        "value_usd_per_month": 500.0,
        "value_usd_per_hour": 1.5,
        "confidence": 0.8,
        "providers": ["aws", "gcp"],
        "regions": ["us-east-1", "us-central1"],
        "purchase": ["on_demand"],
        "use": None,
        "all_clouds": False,
        "accelerators": ["A10G-24GB", "L4-24GB"],
        "services": ["ec2", "gce"],
        "instance_types": [
            *(f"g5.{size}xlarge" for size in ("12", "16", "24", "2", "48", "4", "8", "")),
            "g2-standard-4",
        ],
        "excluded": ["g5.48xlarge"],
        "no_porting": True,
        "keep_plan": True,
        "allow": ["batch-norm"],
        "scale": "batch",
        "critical_batch": "64..256",
        "max_run_hours": 700.0,
        "max_usd_per_hour": None,
        "max_accelerators": 8,
        "max_nodes": 1,
        "quotas": [
            {
                "provider": "aws",
                "service": None,
                "region": None,
                "family": ["g5"],
                "purchase": None,
                "vcpus": 64.0,
                "accelerators": None,
                "machines": None,
            }
        ],
        "min_network_gbit_per_s": 2.0,
        "residency": ["us"],
        "data_in": "aws:us-east-1",
        "data_gb": 3.0,
    }
    assert {option["accelerator"] for option in answer["options"]} <= {"A10G-24GB", "L4-24GB"}
    assert answer["objective"] == "fastest"
    assert {option["nodes"] for option in answer["options"]} == {1}
    assert {option["region"] for option in answer["options"]} <= {"us-east-1", "us-central1"}
    assert not any("cheapest region" in line for line in answer["assumptions"])


def test_a_value_of_an_hour_asks_for_the_best_value(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without another objective; the first screen names it first, and `why` compares with it."""
    assert run(job, "--value-per-hour", "40", "--no-porting") == 0  # what porting would gain takes the room
    screen = capsys.readouterr().out
    assert screen.startswith(("Best value", "Cheapest and best value", "Best value and"))
    assert "each hour less is worth $40.00" in screen
    with pytest.raises(SystemExit, match="0"):
        main(["why", "T4", job, "--value-per-hour", "40"])
    why = capsys.readouterr().out
    assert "the best value" in why
    assert "Plan changes: micro-batch" in why
    assert run(job, "--objective", "best_value") == 2
    assert "value_usd_per_hour" in capsys.readouterr().err


def test_nothing_feasible_ends_with_three_and_says_why(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON is still written, and the error names the nearest miss."""
    assert run(job, "--format", "json", "--max-usd", "0.01") == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["options"] == []
    assert "over the budget of 0.01" in captured.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--provider", "awz"), "aws"),
        (("--region", "us-east-9"), "us-east-1"),
        (("--purchase", "sport"), "spot"),
        (("--max-usd", "nan"), "max_usd"),
        (("--max-usd=-1",), "max_usd"),
        (("--deadline", "soon"), "--deadline"),
        (("--confidence", "2"), "confidence"),
    ],
)
def test_bad_usage_ends_with_two(
    job: str, arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown names and impossible numbers are named on standard error, and nothing is printed."""
    assert run(job, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert word in captured.err


def test_a_file_that_is_no_profile_ends_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, empty and foreign files have errors different from that of an untraceable job."""
    foreign = tmp_path / "other.json"
    foreign.write_text('{"a": 1}', encoding="utf-8")
    assert run(str(foreign)) == 2
    assert run(str(tmp_path / "absent.json")) == 2
    assert "other.json" in capsys.readouterr().err


def test_output_goes_to_a_new_file_only(job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-o writes the file and keeps standard output clean; a second time it refuses."""
    out = tmp_path / "answer.json"
    assert run(job, "--format", "json", "-o", str(out)) == 0
    assert capsys.readouterr().out == ""
    written = out.read_bytes()
    Recommendation.from_json(written)
    assert run(job, "--format", "json", "-o", str(out)) == 2
    assert out.read_bytes() == written
    assert run(job, "-o", str(tmp_path / "no" / "such" / "folder.txt")) == 2


def test_tables_in_files_are_plain_text(job: str, tmp_path: Path) -> None:
    """A table in a file has no control bytes."""
    out = tmp_path / "answer.txt"
    assert run(job, "-o", str(out)) == 0
    assert "\x1b" not in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("12", 12),
        ("12h", 12),
        ("1.5 h", 1.5),
        ("2d", 48),
        ("90m", 1.5),
        ("90M", 1.5),
        (" 3h ", 3),
        ("2w", 336),
        ("1d12h", 36),
        ("1h 30m", 1.5),
        ("0", 0),
        (None, None),
    ],
)
def test_deadlines_are_hours_unless_they_say_otherwise(text: str | None, hours: float | None) -> None:
    """Hours by default; minutes, hours and days by letter."""
    assert hours_of(text) == hours


@pytest.mark.parametrize(
    "text", ["", "h", "-1", "1e9", "nan", "inf", "1_000", "١٢", "2y", "1h30", "12 hours", "1" * 20]
)
def test_other_deadlines_are_refused(text: str) -> None:
    """Nothing is guessed: no exponents, no NaN, no foreign digits, no other units."""
    with pytest.raises(InputError, match="--deadline"):
        hours_of(text)


def test_same_bytes_in_two_processes(tmp_path: Path) -> None:
    """Hash seed, time zone and locale change nothing in the JSON."""
    path = tmp_path / "job.json"
    path.write_text(small_job(checkpoint_bytes=10**9, validation_batches=100).to_json(), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "trainfare",
        "recommend",
        str(path),
        "--format",
        "json",
        "--max-usd",
        "5000",
    ]
    outputs = []
    for seed, zone, locale in (("0", "UTC", "C.UTF-8"), ("1", "Asia/Tokyo", "C")):
        settings = {
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "LC_ALL": locale,
            "POLARS_MAX_THREADS": "1" if seed == "0" else "2",
        }
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b'"rank"') > 10


def test_the_reason_is_said_once_and_the_nearest_runs_have_flags(
    job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report begins with the reason, names the flag that admits a run, and the error does not repeat it."""
    assert run(job, "--max-usd", "0.01", "--accelerator", "H100") == 3
    captured = capsys.readouterr()
    assert captured.out.startswith("No answer, because no machine is left")
    assert captured.err == "error: no machine is left; the report says why\n"
    text = " ".join(captured.out.split())
    assert len(re.findall(r"at its price of 20\d\d", text)) >= 1
    assert text.count("--purchase spot") <= 1
    flag = re.search(r"^--max-usd ([0-9.]+): lowest cost kept with 90 %, ", captured.out, re.MULTILINE)
    assert flag is not None
    assert run(job, "--max-usd", flag[1], "--accelerator", "H100") == 0


def test_names_may_be_repeated_or_separated_by_commas(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same answer either way; a name that is none is named alone."""
    both = [
        [
            "--provider",
            "aws",
            "--provider",
            "gcp",
            "--exclude",
            "us-east-1",
            "--allow",
            "batch",
            "--allow",
            "plan",
        ],
        ["--provider", "aws, gcp", "--exclude", "us-east-1", "--allow", "batch,plan"],
    ]
    answers = []
    for arguments in both:
        assert run(job, "--as-of", "2026-11-24", *arguments) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert run(job, "--allow", "batch,plans") == 2
    assert "allow: 'plans' is not one of" in capsys.readouterr().err
    for empty in ("", "aws,"):  # as of a variable that is not set: no limit would be a wrong answer
        assert run(job, "--provider", empty) == 2
        assert "''" in capsys.readouterr().err


def test_why_answers_about_one_machine(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence with figures, its JSON, and an unknown machine with near names."""

    def why(*arguments: str) -> int:
        try:
            main(["why", *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    assert why("p4d", job) == 0
    assert "aws:p4d.24xlarge@us-east-1 (on demand) costs" in " ".join(capsys.readouterr().out.split())
    assert why("T4", job, "--max-usd", "0.01", "--format", "json") == 0
    answer = WhyNot.model_validate_json(capsys.readouterr().out)
    assert (answer.option, {item.reason for item in answer.rejections}) == (None, {"over_budget", "filtered"})
    assert why("p4d.24xlarge", job, "--max-usd", "0.01") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("p4d.24xlarge is not ranked: ")  # as the cloud spells it
    assert "--max-usd " in shown  # the limit that would admit it
    assert why("p4x.24xlarge", job) == 2
    assert (
        "no price is known for instance type 'p4x.24xlarge'; near names: p4d.24xlarge"
        in capsys.readouterr().err
    )


def test_a_stated_input_pipeline_reaches_every_command(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sample a second on each vCPU is slower than any device; what is not stated is called unknown."""
    machine = ("--instance-type", "g6.xlarge", "--max-nodes", "1")
    assert run(job, *machine) == 0
    assert "The input pipeline is not known and counted as nothing" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run(job, *machine, "--details") == 0
    unknown = capsys.readouterr().out
    assert re.search(r"input pipeline +unknown", unknown)
    assert "--loader-samples-per-s-per-vcpu states what yours makes" in " ".join(unknown.split())
    stated = ("--loader-samples-per-s-per-vcpu", "1")
    assert run(job, *machine, *stated, "--format", "json") == 0
    answer = Recommendation.model_validate_json(capsys.readouterr().out)
    assert {option.bound_by for option in answer.options} == {"input"}
    for arguments in (
        ["check", job, *machine, *stated, "--max-usd", "1e6", "--format", "json"],
        ["why", "g6.xlarge", job, *machine, *stated, "--format", "json"],
        ["predict", job, "--on", "L4", "--vcpus", "4", *stated, "--format", "json"],
    ):
        with contextlib.suppress(SystemExit):
            main(arguments)
        shown = capsys.readouterr().out
        assert "as stated" in shown or re.search(r'"bound_by": ?"input"', shown), arguments
    assert run(job, "--loader-samples-per-s-per-vcpu", "0") == 2
    assert "give a finite number above 0" in capsys.readouterr().err
    assert run(job, *machine, *stated, "--loader-measured-on", "c99.huge") == 2
    assert "the processor of 'c99.huge' is not known" in capsys.readouterr().err
    assert run(job, *machine, "--loader-measured-on", "g6.xlarge") == 2
    assert "give the rate with it" in capsys.readouterr().err
    assert run(job, *machine, *stated, "--loader-measured-on", "g2-standard-12", "--format", "json") == 0
    carried = Recommendation.model_validate_json(capsys.readouterr().out)
    assert carried.options[0].step_s.mid < 0.6 * answer.options[0].step_s.mid  # 304 against 573 a vCPU


def test_force_overwrites_and_limit_0_is_all(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An existing file is refused with the flag that overwrites it; `--limit 0` lists every row."""
    out = tmp_path / "answer.txt"
    asked = (job, "--provider", "aws", "-o", str(out))
    assert run(*asked) == 0
    assert run(*asked, "--limit", "0") == 2
    assert "--force" in capsys.readouterr().err
    assert run(*asked, "--limit", "0", "--force") == 0
    capsys.readouterr()
    assert run(job, "--provider", "aws", "--limit", "0", "--format", "json") == 0
    options = Recommendation.from_json(capsys.readouterr().out).options
    assert len(options) > 20
    assert re.search(rf"^ *{len(options)} ", out.read_text(encoding="utf-8"), re.MULTILINE)


def test_csv_has_a_row_for_each_option(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of JSON, an interval has three columns."""
    assert run(job, "--provider", "gcp", "--format", "json") == 0
    options = Recommendation.from_json(capsys.readouterr().out).options
    assert run(job, "--provider", "gcp", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["rank"]) for row in rows] == [option.rank for option in options]
    for row, option in zip(rows, options, strict=True):
        assert (row["instance_type"], row["region"]) == (option.instance_type, option.region)
        shown = [float(row[f"run_usd{end}"]) for end in ("", "_low_80", "_high_80")]
        assert shown == [option.run_usd.mid, option.run_usd.low_80, option.run_usd.high_80]
        energy = option.energy
        assert energy is not None
        assert row["kwh"] == ("" if energy.kwh is None else str(energy.kwh.mid))
        assert row["kg_co2e_high_80"] == ("" if energy.kg_co2e is None else str(energy.kg_co2e.high_80))
        assert row["energy_unknown_because"] == energy.unknown_because
        assert all(f"({factor.source}, {factor.year})" in row["energy_factors"] for factor in energy.factors)
