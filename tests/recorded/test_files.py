"""What is said of every file that a user writes, with each of its lines damaged in turn; see `builders.recorded`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from builders.offers import small_market
from builders.recorded import answer_or_error, compare_with_recorded, simplify
from trainfare.cli.limit_options import hours_of, separate
from trainfare.methods.request import fill_question, read_curves, read_strategy_file, request_of
from trainfare.policy import read_policy
from trainfare.policy.target_place import place_of
from trainfare.prices.constraints import read_constraints, with_book_names
from trainfare.prices.lock import LockHeader, lock_text, read_lock
from trainfare.prices.own_prices_file import read_own_prices
from trainfare.prices.quotas import quota_text, read_quotas
from trainfare.prices.run_cost_table import read_run_cost
from trainfare.pull_request.comment import comment_text, cut_text, error_report, mark_of
from trainfare_core.methods.curves import CurvePoint, LearningCurve, Metric
from trainfare_core.methods.question import Question
from trainfare_providers.disk.toml_file import key_hint, line_of_key, parse_toml

POLICY = """\
confidence = 0.8
on_unknown = "warn"
max_price_age_days = 90
on_stale = "fail"
lock = "trainfare.lock"

[allow]
providers = ["aws"]
purchase = ["on_demand", "spot"]

[run_cost]
startup_s = 90
disk_gb_per_s = 0.5

[jobs.resnet]
target = "train.py:job"
max_usd = 500
max_increase_percent = 10
allow = { accelerators = ["A100"] }

[[waivers]]
job = "resnet"
rule = "max_usd"
owner = "ml-platform"
reason = "first run"
expires = 2026-12-31
"""
OWN_PRICES = """\
[[discount]]
name = "Enterprise agreement"
provider = "aws"
percent = 12.5
regions = ["us-east-1"]

[[rate]]
name = "Reservation 4711"
provider = "aws"
service = "ec2"
instance_type = "p5.48xlarge"
region = "us-east-1"
purchase_option = "reserved_1y"
usd_per_hour = 31.50
agreed_on = 2026-09-01
valid_until = 2027-08-31
"""
QUOTAS = """\
[[quota]]
provider = "aws"
region = "us-east-1"
family = "p"
vcpus = 384

