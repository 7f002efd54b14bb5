"""Read the job of a command: from a profile file, from standard input, or from a TARGET that is traced now."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from trainfare.job import script_of
from trainfare_core.errors import ProfileError
from trainfare_core.job_profile import JobProfile
from trainfare_providers.disk.files import read_at_most, read_input

MAX_PROFILE_BYTES = 64 * 2**20
"""Upper limit that keeps a wrong file from filling memory: a chosen value, far above the profile of a large model."""
_KIND = "a job profile"
_HINT = ". Give a profile written by `trainfare profile` or FareMeter, or a TARGET such as train.py:job."


def read_profile(source: str) -> JobProfile:
    """
    Return the job profile that `source` names.

    Args:
        source: a profile file (`job.json`), `-` for a profile on standard input, a TARGET such as
            `train.py:job` or `package.module:job`, or a LightningCLI config (`.yaml`).

    Raises:
        ProfileError: the file is absent, too large or not a profile.
        TargetError: a TARGET that cannot be loaded.
        TraceError: a training step that cannot be traced without hardware.
    """
    if source == "-":
        text = read_at_most(sys.stdin.buffer, MAX_PROFILE_BYTES, name="-", kind=_KIND, error=ProfileError)
        return JobProfile.from_json(text, where="standard input")
    if is_target(source):
        return load_profile(source)
    text = read_input(Path(source), MAX_PROFILE_BYTES, kind=_KIND, hint=_HINT, error=ProfileError)
    return JobProfile.from_json(text, where=source)


def is_target(source: str) -> bool:
    """Return whether `source` names a TARGET, whose code must run to get a profile, and not a profile."""
    path = Path(source)
    if script_of(source) is not None:
        return True
    return path.suffix in (".yaml", ".yml") or (":" in source and not path.is_file())


def load_profile(target: str) -> JobProfile:
    """
    Load a TARGET and trace it; output of the user's code goes to stderr.

    Raises:
        TargetError: the target cannot be loaded.
        MissingExtraError: torch or Lightning is not installed.
        TraceError: the step cannot be traced without hardware.
    """
    with contextlib.redirect_stdout(sys.stderr):
        from trainfare.job import load_job

        job = load_job(target)
        from trainfare.fake_step.job_trace import trace_job

        return trace_job(job)
