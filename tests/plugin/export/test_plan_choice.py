"""`trainfare export`: which plan is taken by which name, what is refused, and what stands above every file."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from builders.cli import run_main
from builders.exports import PROFILES, answer_of, plan, read_prediction, small_answer
from trainfare.export import TARGETS, choose_plan, export_plan, list_fill_ins, read_launch
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Launch, Note, PricedPlan, Recommendation

LLAMA = "llama-7b"
"""Its rank 27 is a TPU slice, on which the script does not run as it is."""


@pytest.mark.parametrize(
    ("name", "rank"),
    [("cheapest", 1), ("runner-up", 2), ("fastest", 12), ("best-value", 12), ("7", 7)],
)
def test_a_plan_is_taken_by_its_name(name: str, rank: int) -> None:
    """The names are those of the answer's own fields, not places in its list."""
    answer = answer_of(LLAMA)
    named = {
        "cheapest": answer.cheapest_rank,
        "fastest": answer.fastest_rank,
        "best-value": answer.best_value_rank,
        "runner-up": answer.runner_up and answer.runner_up.rank,
        "7": 7,
    }
    assert named[name] == rank
    chosen = choose_plan(answer, name, Launch()).option
    assert chosen == next(option for option in answer.options if option.rank == rank)


def test_an_answer_whose_plan_has_another_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would become a part of names and labels."""
    text = answer_of(LLAMA).to_json()
    (tmp_path / "answer.json").write_text(re.sub(r'"plan_id": ?"[0-9a-f]{12}"', '"plan_id": "a; rm"', text))
    assert run_main("export", tmp_path / "answer.json", "--to", "torchrun") == 2
    assert "plan_id" in capsys.readouterr().err


def test_a_file_that_is_there_is_refused_without_a_word_of_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`export` has no `--force`."""
    (tmp_path / "answer.json").write_text(answer_of(LLAMA).to_json())
    assert (
        run_main("export", tmp_path / "answer.json", "--to", "torchrun", "-o", tmp_path / "answer.json") == 2
    )
    assert capsys.readouterr().err.endswith("answer.json: exists already; name another file\n")


def test_the_spot_plan_is_not_one_of_the_options() -> None:
    """The best spot machine stands beside the ranking of machines on demand."""
    answer = answer_of(LLAMA)
    assert choose_plan(answer, "spot", Launch()).option == answer.best_spot
    assert choose_plan(answer, "other-clouds", Launch()).option == answer.other_clouds
    assert answer.best_spot is not None
    assert answer.best_spot.purchase_option == "spot"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("27", "the script does not run on gcp:v5p-8@us-central1 as it is; --porting"),
        ("own", "--plan own: the answer has none"),
        ("99", "--plan 99: the answer has none"),
        ("cheap", "give one of cheapest, best-value, own, runner-up, fastest, spot, other-clouds, or a rank"),
    ],
)
def test_a_plan_that_cannot_be_taken_is_refused(name: str, said: str) -> None:
    """Also a machine that the script does not run on."""
    with pytest.raises(InputError, match=re.escape(said)):
        choose_plan(answer_of(LLAMA), name, Launch())
    if name == "27":
        assert choose_plan(answer_of(LLAMA), name, Launch(), porting=True).option.rank == 27


def test_an_answer_of_an_older_version_is_refused() -> None:
    """Without the id of its plan the run could not be found again."""
    answer = small_answer()
    older = answer.model_copy(update={"options": (answer.options[0].model_copy(update={"plan_id": ""}),)})
    with pytest.raises(InputError, match="older trainfare"):
        choose_plan(older, "cheapest", Launch())


def test_alternatives_run_the_same_plan() -> None:
    """One file has one command and one number of machines: another plan is no alternative."""
    chosen = choose_plan(answer_of(LLAMA), "cheapest", Launch())
    assert [option.rank for option in chosen.alternatives] == [2, 4, 8, 9, 14, 21, 23]
    assert {option.trainer for option in chosen.alternatives} == {chosen.option.trainer}


