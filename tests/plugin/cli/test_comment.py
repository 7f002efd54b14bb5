"""`trainfare comment`: one comment on the pull request of three code hosts, and a warning where there can be none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.ci_jobs import CI_VARIABLES, ci_environment, github_environment
from builders.cli import run_main
from builders.code_hosts import (
    TOKEN,
    Answer,
    AzureServer,
    CodeHostServer,
    GitHubServer,
    GitLabServer,
    running,
)

REPORT = "## trainfare check: passed\n\n| job | USD |\n|---|---:|\n| small | 1.00 |\n"
MARK = "<!-- trainfare comment: check -->"
HOSTS = [GitHubServer, GitLabServer, AzureServer]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a report in it and no CI around it."""
    for name in os.environ:
        if name.startswith(CI_VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "comment.md").write_text(REPORT)
    return tmp_path


@pytest.fixture(params=HOSTS, ids=lambda kind: kind.__name__)
def host(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CodeHostServer]:
    """Each code host in turn, and the job of its CI."""
    with running(request.param()) as server:
        in_job(monkeypatch, ci_environment(server, folder / "runner"))
        yield server


@pytest.fixture
def github(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHubServer]:
    with running(GitHubServer()) as server:
        assert isinstance(server, GitHubServer)
        in_job(monkeypatch, github_environment(server, folder / "runner"))
        yield server


