"""Targets: what `trainfare check` reads, on the command's own path: policies with targets and locks, and names of files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Final

from builders.toy_market import small_job
from fuzz.market import choice
from fuzz.prices import small_lock
from fuzz.target import Target, file_of
from trainfare.cli.check_answers import CheckAnswer, policy_answer, target_answer
from trainfare.cli.check_options import PolicyOptions, outputs_of, write_outputs
from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import FORMATS
from trainfare.fake_step import is_target, read_profile
from trainfare.policy import read_policy
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile

_POLICY: Final = b"""\
confidence = 0.8
on_unknown = "warn"
max_price_age_days = 90
lock = "trainfare.lock"
[allow]
providers = ["aws"]
purchase = ["on_demand", "spot"]
[jobs.resnet]
target = "train.py:job"
max_usd = 500
max_hours = 12.5
allow = { accelerators = ["A100"] }
[jobs."nlp.small"]
target = "job.json"
max_usd_per_hour = 40
[[waivers]]
job = "resnet"
rule = "max_usd"
owner = "ml-platform"
reason = "first run"
expires = 2026-12-31
"""
_SHOWN_JOBS: Final = 2
"""Jobs of a policy that are checked: each takes some 50 ms."""
_LONGEST_NAME_BYTES: Final = 200


def _policy(data: bytes) -> None:
    with file_of(data, "pyproject.toml" if b"tool.trainfare" in data else "trainfare.toml") as path:
        folder = path.parent
        policy = read_policy(path).policy
        (folder / "trainfare.lock").write_text(small_lock(), encoding="utf-8")
        (folder / "job.json").write_text(small_job().to_json(), encoding="utf-8")
        chosen = choice()
        if policy.lock is None:  # not the prices on this machine
            chosen = replace(chosen, lock=folder / "trainfare.lock")
        options = PolicyOptions(policy=path, only=list(islice(policy.jobs, _SHOWN_JOBS)))
        _write(
            policy_answer(options, chosen, _read_profile, None, lambda *_: lambda _loaded: None, None), folder
        )


def _read_profile(target: str, _constraints: object) -> JobProfile:
    """Return the profile of a file; the fuzzer must not run what it makes up."""
    return small_job() if is_target(target) else read_profile(target)


def _write(answer: CheckAnswer, folder: Path) -> None:
    """Write an answer in every format, as `--output` does."""
    outputs = outputs_of("table", [f"{form}={folder / form}.out" for form in FORMATS["check"]])
    with contextlib.redirect_stdout(StringIO()), contextlib.redirect_stderr(StringIO()):
        write_outputs(outputs, answer.renderers)


def _policies() -> Sequence[bytes]:
    inside = _POLICY.replace(b"[[waivers", b"[[tool.trainfare.waivers")
    for table in (b"jobs", b"allow"):
        inside = inside.replace(b"\n[" + table, b"\n[tool.trainfare." + table)
    many_lines = b"confidenze = [\n" + b"1,\n" * 2_000 + b"]\nunknown = 1\n"
    return [
        _POLICY,
        b"[tool.trainfare]\n" + inside,
        _POLICY.replace(b"job.json", b"job\\u0000.json"),
        _POLICY.replace(b"trainfare.lock", b"trainfare\\u0000.lock"),
        many_lines + _POLICY,
        b'text = """\n' + b"line\n" * 1_500 + b'"""\n' + _POLICY,
        b"a" + b".b" * 3_000 + b" = 1\n",
        b"a" + b".b" * 100_000 + b" = 1\n",
    ]


def _file_name(data: bytes) -> None:
    name = os.fsdecode(data)
    if not data or b"/" in data or b"\0" in data or len(data) > _LONGEST_NAME_BYTES:
        raise InputError("no name of a file")
    with file_of(small_lock().encode(), "lock") as lock:
        folder = lock.parent / "jobs"
        folder.mkdir()
        path = f"{folder}/{name}.json"
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - a path of any bytes
            file.write(small_job().to_json())
        limits: Any = RunLimits
        answer = target_answer(
            path, limits(max_usd=0.001), PolicyOptions(), (replace(choice(), lock=lock),), lambda: read_profile(path),
            lambda _loaded: None,
        )  # fmt: skip
        _write(answer, lock.parent)


TARGETS = (
    Target(
        "policy",
        _policy,
        _policies,
        "text",
        ("trainfare/policy/policy_file.py", "trainfare_providers/disk/toml_file.py"),
    ),
    Target(
        "file_name",
        _file_name,
        lambda: [b"job", b"job\xff\xfe", "j\u202e\u0085ob".encode(), b"a\nb", b"\x1b[0m"],
        "bytes",
        (),
    ),
)
