"""
A large file that is parsed while it arrives, and goes on where a cut connection stopped.

A server that declares `Accept-Ranges: bytes`, a length and a strong version (an `ETag`, else a settled `Last-Modified`)
is asked for the rest, on the condition that the version is still the same (`If-Range`). Any other answer than exactly
that rest starts the file anew: half of one version and half of another would be parsed as one price list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from trainfare_core.errors import FetchError
from trainfare_providers.disk.part_files import PartFacts, PartFile
from trainfare_providers.http.answer import HttpRequest, OpenAnswer, body_chunks
from trainfare_providers.http.exchange import Head
from trainfare_providers.http.progress import Step

_MAX_RESUMES: Final = 20
"""Of one file. A chosen value: cut every 150 MB, 3 GB still come; cut at every byte, it ends."""

_MAX_STARTS: Final = 3
"""A price file is replaced about once a day: one that changes twice while it is read is not a file."""

_SETTLED_S: Final = 60.0
"""A file that changed less than this before the answer may have two contents with one date (RFC 7232, 2.2.2)."""

ROWS_A_STEP: Final = 1000
"""Rows between two reports of the progress: a display needs no more, and each costs some microseconds."""
_RANGE: Final = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", re.ASCII)
_LENGTH: Final = re.compile(r"[0-9]{1,15}", re.ASCII)

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class FileVersion:
    """
    What tells one version of a file from another.

    Attributes:
        validator: a strong `ETag`, or a `Last-Modified`.
        total_bytes: as they come over the network.
        encoding: `Content-Encoding`.
    """

    validator: str
    total_bytes: int
    encoding: str


class _ChangedError(FetchError):
    """The rest of the file cannot be fetched, so that it starts anew."""


class Download:
    """
    One attempt to read a file from its beginning to its end.

    Args:
        request: of the file.
        ask: opens a request; only the given statuses are answers. It retries until one begins.
        release: ends an answer.
        lost: told the seconds in which nothing came before a connection was cut.
        clock: monotonic, seconds.
        max_bytes: unpacked.
        part: where the beginning may be kept; None is nowhere.
        tell: told how far it is.
        step: what is told, without the counts.
    """

    def __init__(
        self,
        request: HttpRequest,
        *,
        ask: Callable[[HttpRequest, tuple[int, ...]], OpenAnswer],
        release: Callable[[OpenAnswer], None],
        lost: Callable[[float], None],
        clock: Callable[[], float],
        max_bytes: int,
        part: PartFile | None,
        tell: Callable[[Step], None],
        step: Step,
    ) -> None:
        self._request, self._ask, self._release = request, ask, release
        self._lost, self._clock, self._max_bytes = lost, clock, max_bytes
        self._part, self._tell, self._step = part, tell, step
        self._version: FileVersion | None = None
        self._offset = self._skip_bytes = self._resumes = 0
        self._came_at_s = clock()

    def chunks(self) -> Iterator[bytes]:
        """
        Yield the unpacked body while it arrives.

        Raises:
            FetchError: it cannot be read to its end, is too large or too slow, or its early end would go unnoticed.
        """
        part = None if self._part is None else self._part.read_kept()
        answer = self._open_first(part)
        with closing(self._raw(answer, goes_on=answer.head.status == 206)) as raw:
            yield from body_chunks(raw, answer.head.content_encoding, self._request, self._max_bytes)

    def count_items(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the rows that are made of the file, and tell how many there are."""
        for item in items:
            self._step = replace(self._step, rows=self._step.rows + 1)
            if self._step.rows % ROWS_A_STEP == 0:
                self._tell(self._step)
            yield item

    def _open_first(self, part: PartFacts | None) -> OpenAnswer:
        """Return the answer of the rest of what is kept, or else of the whole file."""
        if part is not None:
            version, self._offset = (
                FileVersion(part.validator, part.total_bytes, part.encoding),
                part.size_bytes,
            )
            answer = self._ask(_rest_of(self._request, version, self._offset), (200, 206, 416))
            if answer.head.status == 206 and _is_rest(answer.head, version, self._offset):
                self._version = version
                return answer
            if answer.head.status == 200:
                return self._begun(answer)
            self._release(answer)
        return self._begun(self._ask(self._request, (200,)))

    def _begun(self, answer: OpenAnswer) -> OpenAnswer:
        try:
            answer.check_end()
        except BaseException:
            self._release(answer)
            raise
        self._offset, self._version = 0, _version_of(answer.head)
        if self._part is not None:
            if self._version is None:
                self._part.discard()
            else:
                self._part.begin(self._version.validator, self._version.total_bytes, self._version.encoding)
        return answer

    def _raw(self, answer: OpenAnswer, *, goes_on: bool) -> Generator[bytes]:
        total = self._version.total_bytes if self._version else _length_of(answer.head)
        self._step = replace(self._step, bytes_read=0, bytes_total=total, rows=0)
        try:
            if goes_on and self._part is not None:
                yield from self._beginning(self._part)
            while True:
                fault: FetchError | None = None
                self._came_at_s = self._clock()
                try:
                    yield from self._coming(answer)
                except FetchError as error:
                    fault = error
                if fault is None:
                    return
                self._release(answer)
                answer = self._rest_after(fault)
        finally:
            self._release(answer)

    def _beginning(self, part: PartFile) -> Iterator[bytes]:
        """Yield what is kept; a file that was sound a moment ago and cannot be read now starts anew."""
        try:
            for chunk in part.chunks():
                self._count(len(chunk))
                yield chunk
        except OSError:
            raise _report_change(self._request) from None

    def _coming(self, answer: OpenAnswer) -> Iterator[bytes]:
        for whole in answer.raw():
            chunk, self._skip_bytes = whole[self._skip_bytes :], max(0, self._skip_bytes - len(whole))
            self._took(chunk)
            yield chunk
            del chunk, whole

    def _took(self, chunk: bytes) -> None:
        self._came_at_s = self._clock()
        self._offset += len(chunk)
        if self._part is not None:
            self._part.append(chunk)
        self._count(len(chunk))

    def _count(self, size: int) -> None:
        self._step = replace(self._step, bytes_read=self._step.bytes_read + size)
        self._tell(self._step)

    def _rest_after(self, fault: FetchError) -> OpenAnswer:
        """
        Return the answer that goes on where the last one was cut.

        Raises:
            FetchError: it cannot be continued: the fault itself, or what the server says now.
        """
        version = self._version
        if version is None or not fault.retryable or self._resumes >= _MAX_RESUMES:
            raise fault
        self._resumes += 1
        self._skip_bytes = 0
        self._lost(self._clock() - self._came_at_s)
        answer = self._ask(_rest_of(self._request, version, self._offset), (200, 206, 416))
        if answer.head.status == 206 and _is_rest(answer.head, version, self._offset):
            return answer
        if answer.head.status == 200 and _version_of(answer.head) == version:
            # It ignores ranges: what is here already is read again and left out.
            self._skip_bytes = self._offset
            return answer
        self._release(answer)
        raise _report_change(self._request)


