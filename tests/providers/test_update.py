"""Several clouds at once: without a network, with one that hangs, and when Ctrl-C comes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest

from builders.offers import book_of, get_shipped_date, offer_row
from builders.processes import HANG_S
from faults.server import FaultServer, Script
from trainfare.cli.prices_update import update_table
from trainfare_core.prices.book import PriceBook
from trainfare_providers.aws import AwsPrices, Sites
from trainfare_providers.azure import AzurePrices
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import write_book
from trainfare_providers.disk.checked_parquet import BookFacts
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import FetchedRows
from trainfare_providers.update import FIRST_ANSWER_S, update_clouds

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of the machine that runs the tests."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZUREML_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address of this machine that refuses connections."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


@dataclass
class Hanging:
    """A cloud whose `fetch` waits in foreign code."""

    name: str = "slow"
    needs: tuple[str, ...] = ()
    budget_s: float = 900.0
    over: threading.Event = field(default_factory=threading.Event)

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        self.over.wait()
        return ()

    def load(self) -> PriceBook:
        return PriceBook.empty()


class LaterAtEveryLook:
    """A clock by which the time for a first answer is over at the third look."""

    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += FIRST_ANSWER_S / 2
        return self.now_s


def compute_kept(folder: Path, name: str) -> bytes:
    """Keep a last good price of a cloud on disk; return its file."""
    book = book_of(offer_row(provider=name), origin=name)
    assert write_book(BookCache(folder), name, book.frame, BookFacts(fetched_at=NOW, intakes=book.intakes))
    return (folder / f"{name}.parquet").read_bytes()


def test_clouds_that_refuse_have_one_line_each(closed_port: str, tmp_path: Path) -> None:
    """Real sockets: what failed, where, what to do, and the prices that are used; those on disk where there are some."""
    compute_kept(tmp_path, "azure")
    sites = Sites(closed_port, f"{closed_port}/advisor.json")
    answer = update_clouds(
        [
            ("aws", AwsPrices(regions=["us-east-1"], sites=sites)),
            ("azure", AzurePrices(endpoint=closed_port)),
        ],
        cache=BookCache(tmp_path),
        sleep=lambda _: None,
    )
    host = closed_port.removeprefix("http://")
    why = f"{host}: the connection was refused; check the network, the proxy settings and any firewall"
    assert update_table(answer).splitlines() == [
        f"aws: failed: {why}; prices of the snapshot of {get_shipped_date('aws')} are used",
        f"azure: failed: {why}; its 1 prices, fetched 2026-11-24 12:00 UTC, are used",
    ]
    assert all(cloud.failed for cloud in answer.clouds)


def test_cloud_that_hangs_in_foreign_code_is_given_up(closed_port: str, tmp_path: Path) -> None:
    """Nothing waits for it, neither the other cloud nor the end of the command."""
    slow = Hanging()
    answer = update_clouds([("slow", slow)], cache=BookCache(tmp_path), monotonic=LaterAtEveryLook())
    assert not slow.over.is_set()
    slow.over.set()
    assert update_table(answer) == (
        "slow: failed: nothing came within 15 s; check the network; there are no prices of it\n"
    )


def test_cloud_that_answers_is_not_given_up(tmp_path: Path) -> None:
    """The limit is of the first answer: a list that then takes long is read to its end."""
    with FaultServer() as server:
        server.everywhere(Script(status=404))
        answered = threading.Event()

        class Slow(Hanging):
            def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
                http.send("GET", server.url("/p"))
                answered.set()
                self.over.wait()
                row = offer_row(provider="slow", source_class="price_api")
                return (FetchedRows("slow", "ec2", book_of(row).frame),)

        slow = Slow()
        looks: list[float] = []

        def monotonic() -> float:
            """Return 0 at first, and far beyond the limit once a server has answered."""
            looks.append(1000.0 if looks and answered.wait() else 0.0)
            if len(looks) > 3:
                slow.over.set()
            return looks[-1]

        (cloud,) = update_clouds([("slow", slow)], cache=BookCache(tmp_path), monotonic=monotonic).clouds
    assert (cloud.refreshed, cloud.problem) == (True, None)


STOPPED = """
import sys, threading
from pathlib import Path
from trainfare_providers.azure import AzurePrices
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.update import update_clouds

class Hanging:
    name, needs, budget_s = "slow", (), 900.0
    def fetch(self, http):
        print("hanging", flush=True)
        threading.Event().wait()
    def load(self):
        raise AssertionError

update_clouds([("azure", AzurePrices(endpoint=sys.argv[1])), ("slow", Hanging())], cache=BookCache(Path(sys.argv[2])))
"""


def test_ctrl_c_ends_it_and_leaves_every_price_file_as_it_was(tmp_path: Path) -> None:
    """One cloud is silent, another hangs for ever in foreign code: the process ends at once all the same."""
    before = compute_kept(tmp_path, "azure")
    with FaultServer() as server:
        server.everywhere(Script(before_head_s=HANG_S))
        command = [sys.executable, "-c", STOPPED, server.url("/p"), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "hanging\n"
            while not server.make_request("/p"):
                threading.Event().wait(0.01)
            os.kill(child.pid, signal.SIGINT)
            # A command that waited for the cloud that hangs would never end.
            _, error = child.communicate()
    assert error.strip().endswith("KeyboardInterrupt")
    assert (tmp_path / "azure.parquet").read_bytes() == before
    assert {path.suffix for path in tmp_path.iterdir()} <= {".parquet", ".lock"}
