"""A bill in a bucket of S3, Google Cloud Storage and Azure, by real clients over loopback."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import boto3
import httpx
import polars as pl
import pytest
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from moto.server import ThreadedMotoServer

from builders.bills import RUN, focus_line, write_csv, write_parquet
from builders.object_store import TOKEN, serve_objects
from trainfare.bills.files import find_bill
from trainfare_core.bills.reconciliation import reconcile_bill
from trainfare_core.errors import InputError

SECRET = "c2VjcmV0LWNhbmFyeQ=="
BUCKETS = itertools.count()
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the one account of Azurite, as its documentation gives it to everybody."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Three months of an export, the last as CSV, beside its manifest."""
    folder = tmp_path_factory.mktemp("parts")
    files = {
        f"cost/M=2026-0{month}/b.parquet": write_parquet(
            folder / f"{month}", [focus_line(str(month), run=RUN)]
        )
        for month in (7, 8)
    }
    files["cost/c.csv"] = write_csv(folder / "c", [focus_line("9", run=RUN)])
    return {key: file.read_bytes() for key, file in files.items()} | {"cost/Manifest.json": b"{}"}


def serve_s3(
    bucket: str, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> str:
    """Moto, with credentials and a region in a profile alone, which polars by itself does not read."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    stack.callback(server.stop)
    host, port = server.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset")  # the servers of one process share their buckets
    for name in (
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "SESSION_TOKEN",
        "REGION",
        "DEFAULT_REGION",
        "ALLOW_HTTP",
    ):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    keys = tmp_path / "credentials"
    keys.write_text(
        f"[team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = {SECRET}\nregion = eu-west-1\n"
    )
    for name, value in {
        "PROFILE": "team",
        "SHARED_CREDENTIALS_FILE": str(keys),
        "CONFIG_FILE": str(tmp_path / "none"),
        "ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with closing(boto3.session.Session().client("s3")) as client:
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for key, content in parts.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)
    return "s3"


def serve_google(
    bucket: str, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> str:
    """A fake with the key of a service account in a file, for which it gives a token."""
    store = stack.enter_context(
        serve_objects({f"/{bucket}/{key}": content for key, content in parts.items()})
    )
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    account = {
        "type": "service_account",
        "private_key_id": "1",
        "client_id": "1",
        "client_email": "bills@example.com",
        "token_uri": f"{store.url}/token",
        "private_key": private.private_bytes(serialization.Encoding.PEM, *kind).decode(),
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.setenv("GOOGLE_BASE_URL", store.url)
    stack.callback(lambda: check(store.tokens == {f"Bearer {TOKEN}"}))
    return "gs"


def serve_azure(
    bucket: str, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> str:
    """A fake with the key of an account."""
    store = stack.enter_context(
        serve_objects({f"/acc/{bucket}/{key}": content for key, content in parts.items()})
    )
    point_at_azure(f"{store.url}/acc", "acc", SECRET, monkeypatch)
    stack.callback(lambda: check(all(str(token).startswith("SharedKey acc:") for token in store.tokens)))
    return "az"


def serve_azurite(
    bucket: str, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> str:
    """Microsoft's own emulator, of npm, where `TRAINFARE_AZURITE` names its program `azurite-blob`."""
    program = os.environ.get("TRAINFARE_AZURITE")
    if program is None:
        pytest.skip("TRAINFARE_AZURITE names no azurite-blob")  # a program of another language's registry
    command = [
        program,
        "--blobPort",
        "0",
        "--location",
        str(tmp_path),
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.terminate)
    assert process.stdout is not None
    server = next(line.split()[-1] for line in process.stdout if "listens on" in line)
    url = f"{server}/devstoreaccount1"
    with BlobServiceClient(url, credential=AZURITE_KEY) as client:
        client.create_container(bucket)
        for key, content in parts.items():
            client.get_blob_client(bucket, key).upload_blob(content)
    point_at_azure(url, "devstoreaccount1", AZURITE_KEY, monkeypatch)
    return "az"


def check(is_so: bool) -> None:
    assert is_so


def point_at_azure(url: str, account: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENDPOINT": url, "ACCOUNT_NAME": account, "ACCOUNT_KEY": key}.items():
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)


@pytest.fixture(params=[serve_s3, serve_google, serve_azure, serve_azurite])
def place(
    request: pytest.FixtureRequest, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    bucket = f"team{next(BUCKETS)}"  # polars keeps the connection to a bucket for the life of the process
    with ExitStack() as stack:
        yield f"{request.param(bucket, parts, tmp_path, monkeypatch, stack)}://{bucket}"


def test_bill_in_a_bucket(place: str) -> None:
    """A folder, patterns and an object, with the credentials that the cloud's own library finds."""
    costs = {"cost": 24, "cost/": 24, "cost/*/b.parquet": 15, "cost/*": 9, "cost/**/*8/*": 8, "cost/c.csv": 9}
    for name, billed in costs.items():
        files = find_bill([f"{place}/{name}"])
        assert sum(run.billed_cost or 0 for run in reconcile_bill(files, {}).runs) == billed


def test_what_a_bucket_does_not_have(place: str) -> None:
    """Is said with its address, and without what the storage answered."""
    for name, problem in (
        ("cost/none.parquet", "cost/none.parquet: there is no such file"),
        ("empty", "empty: no .parquet, .csv, .csv.gz object is there"),
    ):
        with pytest.raises(InputError) as error:
            reconcile_bill(find_bill([f"{place}/{name}"]), {})
        assert str(error.value) == f"{place}/{problem}"
    with pytest.raises(InputError, match="named twice"):
        find_bill([f"{place}/cost", f"{place}/cost/c.csv"])


def test_only_the_columns_that_count_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a bill whose other columns are nine tenths of it; tags are read whole."""
    rows = 20_000
    frame = pl.DataFrame([focus_line("1", run=RUN)] * rows)
    other = pl.Series(random.Random(1).randbytes(8).hex() + str(row) for row in range(rows))
    frame.with_columns(*(other.shuffle(seed=n).alias(f"x_{n}") for n in range(9))).write_parquet(
        tmp_path / "b.parquet"
    )
    content = (tmp_path / "b.parquet").read_bytes()
    with serve_objects({"/acc/wide/b.parquet": content}) as store:
        point_at_azure(f"{store.url}/acc", "acc", SECRET, monkeypatch)
        (run,) = reconcile_bill(find_bill(["az://wide/b.parquet"]), {}).runs
    assert run.billed_cost == rows
    assert store.sent_bytes < len(content) / 2