def read_file(
    start: Callable[[], Download], parse: Callable[[Download], Result], part: PartFile | None
) -> Result:
    """
    Return what `parse` makes of a file; it is called again, from the beginning, where the file changed meanwhile.

    Args:
        start: makes an attempt.
        parse: reads `Download.chunks()` to the end; what it returns of an attempt that failed is dropped.
        part: where the beginning is kept when an attempt is cut off.

    Raises:
        FetchError: no attempt came to its end.
    """
    starts = 0
    while True:
        starts += 1
        settle = None if part is None else part.discard
        download = start()
        try:
            return parse(download)
        except _ChangedError:
            if starts >= _MAX_STARTS:
                raise
        except FetchError:
            settle = None if part is None else part.keep
            raise
        finally:
            if settle is not None:
                settle()


def _report_change(request: HttpRequest) -> _ChangedError:
    return _ChangedError(request.cloud, str(request.fault("changed")).removeprefix(f"{request.cloud}: "))


def _rest_of(request: HttpRequest, version: FileVersion, offset: int) -> HttpRequest:
    more = {"Range": f"bytes={offset}-", "If-Range": version.validator}
    if not version.encoding:
        more["Accept-Encoding"] = "identity"  # offsets count in the form in which the beginning came
    return HttpRequest(request.cloud, request.url, {**request.headers, **more})


def _is_rest(head: Head, version: FileVersion, offset: int) -> bool:
    """Return whether an answer 206 is exactly what was asked for; a server may say another range or another file."""
    said = _RANGE.fullmatch(_field(head, "content-range"))
    whole = version.total_bytes
    name = "etag" if version.validator.startswith('"') else "last-modified"
    return (
        said is not None
        and tuple(map(int, said.groups())) == (offset, whole - 1, whole)
        and head.content_encoding == version.encoding
        and _length_of(head) in (None, whole - offset)
        and _field(head, name) == version.validator
    )


def _version_of(head: Head) -> FileVersion | None:
    """Return the version of a whole file, or None where the rest of it cannot be asked for."""
    total, tag = _length_of(head), _field(head, "etag")
    validator = tag if re.fullmatch(r'"[^"\x00-\x20]{1,200}"', tag, re.ASCII) else _get_settled_date(head)
    units = _field(head, "accept-ranges").lower().replace(" ", "").split(",")
    if not total or not validator or "bytes" not in units:
        return None
    return FileVersion(validator, total, head.content_encoding)


def _get_settled_date(head: Head) -> str:
    """Return the `Last-Modified` where nothing else can have the same; a weak `ETag` says that something may."""
    text = _field(head, "last-modified")
    try:
        age_s = (parsedate_to_datetime(_field(head, "date")) - parsedate_to_datetime(text)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
    return text if age_s >= _SETTLED_S and not _field(head, "etag") and len(text) < 100 else ""


def _length_of(head: Head) -> int | None:
    text = _field(head, "content-length")
    return int(text) if _LENGTH.fullmatch(text) else None


def _field(head: Head, name: str) -> str:
    return next((value.strip() for key, value in head.fields if key.lower() == name), "")
