"""
Buckets of S3, Google Cloud Storage and Azure, by their address: listing, reading and writing of small objects.

obstore sends the requests. It reads no profile and no login, so it is given the credentials that boto3, google-auth and
azure-identity find; where these are not installed it looks for a key in the environment and asks the machine.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from trainfare_core.errors import CannotTellError, InputError, MissingExtraError, TrainfareError

SCHEMES: Final[Mapping[str, str]] = {"s3": "aws", "gs": "gcp", "az": "azure"}
"""Each with the extra of trainfare that has what reads it."""
_ADDRESS: Final = re.compile(r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]{1,221})(?:/([^?#\x00-\x20]*))?")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT")
_AZURE_KEYS: Final = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN")
_GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"
_AZURE_SCOPE: Final = "https://storage.azure.com/.default"
_OTHER_REGION: Final = re.compile("redirect|301 |AuthorizationHeaderMalformed|IllegalLocationConstraint")
_LIMITS: Final = {"connect_timeout": "4s", "timeout": "20s"}
"""Of one request, and with `_TRIES` more of them. Chosen: an object has some KB, a page of a listing some 300."""
_TRIES: Final = 2

Result = TypeVar("Result")
Credential = Callable[[], dict[str, Any]]


def allows_http() -> bool:
    """Return whether the environment names a server of its own without TLS, such as one for tests."""
    return any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)


def has_azure_key() -> bool:
    """Return whether the environment has a key or a token of an Azure storage account, so that no sign-in is needed."""
    return any(os.environ.get(name) for name in _AZURE_KEYS)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing has it."""

    key: str
    """Below the address."""
    size_bytes: int
    written_at: datetime


def is_address(text: str) -> bool:
    """Return whether a text is an address, whatever it is of, and no path."""
    return "://" in text


def check_address(address: str) -> str:
    """
    Return an address of a bucket without the slash at its end.

    Raises:
        InputError: it is none.
    """
    if not _ADDRESS.fullmatch(address):
        raise InputError(
            f"{address}: no address of a bucket; one is s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or az://CONTAINER/FOLDER"
        )
    return address.rstrip("/")


