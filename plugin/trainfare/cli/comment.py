"""`trainfare comment`: puts the report of a check on its pull request; exit 0 also where the host does not take it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trainfare.report.escape import markdown_text, terminal_text
from trainfare_core.errors import FetchError, InputError, MissingExtraError

if TYPE_CHECKING:
    from trainfare.pull_request.ci_job import CiJob

_SUMMARY_BYTES: Final = 1024 * 1024
"""GitHub refuses a longer summary of a step."""

_HOSTS: Final[Mapping[str, str]] = {"github": "GitHub", "gitlab": "GitLab", "azure": "Azure DevOps"}
_WARNINGS: Final[Mapping[str, str]] = {
    "github": "::warning title=trainfare comment::{}",
    "gitlab": "warning: {}",
    "azure": "##vso[task.logissue type=warning]{}",
}


def comment(
    report: Annotated[
        Path, typer.Argument(help="Markdown of the check: `trainfare check --output markdown=FILE`")
    ],
    *,
    key: Annotated[
        str, typer.Option(help="one comment a key: name one where several checks comment on a pull request")
    ] = "check",
    exit_code: Annotated[
        str, typer.Option(help="of the check, for a report that says why there is none")
    ] = "",
    log: Annotated[
        Path | None,
        typer.Option(help="standard error of the check, with the reason where there is no report"),
    ] = None,
) -> None:
    """
    Write or replace one comment on the pull request of this CI job, and the job's summary.

    Runs in GitHub Actions (token: GITHUB_TOKEN), GitLab CI (GITLAB_TOKEN) and Azure Pipelines (SYSTEM_ACCESSTOKEN).
    A comment that the host refuses is a warning with the reason, and exit 0.
    """
    from trainfare.pull_request.comment import mark_of

    mark = mark_of(key)
    job = _job(os.environ)
    text = _report(report, exit_code, log)
    why_not = _put_on_pull_request(job, mark, text)
    if why_not:
        _warn(job, why_not)
    _summarize(job, text, why_not, report)


def _job(environ: Mapping[str, str]) -> CiJob:
    from trainfare.pull_request.azure_devops import azure_job
    from trainfare.pull_request.github import github_job
    from trainfare.pull_request.gitlab import gitlab_job

    systems: tuple[tuple[str, Callable[[Mapping[str, str]], CiJob]], ...] = (
        ("GITHUB_ACTIONS", github_job),
        ("GITLAB_CI", gitlab_job),
        ("TF_BUILD", azure_job),
    )
    for name, job_of in systems:
        if environ.get(name, "").lower() == "true":
            return job_of(environ)
    names = ", ".join(name for name, _ in systems)
    raise InputError(
        f"this is no job of GitHub Actions, GitLab CI or Azure Pipelines: none of {names} is set to true"
    )


def _report(path: Path, exit_code: str, log: Path | None) -> str:
    """Return the report; that of the error where the check ended before it wrote one."""
    from trainfare.pull_request.comment import error_report

    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if log is not None and log.is_file():
            return error_report(exit_code or "?", log.read_text(encoding="utf-8", errors="replace"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: it cannot be read as UTF-8") from error
    raise InputError(f"{path}: no such file; write it with: trainfare check --output markdown={path}")


def _put_on_pull_request(job: CiJob, mark: str, text: str) -> str:
    """Write or replace the comment; return why there is none where there should be one, else ""."""
    from trainfare.pull_request.ci_job import NoComment
    from trainfare.pull_request.comment import comment_text, connection, post

    if isinstance(job.host, NoComment):
        if job.host.expected:
            sys.stdout.write(f"no comment: {terminal_text(job.host.because)}\n")
        return "" if job.host.expected else job.host.because
    for package in ("httpx", "tenacity"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "ci")
    try:
        with connection(_HOSTS[job.system]) as http:
            host = job.host(http)
            whole = comment_text(
                mark, text, commit=job.commit, longest=host.longest, whole_report=job.whole_report
            )
            posted = post(host, mark, whole)
    except FetchError as error:
        return str(error)
    sys.stdout.write(f"comment {posted.done}: {terminal_text(posted.url)}\n")
    _append(job.outputs, f"comment-url={terminal_text(posted.url)}\n")
    return ""


def _warn(job: CiJob, why_not: str) -> None:
    line = terminal_text(f"no comment on the pull request: {why_not}")
    if job.system == "github":
        line = line.replace("%", "%25")
    sys.stdout.write(_WARNINGS[job.system].format(line) + "\n")


def _summarize(job: CiJob, text: str, why_not: str, report: Path) -> None:
    """Show the report in the summary of the job, where the system has one, with the reason why there is no comment."""
    from trainfare.pull_request.comment import cut_text

    if job.system == "azure" and report.is_file():
        sys.stdout.write(f"##vso[task.uploadsummary]{terminal_text(str(report.absolute()))}\n")
    reason = f"\n> No comment on the pull request: {markdown_text(why_not)}\n" if why_not else ""
    # Characters of up to four bytes; a report in ASCII is cut no earlier than one that has them.
    most = _SUMMARY_BYTES - len(reason.encode()) - 1
    while len(text.encode()) > most:
        text = cut_text(text, len(text) - max(1, (len(text.encode()) - most) // 4), "")
    _append(job.summary, f"{text}{reason}\n")


def _append(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{path}: it cannot be written") from error
