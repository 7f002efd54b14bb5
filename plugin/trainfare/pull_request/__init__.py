"""The comment on a pull request: one a key, found again by a hidden mark, on GitHub, GitLab and Azure DevOps."""

from trainfare.pull_request.azure_devops import azure_job
from trainfare.pull_request.ci_job import CiJob, CodeHost, Comment, NoComment
from trainfare.pull_request.comment import (
    Posted,
    comment_text,
    connection,
    cut_text,
    error_report,
    mark_of,
    post,
    upsert,
)
from trainfare.pull_request.github import github_job
from trainfare.pull_request.gitlab import gitlab_job

__all__ = [
    "CiJob",
    "CodeHost",
    "Comment",
    "NoComment",
    "Posted",
    "azure_job",
    "comment_text",
    "connection",
    "cut_text",
    "error_report",
    "github_job",
    "gitlab_job",
    "mark_of",
    "post",
    "upsert",
]