class Bucket:
    """
    A folder of a bucket.

    Args:
        address: of `check_address`.

    Raises:
        InputError: no such address.
        MissingExtraError: obstore is not installed.
        CannotTellError: there are no credentials; so too of every method: it does not answer, or denies it.
    """

    def __init__(self, address: str) -> None:
        match = _ADDRESS.fullmatch(check_address(address))
        assert match  # noqa: S101 - checked in the line above
        self.address, self._scheme, self._name, self._prefix = address, *match.groups()
        try:
            self._library = importlib.import_module("obstore")
            self._stores = importlib.import_module("obstore.store")
        except ImportError as error:
            raise MissingExtraError("obstore", SCHEMES[self._scheme]) from error
        self._region: str | None = None
        self._store = self._open()

    def list_objects(self, folder: str = "") -> Iterator[StoredObject]:
        """Yield the objects below a folder, which ask a page of 1,000 at a time."""
        pages = self._ask(lambda store: iter(self._library.list(store, folder or None, chunk_size=1000)))
        while page := self._ask(lambda _: next(pages, None)):
            for found in page:
                yield StoredObject(found["path"], found["size"], found["last_modified"])

    def read(self, key: str) -> bytes:
        """Return the content of an object."""
        return bytes(self._ask(lambda store: self._library.get(store, key).bytes()))

    def write(self, key: str, content: bytes, *, only_new: bool = False) -> None:
        """Write an object whole; with `only_new` not over one that is there."""
        mode: dict[str, Any] = {"mode": "create"} if only_new else {}
        with contextlib.suppress(FileExistsError):
            self._ask(lambda store: self._library.put(store, key, content, use_multipart=False, **mode))

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda store: self._library.delete(store, key))

    def _open(self) -> Any:
        options: dict[str, Any] = {
            "client_options": {**_LIMITS, "allow_http": allows_http()},
            "retry_config": {"max_retries": _TRIES},
            "prefix": self._prefix or None,
        }
        if self._scheme == "s3":
            credential, region = _find_aws_credential()
            options |= {"credential_provider": credential, "region": self._region or region}
            kind = self._stores.S3Store
        elif self._scheme == "gs":
            options["credential_provider"] = _find_google_credential()
            kind = self._stores.GCSStore
        else:
            options["credential_provider"] = _find_azure_credential()
            kind = self._stores.AzureStore
        given = {name: value for name, value in options.items() if value is not None}
        return self._translate(lambda: kind(self._name, **given))

    def _ask(self, ask: Callable[[Any], Result]) -> Result:
        try:
            return self._translate(lambda: ask(self._store))
        except _OtherRegionError:
            if self._scheme != "s3" or self._region is not None:
                raise
        self._region = _find_region(self._name)
        self._store = self._open()
        return self._translate(lambda: ask(self._store))

    def _translate(self, ask: Callable[[], Result]) -> Result:
        """Call the library; what its errors quote, which may be long, is left out."""
        errors = self._library.exceptions
        try:
            return ask()
        except errors.AlreadyExistsError as error:
            raise FileExistsError from error
        except (errors.BaseError, OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
                raise
            kind = _OtherRegionError if _OTHER_REGION.search(str(error)) else CannotTellError
            raise kind(f"{self.address}: {_describe(error)}") from None


class _OtherRegionError(CannotTellError):
    """The bucket is in another region than was asked."""


def _describe(error: Exception) -> str:
    status = re.search(r"status code: (\d+)( [A-Za-z ]+)?", str(error))
    code = status[1] if status else "404" if isinstance(error, FileNotFoundError) else ""
    if key := re.search(r'invalid path: Error parsing Path "(.{1,200}?)"', str(error)):
        return f"it has a key that no path may have, which stops each listing: remove {key[1]!r}"
    if not code:
        return "it could not be reached, or its answer was cut"
    words = {"401": "access is denied", "403": "access is denied", "404": "there is no such bucket"}
    answer = f" (the server answered {code}{(status[2] or '').rstrip()})" if status else ""
    return f"{words.get(code, 'no answer that can be used')}{answer}"


def _find_aws_credential() -> tuple[Credential | None, str | None]:
    """Return what gives botocore's credentials and the region of the settings; None: obstore looks for them itself."""
    try:
        session = importlib.import_module("botocore.session").get_session()
        found = _quietly(session.get_credentials)
    except ImportError:
        return None, None
    if found is None:
        raise CannotTellError("there are no AWS credentials; see `aws configure list`")

    def provide() -> dict[str, Any]:
        frozen = found.get_frozen_credentials()
        keys = {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key}
        return {**keys, "token": frozen.token, "expires_at": None}

    return provide, session.get_config_variable("region") or os.environ.get("AWS_REGION")


def _find_region(bucket: str) -> str:
    """Return where a bucket of S3 is, as S3 says to everybody."""
    client = (
        importlib.import_module("botocore.session").get_session().create_client("s3", region_name="us-east-1")
    )
    try:
        answer = client.head_bucket(Bucket=bucket)
    except Exception as error:  # noqa: BLE001 - a denied request has the region as well
        answer = getattr(error, "response", {})
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if "x-amz-bucket-region" not in headers:
        raise CannotTellError(f"s3://{bucket}: its region could not be found: set AWS_REGION")
    return str(headers["x-amz-bucket-region"])


def _find_google_credential() -> Credential | None:
    try:
        auth = importlib.import_module("google.auth")
        request = importlib.import_module("google.auth.transport.requests").Request()
    except ImportError:
        return None
    found, _ = _quietly(lambda: auth.default(scopes=[_GOOGLE_SCOPE]))

    def provide() -> dict[str, Any]:
        found.refresh(request)
        return {"token": found.token, "expires_at": None}

    return provide


def _find_azure_credential() -> Credential | None:
    """Return a token of the user's sign-in; None: a key in the environment, or the identity of the machine."""
    from trainfare_providers.azure.sign_in import find_credential, silence_logs

    if has_azure_key():
        return None
    silence_logs()
    try:
        token = find_credential().get_token(_AZURE_SCOPE).token
    except Exception:  # noqa: BLE001 - not installed, or no sign-in
        return None
    return lambda: {"token": token, "expires_at": None}


def _quietly(ask: Callable[[], Result]) -> Result:
    """Ask a cloud's library for credentials; its errors may quote them."""
    try:
        return ask()
    except TrainfareError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever such a library raises
        kind = type(error).__name__
    raise CannotTellError(f"the sign-in could not be used ({kind})")
