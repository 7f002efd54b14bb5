"""Objects of three clouds: S3 by moto's server, the others by a fake on loopback, with credentials and without luck."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from builders.bucket_server import ADDRESSES, BucketServer, serve_bucket
from trainfare_core.errors import CannotTellError, InputError
from trainfare_providers.buckets import Bucket, check_address


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[BucketServer]:
    with serve_bucket() as bucket:
        for name, value in bucket.name_environment(tmp_path / "accounts").items():
            monkeypatch.setenv(name, value)
        yield bucket


def round_trip(address: str, *, deletes: bool = True) -> None:
    bucket = Bucket(address)
    bucket.write("2026-12/a/x.json", b"one", only_new=True)
    bucket.write("2026-12/a/x.json", b"late", only_new=True)
    bucket.write("2026-12-b/y.json", b"other")
    (found,) = bucket.list_objects("2026-12")
    assert (found.key, found.size_bytes, bucket.read(found.key)) == ("2026-12/a/x.json", 3, b"one")
    bucket.write(found.key, b"two")
    assert bucket.read(found.key) == b"two"
    assert len(list(bucket.list_objects())) == 2
    with pytest.raises(FileNotFoundError):
        bucket.read("none")
    if deletes:  # Azure's is a batch, whose answer the fake does not write
        bucket.delete(found.key)
        bucket.delete(found.key)
        assert len(list(bucket.list_objects())) == 1


def test_objects_of_s3(server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*moto.get_host_and_port()))
        client = boto3.client("s3")
        client.create_bucket(Bucket="runs")
        client.close()
        round_trip("s3://runs/team")
        with pytest.raises(CannotTellError, match="s3://none: there is no such bucket"):
            list(Bucket("s3://none").list_objects())
    finally:
        moto.stop()


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_objects_of_google_and_azure(server: BucketServer, scheme: str) -> None:
    round_trip(ADDRESSES[scheme], deletes=scheme != "az")
    assert all(credential for method, _, credential in server.requests if method != "POST")


def test_the_credentials_are_those_of_the_clouds_tools(
    server: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile of boto3 and an account of google-auth, which obstore by itself does not read."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "aws").write_text("[team]\naws_access_key_id = of-the-profile\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    Bucket("s3://runs").write("x", b"")
    Bucket("gs://runs").write("x", b"")
    used = [credential for method, _, credential in server.requests if method == "PUT"]
    assert "Credential=of-the-profile/" in used[0]
    assert used[1] == "Bearer token-of-the-account"
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(CannotTellError, match="sign-in could not be used"):
        Bucket("s3://runs")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(CannotTellError, match="no AWS credentials"):
        Bucket("s3://runs")


def test_a_bucket_of_another_region_is_found(server: BucketServer) -> None:
    server.fault = "elsewhere"
    Bucket("s3://runs").write("x", b"here")
    assert server.objects["/runs/x"][0] == b"here"


@pytest.mark.parametrize("address", ADDRESSES.values())
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("denied", "access is denied"),
        ("missing", "there is no such bucket"),
        ("cut", "it could not be reached, or its answer was cut"),
    ],
)
def test_what_fails_is_one_line_of_the_address(
    server: BucketServer, address: str, fault: str, said: str
) -> None:
    bucket = Bucket(address)
    bucket.write("a/x.json", b"12345678")
    server.fault = fault
    with pytest.raises(CannotTellError) as raised:
        list(bucket.list_objects("a"))
    assert str(raised.value).startswith(f"{address}: {said}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["s3://", "s3:/b/x", "gs://b?x", "https://host/x", "az://a b", "s3://b\n/x"]
)
def test_no_address(address: str) -> None:
    with pytest.raises(InputError, match="no address of a bucket"):
        check_address(address)


def test_the_transport_is_imported_where_a_bucket_is_opened_and_not_before() -> None:
    """FareMeter imports the module of buckets in every run."""
    code = (
        "import sys; sys.path[:] = sys.argv[1:]; import trainfare.ledger.bucket; "
        "print({name.partition('.')[0] for name in sys.modules} & {'obstore', 'botocore', 'google', 'azure', 'httpx'})"
    )
    done = subprocess.run([sys.executable, "-c", code, *sys.path], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
