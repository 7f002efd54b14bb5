"""The environments that GitHub Actions, GitLab CI and Azure Pipelines give a job, with a loopback host behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from builders.code_hosts import TOKEN, AzureServer, CodeHostServer, GitHubServer, GitLabServer

COMMIT = "1f9a2b3c4d5e6f708192a3b4c5d6e7f801234567"
CI_VARIABLES = ("GITHUB_", "GITLAB_", "CI_", "TF_BUILD", "SYSTEM_", "BUILD_")
"""How the names begin that the three systems set: a test removes those of the CI it runs in."""


def ci_environment(host: CodeHostServer, folder: Path, *, token: str = TOKEN) -> dict[str, str]:
    """Return the environment of a job for the pull request of a host."""
    if isinstance(host, GitHubServer):
        return github_environment(host, folder, token=token)
    if isinstance(host, GitLabServer):
        return {
            "GITLAB_CI": "true",
            "CI_API_V4_URL": f"{host.url}/api/v4",
            "CI_MERGE_REQUEST_PROJECT_ID": "42",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_MERGE_REQUEST_PROJECT_URL": "https://gitlab.example/octo/models",
            "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": COMMIT,
            "CI_COMMIT_SHA": "0" * 40,
            "CI_JOB_URL": "https://gitlab.example/octo/models/-/jobs/99",
            "GITLAB_TOKEN": token,
        }
    assert isinstance(host, AzureServer)
    return {
        "TF_BUILD": "True",
        "SYSTEM_COLLECTIONURI": f"{host.url}/octo/",
        "SYSTEM_TEAMPROJECTID": "project-id",
        "SYSTEM_PULLREQUEST_PULLREQUESTID": "7",
        "SYSTEM_PULLREQUEST_SOURCECOMMITID": COMMIT,
        "SYSTEM_ACCESSTOKEN": token,
        "BUILD_REPOSITORY_ID": "repo-id",
        "BUILD_REPOSITORY_PROVIDER": "TfsGit",
        "BUILD_BUILDID": "99",
    }


def github_environment(
    host: CodeHostServer,
    folder: Path,
    *,
    token: str = TOKEN,
    source: str | None = "octo/models",
    author: str = "octocat",
    event: dict[str, Any] | None = None,
) -> dict[str, str]:
    """Return the environment of a job of GitHub Actions; `source` is where the branch comes from."""
    folder.mkdir(exist_ok=True)
    head = {"sha": COMMIT, "ref": "topic", "repo": None if source is None else {"full_name": source}}
    opened = {"number": 7, "action": "synchronize"}
    opened["pull_request"] = {"number": 7, "head": head, "user": {"login": author, "type": "User"}}
    (folder / "event.json").write_text(json.dumps(opened if event is None else event))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": host.url,
        "GITHUB_GRAPHQL_URL": f"{host.url}/graphql",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "octo/models",
        "GITHUB_RUN_ID": "99",
        "GITHUB_SHA": "0" * 40,
        "GITHUB_EVENT_NAME": "pull_request" if event is None else "push",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "outputs.txt"),
        "GITHUB_TOKEN": token,
    }
