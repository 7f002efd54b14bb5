"""Targets: the JSON documents that trainfare writes and reads again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any

from builders.measurements import measurement
from builders.profiles import operation
from builders.recommendations import no_answer, recommendation
from builders.reports import render_html, render_markdown, render_terminal
from builders.runs import build_compared, run
from builders.toy_market import small_job
from fuzz.market import NOW, ranking_of
from fuzz.target import Target, file_of
from trainfare.cli.profile import summary_of
from trainfare.fake_step import read_profile
from trainfare.ledger.run_status import RunStatus, read_status
from trainfare.ledger.store import read_record, read_runs
from trainfare.methods.request import read_curves
from trainfare.pull_request.azure_devops import AzureDevOps
from trainfare.pull_request.ci_job import CodeHost
from trainfare.pull_request.comment import upsert
from trainfare.pull_request.github import GitHub, github_job
from trainfare.pull_request.gitlab import GitLab
from trainfare.script.notebook import code_cells
from trainfare.user_process.messages import JobFacts, Reply, read_replies
from trainfare.user_process.trace_store import TraceKey, TraceStore
from trainfare_core.documents import Document, Interval
from trainfare_core.errors import FetchError
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.causes import explain_run
from trainfare_core.ledger.device_figures import DeviceMeasurement, choose_figures, compare_kernels
from trainfare_core.ledger.run_record import RunRecord
from trainfare_core.ledger.run_table import score_runs
from trainfare_core.methods.curves import CurvePoint, LearningCurve, Metric
from trainfare_core.methods.pilots import common_metric, predict_reached, read_pilots, sentences
from trainfare_core.methods.question import Question
from trainfare_core.recommendation import Recommendation
from trainfare_providers.http.answer import Reply as HttpReply
from trainfare_providers.http.client import HttpClient

_PAGES_PER_HTML = 16
"""HTML with its charts takes half a second, the other formats a hundredth: one recommendation in so many gets a page."""


def _compact(document: Document) -> bytes:
    return document.model_dump_json().encode()


def _profile(data: bytes) -> None:
    with file_of(data, "job.json") as path:
        profile = read_profile(str(path))
    assert JobProfile.from_json(profile.to_json()) == profile
    assert summary_of(profile).isprintable() is False  # it has line ends, and can be made


def _profiles() -> Sequence[bytes]:
    attention = operation(kind="attention", name="aten.sdpa", shape=(8, 512, 512, 64))
    return [
        _compact(small_job()),
        _compact(small_job(steps=None, operations=(operation(), attention), precision="32-true")),
    ]


def _rank_profile(data: bytes) -> None:
    profile = JobProfile.from_json(data)
    ranked = ranking_of(profile)
    assert Recommendation.from_json(ranked.answer.to_json()) == ranked.answer
    render_terminal(ranked.answer, profile=profile, as_of=ranked.as_of)
    render_markdown(ranked.answer, profile=profile, as_of=ranked.as_of)


def _recommendation(data: bytes) -> None:
    answer = Recommendation.from_json(data)
    assert Recommendation.from_json(answer.to_json()) == answer
    render_terminal(answer, as_of=NOW)
    render_markdown(answer, as_of=NOW)
    if sum(data) % _PAGES_PER_HTML == 0:
        render_html(answer, as_of=NOW)


def _recommendations() -> Sequence[bytes]:
    whole = recommendation()
    short = whole.model_copy(update={"options": whole.options[:2], "rejections": whole.rejections[:2]})
    return [_compact(short), _compact(no_answer())]


def _curve(data: bytes) -> None:
    with file_of(data, "curve.json") as path:
        curves = read_curves([f"lora={path}", str(path)])
    for runs in curves.values():
        assert all(LearningCurve.from_json(run.to_json()) == run for run in runs)
    metric = common_metric(curves)
    for direction in ("max", "min"):
        question = Question(metric=metric, direction=direction, target_value=0.5, samples=1e5)
        report = read_pilots(curves, question, tool_version="0")
        report.to_json()
        predict_reached(report)
        sentences(report)


def _curves() -> Sequence[bytes]:
    points = tuple(
        CurvePoint(
            step=step,
            train_loss=9.0 / step,
            metrics=(Metric(name="val_loss", value=8.0 / step),),
            learning_rate=1e-3,
            elapsed_s=0.1 * step,
        )
        for step in (1, 10, 100, 400, 800)
    )
    curve = LearningCurve(
        tool_version="0",
        name="run",
        strategy="full_finetune",
        trainable_parameters=10**6,
        parameters=10**6,
        samples_per_step=8,
        train_samples=8000,
        planned_steps=1000,
        points=points,
    )
    return [_compact(curve), _compact(curve.model_copy(update={"points": points[:1], "strategy": None}))]


def _replies(data: bytes) -> None:
    for reply in read_replies(BytesIO(data)):
        if not isinstance(reply, str):
            assert len(reply.body) == reply.header.body_bytes


def _reply_streams() -> Sequence[bytes]:
    facts = JobFacts(precision="32-true", train_samples=36, tokens_per_sample=None)
    replies = [
        (Reply(kind="ready"), b""),
        (Reply(kind="job", job=facts), b""),
        (Reply(kind="profile", body_bytes=2), b"{}"),
        (Reply(kind="error", error="TargetError", message="t.py: no"), b""),
    ]
    return [b"".join(header.model_dump_json().encode() + b"\n" + body for header, body in replies)]


_KEY = TraceKey("key", {"t.py": "0" * 64})
_FACTS = JobFacts(precision="32-true", train_samples=None, tokens_per_sample=None)


def _store_trace(data: bytes) -> None:
    """A file of a kept trace as it is, and one with this header and profile whose checksum is right."""
    with file_of(b"", "empty") as path:
        store = TraceStore(path.parent / "traces", now=lambda: NOW)
        store.keep(_KEY, "{}", _FACTS, _compact(small_job()))
        (kept,) = (path.parent / "traces").iterdir()
        for content in (data, _reseal(data)):
            kept.write_bytes(content)
            trace = store.find(_KEY, "{}")
            assert trace is None or JobProfile.from_json(trace.profile)
            assert kept.exists() or trace is None


def _reseal(data: bytes) -> bytes:
    """Return a file with the header and the profile of these lines, whose checksum is right."""
    header, _, profile = data.partition(b"\n")
    try:
        fields = json.loads(header)
        fields |= {"sha256": hashlib.sha256(profile).hexdigest()}
        return json.dumps(fields).encode() + b"\n" + profile
    except (ValueError, TypeError, RecursionError):
        return data


def _make_stored_traces() -> Sequence[bytes]:
    header = {"format": 2, "sha256": "", "made": NOW.isoformat(), "job": _FACTS.model_dump()}
    profile = _compact(small_job())
    return [
        b"\n".join([json.dumps(header | {"files": files}).encode(), profile])
        for files in ({}, {"t.py": "0" * 64}, {"t.py": ""})
    ]


def _code_host(data: bytes) -> None:
    """The answers of a code host to the requests that put a comment on a pull request, in their order."""
    try:
        asked = json.loads(data)
        kind, replies = int(asked["host"]) % len(_HOSTS), [_reply(*one) for one in asked["replies"]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        raise FetchError("a code host", "no answers") from None
    with HttpClient("a code host") as client:
        http: Any = _Answering(client, replies)
        assert upsert(_HOSTS[kind](http), "mark", "text").url


def _reply(status: object, link: object, body: object) -> HttpReply:
    text = body if isinstance(body, str) else json.dumps(body)
    code = status if isinstance(status, int) and 100 <= status <= 999 else 200
    return HttpReply(code, (("link", str(link)),), text.encode("utf-8", "surrogatepass"))


class _Answering:
    """Our client, with these answers to its requests; the last one to all that follow."""

    def __init__(self, client: HttpClient, replies: Sequence[HttpReply]) -> None:
        self.cloud, self.pages, self._replies = client.cloud, client.pages, list(replies)

    def send(self, *_: object, **__: object) -> HttpReply:
        if not self._replies:
            raise FetchError(self.cloud, "no more answers")
        return self._replies.pop(0)


_AT = "https://host.invalid"
_HOSTS: tuple[Callable[[Any], CodeHost], ...] = (
    partial(GitHub, api_url=_AT, graphql_url=f"{_AT}/graphql", repository="a/b", number=1, token="x"),
    partial(GitLab, api_url=_AT, project="1", number="1", web_url=_AT, token="x"),
    partial(
        AzureDevOps, collection_url=f"{_AT}/", project="p", repository="r", number="1", web_url=_AT, token="x"
    ),
)


def _code_host_answers() -> Sequence[bytes]:
    comment = {"id": 1, "html_url": _AT, "body": "mark text", "user": {"login": "a", "type": "Bot"}}
    note = {"id": 1, "body": "mark text", "author": {"id": 1}}
    entry = {"id": 1, "content": "mark text", "author": {"id": "1"}}
    link = f'<{_AT}/2>; rel="next"'
    viewer = {"data": {"viewer": {"login": "a"}}}
    github = [
        [200, link, [comment]],
        [200, "", [comment]],
        [200, "", viewer],
        [200, "", comment],
        [204, "", ""],
    ]
    gitlab = [[200, "", [note]], [200, "", {"id": 1}], [200, "", note]]
    azure = [
        [200, "", {"value": [{"id": 1, "comments": [entry]}]}],
        [200, "", {"authenticatedUser": {"id": "1"}}],
        [200, "", entry],
    ]
    refused = [[403, "", {"message": "no"}]]
    return [
        json.dumps({"host": host, "replies": replies}).encode()
        for host, replies in (
            (0, github),
            (1, gitlab),
            (2, azure),
            (0, [[200, "", []], [201, "", comment]]),
            (1, refused),
        )
    ]


def _github_event(data: bytes) -> None:
    with file_of(data, "event.json") as path:
        environ = {"GITHUB_EVENT_PATH": str(path), "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "x"}
        assert github_job(environ).system == "github"


def _github_events() -> Sequence[bytes]:
    head = {"sha": "0" * 40, "repo": {"full_name": "a/b"}}
    events: list[object] = [
        {"pull_request": {"number": 1, "head": head, "user": {"login": "dependabot[bot]", "type": "Bot"}}},
        {"issue": {"number": 2, "pull_request": {"url": _AT}}},
    ]
    return [json.dumps(event).encode() for event in events]


def _notebook(data: bytes) -> None:
    with file_of(data, "train.ipynb") as path:
        assert all(isinstance(cell, str) for cell in code_cells(path))


def _notebooks() -> Sequence[bytes]:
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {
            "cell_type": "code",
            "source": ["%matplotlib inline\n", "import torch\n", "!pip list \\\n", "  -v\n"],
        },
        {"cell_type": "code", "source": "%%bash\nls"},
        {"cell_type": "code", "source": "x = 1"},
    ]
    return [json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()]


def _run(data: bytes) -> None:
    with file_of(data, "run.json") as path:
        file = path.parent / "vision" / path.name
        file.parent.mkdir()
        path.rename(file)
        record = read_record(file)
        assert RunRecord.from_json(record.to_json()) == record
        runs = read_runs(path.parent, lambda: NOW)
        assert runs.table.height == 1
        score_runs(runs.table, "all")
        explain_run(record)


def _runs() -> Sequence[bytes]:
    return [
        _compact(run(1)),
        _compact(run(2, state="running", ended_at=None, usd=build_compared(10.0, 12.0))),
    ]


def _run_status(data: bytes) -> None:
    with file_of(data, "trainfare-status.json") as path:
        status = read_status(path)
    assert RunStatus.model_validate_json(status.to_json()) == status
    assert status.format_short().isascii()
    assert status.list_rows(NOW)
    status.is_over()


def _run_statuses() -> Sequence[bytes]:
    paid = Interval(mid=40.0, low_80=35.0, high_80=50.0)
    known = {"steps_total": 1000, "usd_so_far": 10.0, "usd_total": paid, "left_s": paid, "mfu": 0.4}
    return [
        _compact(RunStatus(run_id="0a", written_at=NOW)),
        _compact(RunStatus(run_id="0a", written_at=NOW, steps_done=250, budget_usd=30.0, **known)),
    ]


def _measurement(data: bytes) -> None:
    measured = DeviceMeasurement.from_json(data, where="device")
    assert DeviceMeasurement.from_json(measured.to_json(), where="device") == measured
    for figure in compare_kernels(measured):
        assert (figure.ratio is None) == bool(figure.refused)
    choose_figures(small_job(), [measured])


def _measurements() -> Sequence[bytes]:
    return [_compact(measurement()), _compact(measurement(device_name="CPU", memory_bytes=None))]


TARGETS = (
    Target("run_status", _run_status, _run_statuses, "json", ("trainfare/ledger/run_status.py",)),
    Target(
        "device_measurement",
        _measurement,
        _measurements,
        "json",
        ("trainfare_core/ledger/device_figures.py",),
    ),
    Target(
        "run_record",
        _run,
        _runs,
        "json",
        ("trainfare_core/ledger/run_record.py", "trainfare/ledger/store.py"),
    ),
    Target(
        "job_profile",
        _profile,
        _profiles,
        "json",
        (
            "trainfare_core/job_profile/profile.py",
            "trainfare_core/documents.py",
            "trainfare/fake_step/profile_input.py",
        ),
    ),
    Target("ranked_profile", _rank_profile, _profiles, "json", ("trainfare_core/job_profile/profile.py",)),
    Target(
        "recommendation",
        _recommendation,
        _recommendations,
        "json",
        ("trainfare_core/recommendation/answer.py",),
        max_bytes=16384,
    ),
    Target(
        "learning_curve",
        _curve,
        _curves,
        "json",
        ("trainfare_core/methods/curves.py", "trainfare/methods/request.py"),
    ),
    Target(
        "child_reply",
        _replies,
        _reply_streams,
        "json lines",
        ("trainfare/user_process/messages.py",),
    ),
    Target(
        "stored_trace",
        _store_trace,
        _make_stored_traces,
        "json lines",
        ("trainfare/user_process/trace_store.py",),
    ),
    Target("notebook", _notebook, _notebooks, "json", ("trainfare/script/notebook.py",)),
    Target("github_event", _github_event, _github_events, "json", ("trainfare/pull_request/github.py",)),
    Target(
        "code_host",
        _code_host,
        _code_host_answers,
        "json",
        tuple(f"trainfare/pull_request/{name}.py" for name in ("json_api", "gitlab", "azure_devops")),
    ),
)
