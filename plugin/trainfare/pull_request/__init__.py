"""The comment on a pull request: one a key, found again by a hidden mark, on GitHub, GitLab and Azure DevOps."""

from trainfare.pull_request.azure_devops import azure_job
from trainfare.pull_request.ci_job import CiJob, CodeHost, Comment, NoComment
from trainfare.pull_request.github import github_job
from trainfare.pull_request.gitlab import gitlab_job
from trainfare.pull_request.text import comment_text, cut_text, error_report, mark_of
from trainfare.pull_request.upsert import Posted, connection, post, upsert

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
