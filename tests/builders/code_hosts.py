"""
Loopback GitHub, GitLab and Azure DevOps: the part of their APIs about comments, with what they refuse; real clients talk to them.

Each keeps the comments of one pull request. `faults` come first, by method, each once.
"""

from __future__ import annotations

import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "cAnArYtOkEn"
"""What every test's token is; a test can look for it in what is printed."""


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int = 200
    value: Any = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Written:
    """A comment on the pull request."""

    id: int
    author: str
    text: str


@dataclass
class CodeHostServer(ABC):
    """What the three have in common."""

    me: str = ""
    longest: int = 0
    read_only: bool = False
    comments: list[Written] = field(default_factory=list)
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def methods(self) -> list[str]:
        """Return the methods of the requests, in order."""
        return [call.method for call in self.calls]

    def put(self, text: str, *, author: str | None = None) -> Written:
        """Add a comment that somebody has written."""
        comment = Written(
            1 + max((comment.id for comment in self.comments), default=0), author or self.me, text
        )
        self.comments.append(comment)
        return comment

    def texts(self) -> list[str]:
        return [comment.text for comment in self.comments]

    def find_by_path(self, path: str) -> Written | None:
        number = int(re.findall(r"/(\d+)", path)[-1])
        return next((comment for comment in self.comments if comment.id == number), None)

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        queue = self.faults.get(call.method, [])
        if queue:
            return queue.pop(0)
        if TOKEN not in self.token_of(call.headers):
            return Answer(401, {"message": "Bad credentials"})
        return self.respond(call)

    def token_of(self, headers: dict[str, str]) -> str:
        return headers.get("authorization", "")

    @abstractmethod
    def respond(self, call: Call) -> Answer:
        """Answer a call whose token is right, as the code host does."""

    def page(self, call: Call, entries: list[Any]) -> Answer:
        """Return one page of a listing, with the `Link` to the next."""
        size, number = min(int(call.query.get("per_page", "30")), 100), int(call.query.get("page", "1"))
        query = "&".join(f"{key}={value}" for key, value in call.query.items() if key != "page")
        last = max(1, -(-len(entries) // size))

        def link(page: int, rel: str) -> str:
            return f'<{self.url}{call.path}?{query}&page={page}>; rel="{rel}"'

        links = [link(number + 1, "next"), link(last, "last")] if number < last else []
        headers = (("Link", ", ".join(links)),) if links else ()
        return Answer(200, entries[(number - 1) * size : number * size], headers)


@dataclass
class GitHubServer(CodeHostServer):
    """Pull request 7 of octo/models; refuses as GitHub does, and knows the viewer of GraphQL."""

    me: str = "github-actions[bot]"
    longest: int = 65_536
    viewer: bool = True

    def respond(self, call: Call) -> Answer:
        if call.path == "/graphql":
            data = (
                {"data": {"viewer": {"login": self.me}}} if self.viewer else {"errors": [{"message": "no"}]}
            )
            return Answer(200, data)
        if call.path == "/user":  # what a workflow's token gets
            return self._refusal()
        if self.read_only and call.method != "GET":
            return self._refusal()
        if call.body is not None and len(call.body["body"]) > self.longest:
            error = {"resource": "IssueComment", "code": "unprocessable", "field": "data"}
            error["message"] = "Body is too long (maximum is 65536 characters)"
            return Answer(422, {"message": "Validation Failed", "errors": [error]})
        if call.path == "/repos/octo/models/issues/7/comments":
            if call.method == "GET":
                return self.page(call, [self._show(comment) for comment in self.comments])
            return Answer(201, self._show(self.put(call.body["body"])))
        comment = (
            self.find_by_path(call.path)
            if call.path.startswith("/repos/octo/models/issues/comments/")
            else None
        )
        if comment is None:
            return Answer(404, {"message": "Not Found"})
        if call.method == "DELETE":
            self.comments.remove(comment)
            return Answer(204)
        comment.text = call.body["body"]
        return Answer(200, self._show(comment))

    def _refusal(self) -> Answer:
        return Answer(403, {"message": "Resource not accessible by integration", "status": "403"})

    def _show(self, each: Written) -> dict[str, Any]:
        user = {"login": each.author, "type": "Bot" if each.author.endswith("[bot]") else "User"}
        page = f"https://github.example/octo/models/pull/7#issuecomment-{each.id}"
        return {"id": each.id, "html_url": page, "body": each.text, "user": user, "node_id": "x"}


@dataclass
class GitLabServer(CodeHostServer):
    """Merge request 7 of project 42."""

    me: str = "900"
    longest: int = 1_000_000

    def token_of(self, headers: dict[str, str]) -> str:
        return headers.get("private-token", "")

    def respond(self, call: Call) -> Answer:
        if call.path == "/api/v4/user":
            return Answer(200, {"id": int(self.me), "username": "project_42_bot", "bot": True})
        notes = "/api/v4/projects/42/merge_requests/7/notes"
        if not call.path.startswith(notes):
            return Answer(404, {"message": "404 Not found"})
        if self.read_only and call.method != "GET":
            return Answer(403, {"message": "403 Forbidden"})
        if call.path == notes:
            if call.method == "GET":
                system = {"id": 1_000_000, "body": "added 1 commit", "author": {"id": 1}, "system": True}
                return self.page(call, [system, *(self._show(comment) for comment in self.comments)])
            return Answer(201, self._show(self.put(call.body["body"])))
        comment = self.find_by_path(call.path)
        if comment is None:
            return Answer(404, {"message": "404 Note Not Found"})
        if call.method == "DELETE":
            self.comments.remove(comment)
            return Answer(204)
        comment.text = call.body["body"]
        return Answer(200, self._show(comment))

    def _show(self, each: Written) -> dict[str, Any]:
        return {"id": each.id, "body": each.text, "author": {"id": int(each.author)}, "system": False}


@dataclass
class AzureServer(CodeHostServer):
    """Pull request 7 of repository `repo-id` in project `project-id`; each comment is the first of a thread."""

    me: str = "11111111-aaaa"
    longest: int = 150_000
    statuses: dict[int, str] = field(default_factory=dict)

    def respond(self, call: Call) -> Answer:
        if not call.query.get("api-version", "").startswith("7.1"):
            return Answer(400, {"message": "No api-version was supplied"})
        if call.path == "/octo/_apis/connectionData":
            return Answer(200, {"authenticatedUser": {"id": self.me}, "authorizedUser": {"id": "other"}})
        threads = "/octo/project-id/_apis/git/repositories/repo-id/pullRequests/7/threads"
        if not call.path.startswith(threads):
            return Answer(404, {"message": "TF401180: The requested pull request was not found."})
        if self.read_only and call.method != "GET":
            permission = (
                "TF401027: You need the Git 'PullRequestContribute' permission to perform this action."
            )
            return Answer(403, {"$id": "1", "message": permission})
        if call.path == threads:
            if call.method == "GET":
                gone = {"id": 0, "isDeleted": True, "comments": [{"id": 1, "isDeleted": True}]}
                value = [gone, *(self._show(comment) for comment in reversed(self.comments))]
                return Answer(200, {"value": value, "count": len(value)})
            result = self.put(call.body["comments"][0]["content"])
            self.statuses[result.id] = call.body["status"]
            return Answer(200, self._show(result))
        thread = int(call.path.removeprefix(f"{threads}/").partition("/")[0])
        comment = next(comment for comment in self.comments if comment.id == thread)
        if call.method == "DELETE":
            self.comments.remove(comment)
            return Answer(200)
        comment.text = call.body["content"]
        return Answer(200, self._show(comment)["comments"][0])

    def _show(self, each: Written) -> dict[str, Any]:
        first = {"id": 1, "content": each.text, "author": {"id": each.author}, "commentType": "text"}
        reply = {"id": 2, "content": each.text, "author": {"id": self.me}, "commentType": "text"}
        return {"id": each.id, "comments": [first, reply], "status": self.statuses.get(each.id, "active")}


@contextmanager
def running(host: CodeHostServer) -> Iterator[CodeHostServer]:
    """Serve a code host on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            raw = self.rfile.read(length)
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            headers = {key.lower(): value for key, value in self.headers.items()}
            call = Call(self.command, parts.path, query, headers, json.loads(raw) if raw else None)
            answer = host.answer(call)
            body = b"" if answer.value is None else json.dumps(answer.value).encode()
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