[[quota]]
provider = "gcp"
family = ["H100", "H200"]
purchase = "spot"
accelerators = 16
"""
STRATEGY = """\
domain = "nlp-glue"
samples = 60000
metric = "accuracy"
target-value = 0.9
known_value = 0.88
lora-rank = 8
strategies = ["lora", "full_finetune"]
max_usd = 40
providers = "aws"
"""
CURVE = LearningCurve(
    tool_version="0", name="run", strategy="lora", trainable_parameters=10, parameters=100, samples_per_step=8, train_samples=800, planned_steps=90,
    points=(CurvePoint(step=5, metrics=(Metric(name="val_loss", value=0.5),)), CurvePoint(step=9, train_loss=0.25, learning_rate=1e-3)),
)  # fmt: skip
VALUES = (
    "0",
    "-1",
    "1",
    "1.5",
    "1e400",
    "nan",
    "true",
    '""',
    '"x"',
    '"any"',
    "[]",
    '["x"]',
    "{}",
    "2026-02-30",
    "2026-01-01",
    "0x" + "9" * 20,
)


def damage_lines(text: str) -> list[str]:
    """Return a text with each line removed, doubled, misspelt, and with another value."""
    lines, damaged = (
        text.splitlines(),
        [text, "", "x", text + "\n[extra]\na = 1\n", text.replace("\n", "\r\n"), "\ufeff" + text],
    )
    for index, line in enumerate(lines):
        name, equals, _ = line.partition(" = ")
        others = ["", f"{line}\n{line}", line[:-1], f"a{line}", f"{line[:3]}{line[4:]}"]
        others += [f"{name} = {value}" for value in VALUES] if equals else []
        damaged += ["\n".join([*lines[:index], other, *lines[index + 1 :]]) + "\n" for other in others]
    return damaged


def read_each(texts: list[str], read: Callable[[Path], Any], path: Path) -> list[str]:
    """Return what is read from each text, in short where it is no error."""
    answers = []
    for text in texts:
        path.write_text(text, encoding="utf-8", newline="")
        answer = answer_or_error(lambda: read(path))
        if isinstance(answer, str):
            text = answer.replace(str(path.parent), "FOLDER")
            answers.append(
                re.sub(r"(not valid TOML).*", r"\1", text, flags=re.DOTALL)
            )  # the rest is Python's own
        else:
            shown = json.dumps(simplify(answer), sort_keys=True, default=str).replace(
                str(path.parent), "FOLDER"
            )
            answers.append(f"read {hashlib.sha256(shown.encode()).hexdigest()[:8]}")
    return answers


def test_damaged_toml_files(tmp_path: Path) -> None:
    path = tmp_path / "trainfare.toml"
    readers: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "policy": (POLICY, lambda path: read_policy(path).policy),
        "pyproject": ("[tool.other]\na = 1\n", lambda path: read_policy(None, path.parent)),
        "run cost": (POLICY, lambda path: read_run_cost(path.parent)),
        "own prices": (OWN_PRICES, lambda path: read_own_prices(path).prices),
        "quotas": (QUOTAS, read_quotas),
        "strategy": (STRATEGY, lambda path: request_of(read_strategy_file(path), "the file")),
    }
    answers = {name: read_each(damage_lines(text), read, path) for name, (text, read) in readers.items()}
    compare_with_recorded("files", answers)


def test_damaged_locks_and_curves(tmp_path: Path) -> None:
    lock = lock_text(LockHeader(tool_version="1.2.3", locked_on=date(2026, 11, 24), rows=1), small_market())
    lines = lock.splitlines(keepends=True)
    texts = [lock, lock.replace("\n", "\r\n"), lock + "\n", lock[:-1], "", "{}\n"]
    for index, line in enumerate(lines):
        for other in (
            "",
            line * 2,
            line.replace("1", "2", 1),
            line.replace('"', "'", 1),
            line[: len(line) // 2],
            line.replace(": ", ":", 1),
        ):
            texts.append("".join([*lines[:index], other, *lines[index + 1 :]]))
    answers: dict[str, Any] = {
        "lock": read_each(
            texts,
            lambda path: [read_lock(path).header, len(read_lock(path).book)],
            tmp_path / "trainfare.lock",
        )
    }
    curve = json.loads(CURVE.to_json())
    curves = [json.dumps(curve)]
    for name in curve:
        curves += [json.dumps({**curve, name: value}) for value in (None, -1, "x", [], 10**19, 1.5)]
        curves.append(json.dumps({key: value for key, value in curve.items() if key != name}))
    answers["curves"] = read_each(curves, lambda path: read_curves([str(path)]), tmp_path / "curve.json")
    for name in ("lora=", "scratch=", "nothing=", "=", "LoRA="):
        answers[f"curve {name}"] = read_each(
            curves[:1], lambda path, name=name: read_curves([f"{name}{path}"]), tmp_path / "curve.json"
        )
    compare_with_recorded("locks_and_curves", answers)


def test_options_and_texts(tmp_path: Path) -> None:
    answers: dict[str, Any] = {}
    for text in (
        None,
        "12",
        "12h",
        "1d12h",
        "2w",
        "90m",
        "1.5d",
        "",
        "h",
        "0",
        "-1",
        "12x",
        "1h 30m",
        "1e3",
        "nan",
        "1m2m",
        "1H",
        " 5 ",
        "9" * 400,
    ):
        answers[f"deadline {str(text)[:20]}"] = answer_or_error(lambda text=text: hours_of(text))
    answers["separate"] = [separate(names) for names in (None, [], ["a"], ["a, b", "c"], ["a,,b"])]
    for key in ("default", "a.b_c-1", "a--b", "", "-a", "x" * 64, "x" * 65, "ü"):
        answers[f"key {key[:10]} {len(key)}"] = answer_or_error(lambda key=key: mark_of(key))
    report = "\n".join(f"line {index} of the report" for index in range(12))
    for longest in (150, 200, 262, 263, 264, 300, 400):
        answers[f"cut {longest}"] = [
            cut_text(report, longest, "See the log."), cut_text("a" * 400, longest, "See the log."),
            comment_text("<!-- m -->", report, commit="0123456789abcdef", longest=longest, whole_report="See."),
            comment_text("<!-- m -->", report, commit="", longest=longest, whole_report="See."),
        ]  # fmt: skip
    for code in ("0", "1", "2", "3", "4", "137", ""):
        answers[f"exit {code}"] = [
            error_report(code, "error: a\nx\nerror: `b` <c>\n"),
            error_report(code, "Traceback"),
        ]
    toml = POLICY.encode()
    paths = ((), ("confidence",), ("allow", "purchase"), ("jobs", "resnet"), ("jobs", "resnet", "max_usd"), ("jobs", "resnet", "allow", "accelerators"),
             ("waivers", 0, "rule"), ("waivers", 1), ("waivers", 0), ("nothing",), ("jobs", "other"))  # fmt: skip
    answers["lines"] = [line_of_key(toml, path) for path in paths]
    odd = b'a = """\n[b]\nc = 1\n"""\n[b]\n# c = 0\nc = \'\'\'x\ny\'\'\'\nd.e = 2\n"f g" = 3\n[[h]]\ni = 1\n[[h]]\ni = [\n1,\n2]\nj = 1\n'
    answers["odd lines"] = [
        line_of_key(odd, path)
        for path in (
            ("a",),
            ("b",),
            ("b", "c"),
            ("b", "d"),
            ("b", "d", "e"),
            ("b", "f g"),
            ("h", 0),
            ("h", 0, "i"),
            ("h", 1, "i"),
            ("h", 1, "j"),
            ("h", 2),
        )
    ]
    comments = b'a = 1 # """ [\n# \'\'\' {\nb = "# x [" # y ]\nc = [ # [[ \n1, # ]\n2]\nd = """\\\n# z [\n"""\n[e] # f\ng = { h = "]" }\ni = \'"\'\n'
    answers["comments"] = [
        line_of_key(comments, path)
        for path in (
            ("a",),
            ("b",),
            ("c",),
            ("c", 1),
            ("d",),
            ("e",),
            ("e", "g"),
            ("e", "g", "h"),
            ("e", "i"),
        )
    ]
    answers["hints"] = [
        key_hint(key, ["vcpus", "machines", "provider"]) for key in ("vcpu", "machine", "xyzzy", "")
    ]
    answers["toml"] = [
        re.sub(
            r"(not valid TOML).*",
            r"\1",
            str(answer_or_error(lambda text=text: parse_toml(text, where="file"))),
            flags=re.DOTALL,
        )[:200]
        for text in (
            b"a = 1",
            b"a = ",
            b"\xff",
            b"a = 9223372036854775807",
            b"a = 9223372036854775808",
            b"a" * 600 + b" = 1",
            b"a.b.c.d = 1",
            b"[a]\n[a]",
            b"a = inf",
        )
    ]
    keywords: list[dict[str, Any]] = [
        {"max_usd": 5}, {"max_usd": -1}, {"max_usd": float("nan")}, {"confidence": 0.4}, {"confidence": 1}, {"providers": "aws,gcp"}, {"allow": "plan,plan"},
        {"allow": "nothing"}, {"data_in": "aws:us-east-1"}, {"data_in": "x", "data_gb": 1}, {"data_in": "aws:us-east-1", "data_gb": 3}, {"max_run_hours": 0},
        {"max_accelerators": 0}, {"exclude": ("a", "b")}, {"deadline_hours": 0},
    ]  # fmt: skip
    for given in keywords:
        answers[f"keywords {given}"] = answer_or_error(
            lambda given=given: str(
                read_constraints(given).model_dump(exclude_defaults=True, exclude={"run_cost"})
            )
        )
    market = small_market()
    for given in ({"providers": "AWS"}, {"providers": "asw"}, {"regions": "us-east-1"}, {"regions": "us-eats-1"}, {"accelerators": "L4"}, {"accelerators": "H1000"},
                  {"instance_types": "g6"}, {"instance_types": "g66"}, {"purchase": "any"}, {"purchase": "spott"}, {"exclude": "gcp"}, {"exclude": "gpc"},
                  {"residency": "eu"}, {"residency": "moon"}, {"services": "ec2"}, {"providers": "gcp", "regions": "us-east-1"}, {"data_in": "aws:us-east-1", "data_gb": 2.0}):  # fmt: skip
        answers[f"names {given}"] = answer_or_error(
            lambda given=given: str(
                with_book_names(read_constraints(given), market).model_dump(
                    exclude_defaults=True, exclude={"run_cost"}
                )
            )
        )
    path = tmp_path / "quota.toml"
    path.write_text(QUOTAS, encoding="utf-8")
    answers["quota text"] = quota_text(read_quotas(path), said="what my accounts may rent")
    script = tmp_path / "train.py"
    script.write_text(
        "import os\n\n\ndef job():\n    pass\n\n\nclass A:\n    def job(self):\n        pass\n\n\nother = job\n",
        encoding="utf-8",
    )
    answers["places"] = [
        str(place_of(target, tmp_path)).replace(str(tmp_path), "FOLDER")
        for target in (
            "train.py",
            "train.py:job",
            "train.py:other",
            "train.py:x",
            "x.py:job",
            "json:dumps",
            "",
        )
    ]
    for fields in ({}, {"samples": 5.0}, {"domain": "llm-ift"}, {"tokens_per_sample": 9.0}):
        for job in (
            SimpleNamespace(train_samples=None, tokens_per_sample=None),
            SimpleNamespace(train_samples=100, tokens_per_sample=64),
        ):
            answers[f"filled {fields} {job.train_samples}"] = fill(Question(**fields), job)
    compare_with_recorded("options_and_texts", answers)


def fill(question: Question, job: Any) -> Any:
    return fill_question(question, job)