def in_job(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def comment(*arguments: str, report: str = "comment.md") -> int:
    return run_main("comment", report, *arguments)


def test_the_first_run_writes_and_later_ones_replace(host: CodeHostServer, folder: Path) -> None:
    """However often the job runs, also after the pull request was closed and opened again, there is one comment."""
    host.put("a question", author="800")
    for text in (REPORT, REPORT, REPORT.replace("1.00", "2.00")):
        (folder / "comment.md").write_text(text)
        assert comment() == 0
    assert len(host.comments) == 2
    assert host.comments[1].text == (
        f"{MARK}\n\n{REPORT.replace('1.00', '2.00')}\n<sub>checked at 1f9a2b3c4d</sub>\n"
    )
    assert host.comments[1].author == host.me


def test_a_token_that_the_server_sends_back_is_not_shown(
    host: CodeHostServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor where it stands at the place at which the server's words are cut."""
    for before in (0, 280, 290, 299):
        host.faults["POST"] = [Answer(403, {"message": "x" * before + f" Bearer {TOKEN} and {TOKEN}"})] * 4
        assert comment() == 0
    shown = capsys.readouterr().out + "".join(
        path.read_text() for path in (folder / "runner").rglob("*") if path.is_file()
    )
    assert "403" in shown
    assert "***" in shown
    assert TOKEN[:6] not in shown.replace("***", "")


def test_a_token_in_the_address_of_a_comment_is_not_shown(
    github: GitHubServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GitHub says where a comment is; that goes to the log and to the outputs of the step."""
    answer = {"id": 1, "html_url": f"https://github.example/{TOKEN}/1", "body": "", "user": None}
    github.faults["POST"] = [Answer(201, answer)]
    assert comment() == 0
    shown = capsys.readouterr().out + "".join(
        path.read_text() for path in (folder / "runner").rglob("*") if path.is_file()
    )
    assert "https://github.example/***/1" in shown
    assert TOKEN not in shown


def test_a_listing_that_never_ends_is_given_up(
    github: GitHubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server whose every page has a next one is asked for 100 pages, not for 10,000."""
    pages = iter(range(1_000_000))
    github.faults["GET"] = [
        Answer(200, [], (("Link", f'<{github.url}/page/{next(pages)}>; rel="next"'),)) for _ in range(300)
    ]
    assert comment() == 0
    assert "more than 100" in capsys.readouterr().out
    assert next(pages) == 300
    assert len(github.faults["GET"]) == 200


def test_a_key_has_a_comment_of_its_own(host: CodeHostServer) -> None:
    """Two checks on one pull request do not overwrite each other, also where one key begins with the other."""
    for key in ("vision", "vision-2", "vision"):
        assert comment("--key", key) == 0
    assert [text.splitlines()[0] for text in host.texts()] == [
        "<!-- trainfare comment: vision -->",
        "<!-- trainfare comment: vision-2 -->",
    ]


def test_another_accounts_comment_is_not_ours(host: CodeHostServer) -> None:
    """Whoever copies the hidden mark gets no report into a comment that they can edit."""
    host.put(f"{MARK}\n\n## trainfare check: passed", author="800")
    assert comment() == 0
    assert host.comments[0].text.endswith("passed")
    assert host.comments[1].author == host.me


def test_the_comment_is_found_on_a_later_page(host: CodeHostServer) -> None:
    """A pull request may have more comments than the API lists at once."""
    for number in range(250):
        host.put(f"words {number}", author="800")
    host.put(f"{MARK}\n\nold")
    assert comment() == 0
    assert len(host.comments) == 251
    assert host.texts()[-1].startswith(f"{MARK}\n\n## trainfare check: passed")


def test_two_comments_become_one(host: CodeHostServer) -> None:
    """Two jobs that ran at once may both have written one: the next run replaces the older and removes the other."""
    for _ in range(3):
        host.put(f"{MARK}\n\nold")
    assert comment() == 0
    assert [comment.id for comment in host.comments] == [1]


def test_a_long_report_is_cut_at_a_line(host: CodeHostServer, folder: Path) -> None:
    """The host takes it, and it says where the rest is."""
    rows = "".join(f"| {number} | ⚡ {'x' * 90} |\n" for number in range(12_000))
    (folder / "comment.md").write_text(REPORT + rows)
    assert comment() == 0
    text = host.texts()[0]
    assert host.longest - 200 < len(text) <= host.longest
    assert "cut here" in text
    assert "/runs/99)" in text or "/jobs/99)" in text or "buildId=99)" in text
    kept = text.split("\n\n**The report is cut")[0]
    assert kept.splitlines()[-1].endswith("x |")


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_a_warning_with_what_to_do(
    host: CodeHostServer, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token without the permission, or that may not know of the project, costs the comment, never the exit code."""
    host.read_only = True
    if status == 404:
        host.faults["POST"] = [Answer(404, {"message": "Not found"})]
    assert comment() == 0
    said = capsys.readouterr().out
    assert "no comment on the pull request: " in said
    assert str(status) in said
    wanted = {"GitHubServer": "pull-requests: write", "GitLabServer": "scope api"}
    assert wanted.get(type(host).__name__, "Contribute to pull requests") in said
    assert TOKEN not in said
    assert host.comments == []


@pytest.mark.parametrize("status", [429, 500, 502])
def test_a_failure_that_passes_is_tried_again(
    host: CodeHostServer, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The comments are read anew, so that a comment that was written before the failure is not written twice."""
    host.faults = {"POST": [Answer(status, {"message": "later"}, (("Retry-After", "0"),))]}
    host.put(f"{MARK}\n\nold", author="800")
    assert comment() == 0
    assert len(host.comments) == 2
    assert "comment created" in capsys.readouterr().out


def test_a_comment_that_was_written_before_the_failure_is_found(host: CodeHostServer) -> None:
    """The answer to the first POST is lost after the host has stored the comment."""
    real = host.respond

    def store_then_fail(call: Any) -> Answer:
        answer = real(call)
        if call.method == "POST" and call.path != "/graphql" and host.methods().count("POST") == 1:
            return Answer(503, {"message": "timeout"}, (("Retry-After", "0"),))
        return answer

    host.respond = store_then_fail  # type: ignore[method-assign]
    assert comment() == 0
    assert len(host.comments) == 1


def test_a_long_wait_is_not_waited_for(host: CodeHostServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate limit for an hour is a warning at once."""
    host.faults = {"GET": [Answer(429, {"message": "slow down"}, (("Retry-After", "3600"),))]}
    assert comment() == 0
    assert "the rate limit is reached for another 3,600 s" in capsys.readouterr().out
    assert len(host.calls) == 1


def test_a_comment_that_vanished_is_written_anew(host: CodeHostServer) -> None:
    """Somebody removes it between the listing and the change."""
    host.put(f"{MARK}\n\nold")
    change = "PUT" if isinstance(host, GitLabServer) else "PATCH"
    host.faults = {change: [Answer(404, {"message": "Not Found"})]}
    assert comment() == 0
    assert host.texts()[-1].startswith(f"{MARK}\n\n## trainfare check: passed")


def test_no_token_is_a_warning(
    host: CodeHostServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("GITHUB_TOKEN", "GITLAB_TOKEN", "SYSTEM_ACCESSTOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert comment() == 0
    assert "there is no token" in capsys.readouterr().out
    assert host.calls == []


def test_a_token_that_is_not_accepted(
    host: CodeHostServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("GITHUB_TOKEN", "GITLAB_TOKEN", "SYSTEM_ACCESSTOKEN"):
        if name in os.environ:
            monkeypatch.setenv(name, "other")
    assert comment() == 0
    assert "the token is not accepted" in capsys.readouterr().out


def test_an_answer_of_another_form_is_a_warning(
    host: CodeHostServer, capsys: pytest.CaptureFixture[str]
) -> None:
    host.faults = {"GET": [Answer(200, "<html>sign in</html>")]}
    assert comment() == 0
    assert "the answer is not what its API describes" in capsys.readouterr().out


def test_a_page_on_another_site_is_not_followed(
    github: GitHubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token goes to no other host."""
    away = (("Link", '<https://evil.example/comments?page=2>; rel="next"'),)
    github.faults = {"GET": [Answer(200, [], away)]}
    assert comment() == 0
    assert "redirects to an address that may not be used" in capsys.readouterr().out


def test_githubs_rate_limit_is_a_403(github: GitHubServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Its headers tell it from a missing permission; the primary limit names the time at which it ends."""
    spent = (("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "99999999999"))
    for headers, words in ((spent, "rate limit is reached for another"), ((), "pull-requests: write")):
        github.faults = {"GET": [Answer(403, {"message": "API rate limit exceeded"}, headers)]}
        assert comment() == 0
        assert words in capsys.readouterr().out
    secondary = (("Retry-After", "0"),)
    github.faults = {"GET": [Answer(403, {"message": "You have exceeded a secondary rate limit"}, secondary)]}
    assert comment() == 0
    assert "comment created" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "author", "words"),
    [
        ("mallory/models", "mallory", "comes from a fork"),
        (None, "ghost", "comes from a fork"),
        ("octo/models", "dependabot[bot]", "Dependabot"),
    ],
)
def test_a_fork_gets_the_summary_and_the_reason(
    github: GitHubServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str | None,
    author: str,
    words: str,
) -> None:
    """The token of a fork's workflow can only read: the report is in the job's summary, with the reason."""
    github.read_only = True
    in_job(monkeypatch, github_environment(github, folder / "runner", source=source, author=author))
    assert comment() == 0
    assert "::warning title=trainfare comment::no comment on the pull request: " in capsys.readouterr().out
    summary = (folder / "runner" / "summary.md").read_text()
    assert summary.startswith(REPORT)
    assert "> No comment on the pull request: " in summary
    assert words in summary


def test_the_summary_and_the_output_of_a_step(github: GitHubServer, folder: Path) -> None:
    assert comment() == 0
    assert (folder / "runner" / "summary.md").read_text() == f"{REPORT}\n"
    assert (folder / "runner" / "outputs.txt").read_text() == (
        "comment-url=https://github.example/octo/models/pull/7#issuecomment-1\n"
    )


def test_a_summary_has_a_limit_too(github: GitHubServer, folder: Path) -> None:
    (folder / "comment.md").write_text(REPORT + "⚡ words\n" * 300_000, encoding="utf-8")
    assert comment() == 0
    size = (folder / "runner" / "summary.md").stat().st_size
    assert 1024 * 1024 - 64 < size <= 1024 * 1024


def test_a_push_has_no_pull_request(
    github: GitHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is no warning: the summary has the report."""
    in_job(monkeypatch, github_environment(github, folder / "runner", event={"ref": "refs/heads/main"}))
    assert comment() == 0
    assert capsys.readouterr().out == "no comment: the event push is of no pull request\n"
    assert (folder / "runner" / "summary.md").read_text().startswith(REPORT)
    assert github.calls == []


def test_a_command_in_a_comment_is_of_its_pull_request(
    github: GitHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event issue_comment names an issue; it is a pull request only where it says so."""
    issue: dict[str, Any] = {"number": 7}
    in_job(monkeypatch, github_environment(github, folder / "runner", event={"issue": issue}))
    assert comment() == 0
    assert github.comments == []
    issue["pull_request"] = {"url": "https://api.github.example/repos/octo/models/pulls/7"}
    in_job(monkeypatch, github_environment(github, folder / "runner", event={"issue": issue}))
    assert comment() == 0
    assert len(github.comments) == 1


@pytest.mark.parametrize("author", ["some-app[bot]", "octocat"])
def test_without_the_viewer_a_bots_comment_is_ours(github: GitHubServer, author: str) -> None:
    """A GitHub without GraphQL does not say who the token is: a comment of a person is never replaced."""
    github.viewer = False
    github.put(f"{MARK}\n\nold", author=author)
    assert comment() == 0
    assert len(github.comments) == (1 if author.endswith("[bot]") else 2)


def test_a_branch_pipeline_finds_its_merge_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitLab names the open merge requests of a branch by path and number."""
    with running(GitLabServer()) as server:
        environment = ci_environment(server, folder / "runner")
        environment = {k: v for k, v in environment.items() if not k.startswith("CI_MERGE_REQUEST")}
        in_job(monkeypatch, environment | {"CI_OPEN_MERGE_REQUESTS": "octo/models!7,octo/models!8"})
        assert comment() == 0
        assert server.calls[0].path == "/api/v4/projects/octo%2Fmodels/merge_requests/7/notes"


def test_an_azure_thread_holds_up_no_merge_and_the_report_is_in_the_summary(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(AzureServer()) as server:
        assert isinstance(server, AzureServer)
        in_job(monkeypatch, ci_environment(server, folder / "runner"))
        assert comment() == 0
        assert server.statuses == {1: "closed"}
        assert f"##vso[task.uploadsummary]{folder / 'comment.md'}" in capsys.readouterr().out
        monkeypatch.setenv("BUILD_REPOSITORY_PROVIDER", "GitHub")
        assert comment() == 0
        assert "##vso[task.logissue type=warning]no comment" in capsys.readouterr().out


def test_a_check_without_a_report_says_why(github: GitHubServer, folder: Path) -> None:
    """A check that could not answer leaves no report: the comment has the error, as text."""
    (folder / "check.log").write_text(
        "loaded\nerror: first\nwarning: x\nerror: train.py:job: the step cannot be traced: <b>aten.nonzero</b> | @all\n"
    )
    assert comment("--exit-code", "3", "--log", "check.log", report="none.md") == 0
    text = github.texts()[0]
    assert "## trainfare check: cannot tell" in text
    assert "the step cannot be traced: &lt;b&gt;aten.nonzero&lt;/b&gt; &#124; @&#8203;all" in text
    assert "exit code 3" in text
    assert "first" not in text


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"),
    [
        (lambda _: None, ("--key", "a b"), "--key 'a b': use at most 64"),
        (lambda _: None, ("--key", "a--b"), "single dashes"),
        (lambda p: (p / "comment.md").unlink(), (), "comment.md: no such file"),
        (lambda p: (p / "comment.md").write_bytes(b"\xff"), (), "cannot be read as UTF-8"),
        (lambda p: (p / "runner" / "event.json").write_text("{"), (), "no event of GitHub Actions"),
    ],
)
def test_bad_usage_ends_with_two(
    github: GitHubServer,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Path], object],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    prepare(folder)
    assert comment(*arguments) == 2
    assert words in capsys.readouterr().err
    assert github.calls == []


def test_outside_of_ci_it_is_bad_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert comment() == 2
    assert "no job of GitHub Actions, GitLab CI or Azure Pipelines" in capsys.readouterr().err
