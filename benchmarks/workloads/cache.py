"""
Traces on disk, by content: what is traced, with which builders, tracer and libraries.

A trace is of one batch; rows that differ in nothing else share it. FLOPs and bytes of a step are linear in its
batch but for the part the profile marks as fixed, so the engine's `micro_ratio` is exact (a test compares it).
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads.single_device import StepJob, traced
from benchmarks.workloads.tracer_digest import code_digest, tracer_digest
from trainfare_core.errors import TrainfareError
from trainfare_core.job_profile import JobProfile

__all__ = ["ProfileCache", "Traced", "profile_of"]

_LIBRARIES = ("torch", "torchvision", "timm", "transformers")
_TRACED = Path(__file__).with_name("single_device.py")


@dataclass(frozen=True)
class Traced:
    """A profile, and the row's batch over the batch that was traced."""

    profile: JobProfile
    ratio: float


class ProfileCache:
    """
    Traces in a folder, one gzipped JSON a job; failures are kept as text, so that a second run does not repeat them.

    Args:
        folder: created where it is missing.
        only_held: trace nothing; what the folder lacks has the reason "not traced yet".
    """

    def __init__(self, folder: Path, *, only_held: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._only_held = only_held
        self._folder = folder
        self._read: dict[str, Traced | str] = {}

    def get(self, job: StepJob) -> Traced | str:
        """Return the trace of a job, or why it has none; traced now where the folder does not have it."""
        name = self._name(job)
        known = self._read.get(name)
        if known is None:
            known = self._load(name) or ("not traced yet" if self._only_held else self._trace(job, name))
            self._read[name] = known
        if isinstance(known, str):
            return known
        return Traced(
            known.profile, job.batch_size / (known.profile.batch.micro_batch_size or job.batch_size)
        )

    def _name(self, job: StepJob) -> str:
        builder = code_digest(Path(inspect.getfile(job.module)).read_text(encoding="utf-8"))
        text = f"{job.key}\n{job.phases}\n{job.compiled}\n{tracer_digest((_TRACED,), _LIBRARIES)}".encode()
        return hashlib.sha256(text + builder).hexdigest()[:32]

    def _load(self, name: str) -> Traced | str | None:
        found, failed = self._folder / f"{name}.json.gz", self._folder / f"{name}.txt"
        if found.exists():
            return Traced(JobProfile.from_json(gzip.decompress(found.read_bytes())), 1.0)
        return failed.read_text(encoding="utf-8") if failed.exists() else None

    def _trace(self, job: StepJob, name: str) -> Traced | str:
        try:
            profile = traced(job)
        except (TrainfareError, RuntimeError) as error:
            reason = f"cannot be traced: {error}".splitlines()[0][:300]
            (self._folder / f"{name}.txt").write_text(reason, encoding="utf-8")
            return reason
        (self._folder / f"{name}.json.gz").write_bytes(gzip.compress(profile.to_json().encode(), 3))
        return Traced(profile, 1.0)


def profile_of(job: StepJob | str, cache: ProfileCache) -> Traced | str:
    """Return the trace of what `resolve` gave, or the reason that it gave instead."""
    return job if isinstance(job, str) else cache.get(job)
