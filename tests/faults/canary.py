"""
A marked secret in every place where one may be, and a search of every place where none may appear.

    with witness(monkeypatch, tmp_path) as seen:
        result = refresh(...)
        seen.text(result, report)
    # on the way out: not in a log at DEBUG, a file below tmp_path, a name, or a text that was given
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trainfare_providers.plugins import provider_entries

CANARY = "c4n4ryS3cretDoNotTell"

VARIABLES = {
    "AWS_ACCESS_KEY_ID": f"AKIA{CANARY}",
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "AWS_SESSION_TOKEN": CANARY,
    "AZURE_CLIENT_SECRET": CANARY,
    "AZURE_CLIENT_ID": CANARY,
    "AZURE_TENANT_ID": CANARY,
    "GOOGLE_API_KEY": CANARY,
}
_SECRET_NAME = re.compile("KEY|SECRET|TOKEN|PASSWORD")


@dataclass
class Witness:
    """Collects texts that must not contain the secret."""

    folder: Path
    texts: list[str] = field(default_factory=list)
    planted: int = 0
    searched: int = 0

    def text(self, *things: object) -> None:
        """Add things in the forms that a user or a log would print."""
        for thing in things:
            self.texts += [str(thing), repr(thing)]
            if isinstance(thing, BaseException):
                self.texts.append(format_told(thing))

    def check(self) -> None:
        """Check that no text, file or file name contains the secret."""
        for text in self.texts:
            assert CANARY not in text, text[:2000]
        paths = list(self.folder.rglob("*"))
        for path in paths:
            assert CANARY not in str(path)
            if path.is_file() and path.name != "credentials":
                assert CANARY.encode() not in path.read_bytes(), path
        self.searched = len(self.texts) + len(paths)

    def record(self, record: Callable[[str, object], None]) -> None:
        """Record what was planted and where it was looked for."""
        record("at least {} secrets planted in variables and a file for each case", self.planted)
        record("{} messages, tracebacks, logs and files searched, none with a secret", self.searched)


def format_told(error: BaseException) -> str:
    """A traceback with local variables, causes and contexts, without the frames of tests."""
    traceback_exception = traceback.TracebackException.from_exception(error, capture_locals=True)
    seen: list[str] = []
    chain: list[traceback.TracebackException | None] = [traceback_exception]
    while chain:
        exception = chain.pop()
        if exception is None:
            continue
        chain += [exception.__cause__, exception.__context__]
        exception.stack = traceback.StackSummary.from_list(
            [f for f in exception.stack if "/tests/" not in f.filename]
        )
        seen += list(exception.format(chain=False))
    return "".join(seen)


@contextmanager
def witness(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Witness]:
    """Put the secret into the environment and ~/.aws/credentials, and record every logger at DEBUG."""
    needs = {name: CANARY for entry in provider_entries() for name in getattr(entry.load(), "needs", ())}
    variables = {name: needs[name] for name in needs if _SECRET_NAME.search(name)} | VARIABLES
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    home = folder / "home"
    (home / ".aws").mkdir(parents=True)
    keys = f"[default]\naws_access_key_id = AKIA{CANARY}\naws_secret_access_key = {CANARY}\n"
    (home / ".aws" / "credentials").write_text(keys)
    monkeypatch.setenv("HOME", str(home))
    seen = Witness(folder, planted=len(variables) + keys.count(CANARY))

    class RecordingHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.texts.append(f"{record.name}: {record.getMessage()} {record.__dict__}")

    root, handler = logging.getLogger(), RecordingHandler(logging.DEBUG)
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield seen
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    seen.check()