def test_the_id_is_of_the_plan_and_its_price() -> None:
    """The same plan has the same id in every answer; another price or another job has another one."""
    one, again = small_answer(), small_answer(command=None)
    assert one.options[0].plan_id == again.options[0].plan_id
    assert re.fullmatch(r"[0-9a-f]{12}", one.options[0].plan_id)
    costlier = small_answer(usd=99.0)
    job = one.model_copy(update={"job": one.job.model_copy(update={"name": "Other"})}).identify_plans()
    assert len({one.options[0].plan_id, costlier.options[0].plan_id, job.options[0].plan_id}) == 3


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("profile", PROFILES)
def test_exported_hours_and_dollars_are_the_answers(
    profile: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every job of docs/examples that has a plan on the target's services, within SageMaker's 512 characters."""
    monkeypatch.chdir(tmp_path)
    answer = answer_of(profile, *sorted(TARGETS[target][1]))
    best = answer.best("cheapest")
    if best is None:
        with pytest.raises(InputError):
            export_plan(answer, target, "cheapest")
        return
    if target == "sagemaker" and best.run_hours.high_80 > 500:
        with pytest.raises(InputError, match="ends a job after 28 days"):
            export_plan(answer, target, "cheapest")
        return
    files = export_plan(answer, target, "cheapest")
    prediction = read_prediction(files.text)
    assert prediction is not None
    hours, dollars = best.run_hours, best.run_usd
    assert prediction.hours == (hours.low_80, hours.mid, hours.high_80)
    assert prediction.usd == (dollars.low_80, dollars.mid, dollars.high_80)
    assert (prediction.id, prediction.machine) == (best.plan_id, best.machine)
    assert len(prediction.to_text()) <= 512


def test_the_steps_are_those_of_the_plan_and_not_of_the_script_on_one_device() -> None:
    """Eight devices that keep their batch make an eighth of the steps, in the hours beside them."""
    (option, *_) = small_answer().options
    eight = option.model_copy(update={"optimizer_steps": 112_680.0})
    assert PricedPlan.from_option(eight, 900_900).steps == 112_680
    assert (
        PricedPlan.from_option(option.model_copy(update={"optimizer_steps": None}), 900_900).steps == 900_900
    )


def test_a_long_strategy_is_left_out_of_the_variable() -> None:
    """512 characters are SageMaker's limit; the id and the dollars stay."""
    long = small_answer(trainer=plan(strategy=f"FSDPStrategy(policy={{{', '.join(['Block'] * 90)}}})"))
    text = PricedPlan.from_option(long.options[0]).to_text()
    assert len(text) <= 512
    short = PricedPlan.from_text(text)
    assert short is not None
    assert short.strategy is None
    assert short.usd is not None


def test_what_is_to_be_filled_in_stands_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is asked for no more where the settings state it."""
    monkeypatch.chdir(tmp_path)
    answer = small_answer(command=None)
    files = export_plan(answer, "torchrun", "cheapest")
    lines = files.text.splitlines()
    assert lines[1].startswith("# Fill in FILL_IN_COMMAND: ")
    assert [f"# {line}" for line in list_fill_ins(files.text)] == [lines[1]]
    Path("trainfare.toml").write_text("[export]\ncommand = \"other.py --lr '0 1'\"\n")
    stated = export_plan(answer, "torchrun", "cheapest")
    assert "FILL_IN" not in stated.text
    assert shlex.split(stated.text.splitlines()[-1]) == ["other.py", "--lr", "0 1"]


def test_a_policy_may_have_the_settings_of_an_export(tmp_path: Path) -> None:
    """The table stands beside the limits, and an unknown key in it is refused with the keys that it may have."""
    from trainfare.policy import read_policy

    path = tmp_path / "trainfare.toml"
    path.write_text('[export]\nimage = "repo/image:1"\n[jobs.a]\ntarget = "a.py"\nmax_usd = 1\n')
    assert read_policy(path).policy.export.image == "repo/image:1"
    path.write_text('[export]\nimages = "repo/image:1"\n[jobs.a]\ntarget = "a.py"\nmax_usd = 1\n')
    with pytest.raises(InputError, match=r"\[export\].*image"):
        read_policy(path)
    with pytest.raises(InputError, match=r"table export.*image"):
        read_launch("train.py", tmp_path)


@pytest.mark.parametrize(
    ("target", "command", "flags"),
    [
        ("train.py -- --name 'a b'", "train.py --name 'a b'", False),
        ("-m package.train", "-m package.train", False),
        ("train.py:job", None, False),
        ("notebook.ipynb", None, False),
        ("configs/run.yaml", "FILL_IN_SCRIPT.py fit --config configs/run.yaml", True),
        ("profile.json", None, False),
    ],
)
def test_the_command_of_a_target(target: str, command: str | None, flags: bool, tmp_path: Path) -> None:
    """What follows `python` for a script, its module or a LightningCLI's configuration; else it is not known."""
    launch = read_launch(target, tmp_path)
    assert (launch.command, launch.trainer_flags, launch.project) == (command, flags, tmp_path.name)


def test_a_lightning_cli_takes_the_plan_as_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's Trainer cannot be changed from outside; LightningCLI's is by its flags."""
    monkeypatch.chdir(tmp_path)
    answer = small_answer().model_copy(update={"launch": Launch(command="cli.py fit", trainer_flags=True)})
    words = shlex.split(export_plan(answer, "torchrun", "cheapest").text.splitlines()[-1])
    assert words == [
        "cli.py", "fit", "--trainer.devices=2", "--trainer.num_nodes=1", "--trainer.strategy=ddp",
        "--trainer.precision=32-true", "--trainer.accumulate_grad_batches=1",
    ]  # fmt: skip


def test_names_of_an_answer_are_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's name or an argument ends neither a comment nor a quotation."""
    monkeypatch.chdir(tmp_path)
    answer = small_answer(command="train.py '$(touch pwned)' '`touch pwned`' 'a\nb'")
    answer = answer.model_copy(
        update={"job": answer.job.model_copy(update={"name": "a\ntouch pwned\n\x1b[31m"})}
    )
    text = export_plan(answer, "torchrun", "cheapest").text
    assert not [line for line in text.splitlines() if line.startswith("touch")]
    assert "\x1b" not in text
    tail = text[text.index("exec ") :].replace("\\\n", "")
    assert shlex.split(tail)[-3:] == ["$(touch pwned)", "`touch pwned`", "a\nb"]


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is written once and never over another; what to fill in goes to standard error too."""
    monkeypatch.chdir(tmp_path)
    Path("answer.json").write_text(small_answer(command=None).to_json())
    assert run_main("export", "answer.json", "--to", "torchrun", "-o", "run.sh") == 0
    assert Path("run.sh").read_text().startswith("#!/bin/sh\n# Fill in FILL_IN_COMMAND")
    assert "Fill in FILL_IN_COMMAND" in capsys.readouterr().err
    assert run_main("export", "answer.json", "--to", "torchrun", "-o", "run.sh") == 2
    assert run_main("export", "answer.json", "--to", "torchrun", "--plan", "own") == 2
    Path("answer.json").write_text("{}")
    assert run_main("export", "answer.json", "--to", "torchrun") == 2


def test_recommend_writes_what_an_export_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids of the plans, the project and the places of the settings, in the JSON of a profile's ranking."""
    profile = Path(__file__).resolve().parents[3] / "docs" / "examples" / "resnet50.json"
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text(
        '[tool.trainfare.export]\ndata = "s3://b/data"\nrole = "arn:aws:iam::1:role/r"\n'
    )
    assert run_main("recommend", profile, "--format", "json") == 0
    answer = Recommendation.from_json(capsys.readouterr().out)
    assert all(option.plan_id for option in answer.options)
    assert answer.launch is not None
    assert (answer.launch.data, answer.launch.project) == ("s3://b/data", tmp_path.name)
    assert answer.launch.role is None  # an answer is shown to others
    assert json.loads(answer.to_json())["launch"]["command"] is None


def test_what_is_said_above_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Price, interval, chance of the limits, missing quota, and the Trainer that the script must have."""
    monkeypatch.chdir(tmp_path)
    note = Note(kind="quota", name="Running On-Demand G instances", source="a page")
    answer = small_answer(probability_within=0.93, notes=(note,), needs_porting=False)
    limits = answer.constraints.model_copy(update={"max_usd": 20.0, "deadline_hours": 30.0})
    text = export_plan(answer.model_copy(update={"constraints": limits}), "torchrun", "cheapest").text
    for said in (
        "$12.40 [$8.66 – $17.75] in 10.0 h [7.74 – 12.9 h], 80 % intervals.",
        "# Chance to keep $20.00 and 30 h: 93 %.",
        '# New account: its quota "Running On-Demand G instances" is 0, so ask for an increase first. Source: a page.',
        "# The script must have Trainer(devices=2, num_nodes=1, strategy='ddp', precision='32-true', ",
        "accumulate_grad_batches=1), batch size 2 per device.",
        "# It uses 2 of 4 accelerators of each machine: CUDA_VISIBLE_DEVICES hides the others.",
    ):
        assert said in text
