"""Targets: the JSON documents that trainfare writes and reads again."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from builders.profiles import operation
from builders.recommendations import no_answer, recommendation
from fuzz.market import NOW, ranking_of, small_job
from fuzz.target import Target, file_of
from trainfare.cli.profile import summary_of
from trainfare.prelaunch import read_profile
from trainfare.report.html import render_html
from trainfare.report.markdown import render_markdown
from trainfare.report.terminal import render_terminal
from trainfare.strategy.pilot_files import read_curves
from trainfare.user_process.messages import JobFacts, Reply, read_replies
from trainfare_core.documents import Document
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Recommendation
from trainfare_core.strategy.curves import CurvePoint, LearningCurve, Metric
from trainfare_core.strategy.pilots import common_metric, reached_by, read_pilots, sentences
from trainfare_core.strategy.question import Question

__all__ = ["TARGETS"]

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


def _ranked_profile(data: bytes) -> None:
    profile = JobProfile.from_json(data)
    found = ranking_of(profile)
    assert Recommendation.from_json(found.answer.to_json()) == found.answer
    render_terminal(found.answer, profile=profile, as_of=found.as_of)
    render_markdown(found.answer, profile=profile, as_of=found.as_of)


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
        assert all(LearningCurve.from_json(one.to_json()) == one for one in runs)
    metric = common_metric(curves)
    for direction in ("max", "min"):
        question = Question(metric=metric, direction=direction, target_value=0.5, samples=1e5)
        report = read_pilots(curves, question, tool_version="0")
        report.to_json()
        reached_by(report)
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
        assert isinstance(reply, str) or len(reply.body) == reply.header.body_bytes


def _reply_streams() -> Sequence[bytes]:
    facts = JobFacts(precision="32-true", train_samples=36, tokens_per_sample=None)
    body = b"{}"
    replies = [
        Reply(kind="ready"),
        Reply(kind="job", job=facts),
        Reply(kind="profile", body_bytes=len(body)),
        Reply(kind="error", error="TargetError", message="t.py: no"),
    ]
    return [b"".join(one.model_dump_json().encode() + b"\n" + body[: one.body_bytes] for one in replies)]


TARGETS = (
    Target(
        "job_profile",
        _profile,
        _profiles,
        "json",
        ("trainfare_core/job_profile.py", "trainfare/prelaunch/profile_input.py"),
    ),
    Target("ranked_profile", _ranked_profile, _profiles, "json", ("trainfare_core/job_profile.py",)),
    Target(
        "recommendation",
        _recommendation,
        _recommendations,
        "json",
        ("trainfare_core/recommendation.py",),
        max_bytes=16384,
    ),
    Target(
        "learning_curve",
        _curve,
        _curves,
        "json",
        ("trainfare_core/strategy/curves.py", "trainfare/strategy/pilot_files.py"),
    ),
    Target("child_reply", _replies, _reply_streams, "json lines", ("trainfare/user_process/messages.py",)),
)
