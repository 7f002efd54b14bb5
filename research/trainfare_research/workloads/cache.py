"""
Traces kept on disk under a digest of everything that decides them: model, builder, tracer and library versions.

A trace is made at one batch size, that of the first row that needs it (two samples at least), and rows that differ only
in batch size share it. FLOPs and bytes of a step are linear in the batch except for the part that the profile marks as
fixed, so scaling by `micro_ratio` is exact (a test compares it with a new trace).
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainfare_core.errors import TrainfareError
from trainfare_core.job_profile import JobProfile
from trainfare_providers.disk.files import replace_file
from trainfare_research.workloads.single_device import StepJob, trace_step_job
from trainfare_research.workloads.tracer_digest import code_digest, tracer_digest

_LIBRARIES = ("torch", "torchvision", "timm", "transformers")
"""Distributions whose operations or models are traced: a new version makes new traces."""
_TRACED = Path(__file__).with_name("single_device.py")
_COMPRESSION = 3
"""Of 9: traces compress twentyfold at any level, and higher ones only take longer."""
_REASON_LENGTH = 300
"""Characters kept of the first line of an error: enough to find it, short enough for a column of a table."""


class TraceStore:
    """
    Profiles by name, in memory and as gzipped JSON in a folder.

    Args:
        folder: created where it is missing; None: profiles are kept in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._profiles: dict[str, JobProfile] = {}

    def load(self, name: str) -> JobProfile | None:
        """Return the profile of this name; None where it was never saved."""
        path = self._path(name)
        if name not in self._profiles and path is not None and path.exists():
            self._profiles[name] = JobProfile.from_json(gzip.decompress(path.read_bytes()))
        return self._profiles.get(name)

    def save(self, name: str, profile: JobProfile) -> JobProfile:
        """Keep a profile under this name, and return it."""
        # A row's batch lay ready or its loader is described with the row: no published rate of its kind counts.
        profile = profile.model_copy(update={"batch": profile.batch.model_copy(update={"input": None})})
        self._profiles[name] = profile
        path = self._path(name)
        if path is not None:
            # Whole or not at all: two runners may share the folder.
            replace_file(path, gzip.compress(profile.to_json().encode(), _COMPRESSION))
        return profile

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{name}.json.gz"


@dataclass(frozen=True)
class Traced:
    """A profile, and the ratio of the row's batch to the batch that was traced."""

    profile: JobProfile
    ratio: float


class ProfileCache:
    """
    Traces of jobs in a folder. A job that cannot be traced leaves its reason there, so that no later run tries again.

    Args:
        folder: created where it is missing.
        only_held: trace nothing; what the folder lacks has the reason "not traced yet".
    """

    def __init__(self, folder: Path, *, only_held: bool = False) -> None:
        self._store = TraceStore(folder)
        self._folder, self.only_held = folder, only_held

    @property
    def folder(self) -> Path:
        """Where traces are kept."""
        return self._folder

    def get(self, job: StepJob) -> Traced | str:
        """Return the trace of a job, or why it has none; traced now where the folder does not have it."""
        name = self._name(job)
        profile = self._store.load(name)
        if profile is None:
            failure = self._folder / f"{name}.txt"
            if failure.exists():
                return failure.read_text(encoding="utf-8")
            if self.only_held:
                return "not traced yet"
            try:
                profile = self._store.save(name, trace_step_job(job))
            except (TrainfareError, RuntimeError) as error:
                reason = f"cannot be traced: {error}".splitlines()[0][:_REASON_LENGTH]
                failure.write_text(reason, encoding="utf-8")
                return reason
        return Traced(profile, job.batch_size / (profile.batch.micro_batch_size or job.batch_size))

    def trace_backwards(self, jobs: Iterable[StepJob]) -> None:
        """
        Trace what the folder does not have, from the last job to the first, beside a run from the first to the last.

        Each trace is made of the first job that shares it, as the other run makes it: neither its batch nor any score
        depends on which of the two comes first.
        """
        first: dict[str, StepJob] = {}
        for job in jobs:
            first.setdefault(self._name(job), job)
        for name, job in reversed(first.items()):
            if not any((self._folder / f"{name}{ending}").exists() for ending in (".json.gz", ".txt")):
                self.get(job)

    def _name(self, job: StepJob) -> str:
        builder = code_digest(Path(inspect.getfile(job.network)).read_text(encoding="utf-8"))
        text = f"{job.key}\n{job.phases}\n{job.compiled}\n{tracer_digest((_TRACED,), _LIBRARIES)}".encode()
        return hashlib.sha256(text + builder).hexdigest()[:32]


def profile_of(job: StepJob | str, cache: ProfileCache) -> Traced | str:
    """Return the trace of what `resolve` gave, or the reason that it gave instead."""
    return job if isinstance(job, str) else cache.get(job)
