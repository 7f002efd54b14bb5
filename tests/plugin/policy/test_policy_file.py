"""The policy file: found, strict, and clear about what is wrong and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from trainfare.policy import read_policy
from trainfare_core.errors import InputError
from trainfare_providers.disk.toml_file import parse_toml

DOCS = Path(__file__).parents[3] / "docs"
GOOD = """\
confidence = 0.8
on_unknown = "warn"
max_price_age_days = 90
on_stale = "fail"
lock = "trainfare.lock"

[allow]
providers = ["aws"]
purchase = ["on_demand", "spot"]

[jobs.resnet]
target = "train.py:job"
max_usd = 500
max_hours = 12.5
max_increase_percent = 10
allow = { accelerators = ["A100"] }

[jobs."nlp.small"]
target = "package.module:job"
max_usd_per_hour = 40
confidence = 0.95

[[waivers]]
job = "resnet"
rule = "max_usd"
owner = "ml-platform"
reason = "first run"
expires = 2026-12-31
"""
LINES = {text: number for number, text in enumerate(GOOD.splitlines(), start=1)}


def write(folder: Path, text: str, name: str = "trainfare.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def inside_pyproject(text: str) -> str:
    """Return a pyproject.toml whose table [tool.trainfare] is this policy."""
    inner = text.replace("[[waivers", "[[tool.trainfare.waivers")
    inner = inner.replace("\n[jobs", "\n[tool.trainfare.jobs").replace("\n[al", "\n[tool.trainfare.al")
    return f'[project]\nname = "x"\n\n[tool.trainfare]\n{inner}'


def test_the_same_policy_in_both_files(tmp_path: Path) -> None:
    """trainfare.toml has the keys at the top, pyproject.toml in [tool.trainfare]."""
    own = read_policy(write(tmp_path, GOOD)).policy
    project = read_policy(write(tmp_path, inside_pyproject(GOOD), "pyproject.toml")).policy
    assert own == project
    assert list(own.jobs) == ["resnet", "nlp.small"]
    assert own.jobs["resnet"].allow.accelerators == ("A100",)
    assert own.waivers[0].expires == date(2026, 12, 31)


@pytest.mark.parametrize(
    ("was", "now", "line", "words"),
    [
        (
            "max_usd = 500",
            "max_used = 500",
            13,
            r"\[jobs\.resnet\]: unknown key 'max_used'; did you mean max_usd\?",
        ),
        ("max_hours = 12.5", "zzz = 1", 14, r"\[jobs\.resnet\]: unknown key 'zzz'; known are: max_usd, "),
        ("confidence = 0.8", "confidense = 0.8", 1, r"unknown key 'confidense'; did you mean confidence\?"),
        ("[allow]", "[alow]", 7, r"unknown key 'alow'; did you mean allow\?"),
        ("providers =", "provider =", 8, r"\[allow\]: unknown key 'provider'; did you mean providers\?"),
        ("{ accelerators", "{ acelerators", 16, r"\[jobs\.resnet\.allow\]: .*did you mean accelerators\?"),
        ("reason =", "because =", 27, r"\[\[waivers\]\] 1: unknown key 'because'; known are"),
        ('target = "train.py:job"\n', "", 11, r"\[jobs\.resnet\]: target is missing"),
        ("max_usd = 500", 'max_usd = "500"', 13, r"\[jobs\.resnet\]: max_usd: .*number"),
        ("max_usd = 500", "max_usd = true", 13, r"\[jobs\.resnet\]: max_usd: .*number"),
        ("max_usd = 500", "max_usd = nan", 13, r"\[jobs\.resnet\]: max_usd: "),
        ("max_usd = 500", "max_usd = -1", 13, r"max_usd: .*greater than or equal to 0"),
        (
            "max_usd_per_hour = 40\n",
            "",
            18,
            r"\[jobs\.nlp\.small\]: no limit is given; give one or more of max_usd",
        ),
        ('["aws"]', '"aws"', 8, r"\[allow\]: providers: .*array"),
        ('on_unknown = "warn"', 'on_unknown = "ignore"', 2, "on_unknown: .*'pass', 'warn' or 'fail'"),
        ("2026-12-31", "2026-12-31T10:00:00", 28, r"\[\[waivers\]\] 1: expires: .*date"),
        ("2026-12-31", '"soon"', 28, r"\[\[waivers\]\] 1: expires: .*date"),
        (
            'job = "resnet"',
            'job = "resnets"',
            23,
            r"\[\[waivers\]\] 1: no job is named 'resnets'; the jobs are resnet",
        ),
        ('rule = "max_usd"', 'rule = "max_dollars"', 25, r"\[\[waivers\]\] 1: rule: .*'max_usd'"),
        ("[jobs.resnet]", '[jobs."res net"]', 11, r"\[jobs\.res net\]: .*pattern"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    was: str, now: str, line: int, words: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """File, line, table, key, and a near key or what is allowed; in pyproject.toml the line counts there."""
    assert GOOD.count(was) == 1
    text = GOOD.replace(was, now)
    with pytest.raises(InputError, match=words) as own:
        read_policy(write(tmp_path, text))
    assert f"trainfare.toml:{line}: " in str(own.value)
    with pytest.raises(InputError) as raised:
        read_policy(write(tmp_path, inside_pyproject(text), "pyproject.toml"))
    assert f"pyproject.toml:{line + 4}: " in str(raised.value)
    assert str(raised.value).count("[tool.trainfare") >= 1
    record_property("{} wrong files of settings refused, each with what is wrong", len([own, raised]))
    record_property(
        "{} unknown keys in them, each with a near one or the known ones",
        f"{own.value} {raised.value}".count("unknown key"),
    )


def test_a_project_table_in_the_own_file_is_explained(tmp_path: Path) -> None:
    """Who copies the table from pyproject.toml reads where its keys belong."""
    with pytest.raises(InputError, match=r"the keys stand at the top, without \[tool\.trainfare\]"):
        read_policy(
            write(tmp_path, inside_pyproject(GOOD).replace("[project]", "").replace('name = "x"', ""))
        )


def test_where_a_policy_is_looked_for(tmp_path: Path) -> None:
    """In both files of the folder; two are refused, none says how to write one, and other projects' files do not count."""
    with pytest.raises(InputError, match=r"nothing to check.*docs/policy\.md"):
        read_policy(None, tmp_path)
    write(tmp_path, "[project]\nname = 'x'\n", "pyproject.toml")
    with pytest.raises(InputError, match="nothing to check"):
        read_policy(None, tmp_path)
    with pytest.raises(InputError, match=r"no table \[tool\.trainfare\]"):
        read_policy(tmp_path / "pyproject.toml")
    write(tmp_path, GOOD)
    assert read_policy(None, tmp_path).path.name == "trainfare.toml"
    write(tmp_path, inside_pyproject(GOOD), "pyproject.toml")
    with pytest.raises(InputError, match="both hold a policy: keep one"):
        read_policy(None, tmp_path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A file, a profile and a lock lie beside the policy; a module is found from the current folder."""
    file = read_policy(write(tmp_path, GOOD))
    assert file.target_of("resnet") == f"{tmp_path / 'train.py'}:job"
    assert file.target_of("nlp.small") == "package.module:job"
    assert file.beside("trainfare.lock") == tmp_path / "trainfare.lock"
    profile = read_policy(write(tmp_path, '[jobs.a]\ntarget = "job.json"\nmax_usd = 1\n'))
    assert profile.target_of("a") == str(tmp_path / "job.json")
    for target, seen in (
        ("train.py -- --name 'a b'", f"{tmp_path / 'train.py'} -- --name 'a b'"),
        ("-m package.train -- fit", "-m package.train -- fit"),
    ):
        script = read_policy(write(tmp_path, f'[jobs.a]\ntarget = "{target}"\nmax_usd = 1\n'))
        assert script.target_of("a") == seen


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    """Not there, too large, or not TOML."""
    with pytest.raises(InputError, match="cannot be read"):
        read_policy(tmp_path / "none.toml")
    with pytest.raises(InputError, match="not valid TOML"):
        read_policy(write(tmp_path, "a = = 1"))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_policy(write(tmp_path, "#" * (2**20 + 1)))


def schema() -> Draft202012Validator:
    published = json.loads((DOCS / "schema" / "policy-1.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(published)
    return Draft202012Validator(published, format_checker=FormatChecker())


def as_editors_see_it(text: str) -> object:
    """Return TOML as a JSON schema sees it: dates are text."""
    return json.loads(json.dumps(parse_toml(text.encode(), where="test"), default=str))


def test_the_published_schema_accepts_the_file_and_refuses_what_the_model_refuses() -> None:
    """What an editor underlines is what the command refuses."""
    assert schema().is_valid(as_editors_see_it(GOOD))
    for was, now in (
        ("max_usd = 500", "max_used = 500"),
        ("max_usd = 500", 'max_usd = "500"'),
        ("max_usd = 500", "max_usd = -1"),
        ("max_usd_per_hour = 40\n", ""),
        ('target = "train.py:job"\n', ""),
        ('"warn"', '"ignore"'),
        ("2026-12-31", '"soon"'),
        ('rule = "max_usd"', 'rule = "max_dollars"'),
        ("[jobs.resnet]", '[jobs."res net"]'),
        ('["aws"]', "[]"),
    ):
        assert not schema().is_valid(as_editors_see_it(GOOD.replace(was, now))), now


@pytest.mark.sources
def test_the_documented_policies_are_valid(tmp_path: Path) -> None:
    """Each TOML block of docs/policy.md is read, and satisfies the schema."""
    page = (DOCS / "policy.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```toml\n")[1:]]
    assert len(blocks) >= 2
    for block in blocks:
        name = "pyproject.toml" if "[tool.trainfare" in block else "trainfare.toml"
        assert read_policy(write(tmp_path, block, name)).policy.jobs
        document = as_editors_see_it(block)
        assert isinstance(document, dict)
        schema().validate(document["tool"]["trainfare"] if "tool" in document else document)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'target = "train.py:job"',
            r'target = "train\u0000.py:job"',
            "target: a control character is not allowed",
        ),
        ('lock = "trainfare.lock"', r'lock = "a\u0000b"', "lock: a control character is not allowed"),
        ('owner = "ml-platform"', 'owner = " "', "owner: give a text that is not blank"),
        ('reason = "first run"', r'reason = "\t\n"', "reason: give a text that is not blank"),
    ],
)
def test_a_text_that_is_none_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A NUL in a path would end the command with a defect, a blank owner answers for nothing."""
    with pytest.raises(InputError, match=rf"trainfare\.toml:{LINES[old]}: .*{said}"):
        read_policy(write(tmp_path, GOOD.replace(old, new)))


def test_an_unknown_key_is_not_shown_without_end(tmp_path: Path) -> None:
    """A key of a megabyte is named by its first letters."""
    with pytest.raises(InputError) as caught:
        read_policy(write(tmp_path, f"{'k' * 900_000} = 1\n{GOOD}"))
    assert len(str(caught.value)) < 600
