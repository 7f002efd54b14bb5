"""The files that a bill is in: named one by one, by a pattern, by a folder, or by an address of a bucket."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final

import polars as pl

from trainfare_core.bills.files import ENDINGS, BillFile
from trainfare_core.errors import InputError
from trainfare_providers.buckets import Bucket, allows_http, has_azure_key, is_address

_BLOCK: Final = 1 << 20
_IN_PIECES: Final = (1, 44)
"""The first tried version of polars that reads gzip in pieces: of 0.9 GB of CSV it holds 0.3 GB, 1.36 held 2.1 GB."""
_MOST_GZIP_BYTES: Final = 256 << 20
_GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_only"


def find_bill(names: Sequence[str], polars_version: str = pl.__version__) -> list[BillFile]:
    """
    Return the files of a bill.

    Args:
        names: files, folders with all below them, patterns and addresses.
        polars_version: what will read them.

    Raises:
        InputError: nothing is there, a file is none or cannot be read, or two are one.
    """
    files: list[BillFile] = []
    for name in names:
        files += _find_objects(name) if is_address(name) else _find_local(Path(name).expanduser())
    _check_twice(files)
    if tuple(map(int, polars_version.split(".")[:2])) < _IN_PIECES:
        for file in files:
            _check_gzip(file.name)
    return files


def _find_objects(address: str) -> list[BillFile]:
    """Return an object, those that a pattern names, or all below a folder of a bucket."""
    magic = re.search(r"[*[]", address)
    folder = address[: magic.start()].rpartition("/")[0] if magic else address
    is_file = magic is None and address.endswith(ENDINGS)
    # Also where one object is read: it finds the credentials, and says what is not installed.
    bucket = Bucket(folder.rpartition("/")[0] if is_file else folder)
    options = _find_storage(address.partition("://")[0])
    if is_file:
        return [BillFile(address, address, options)]
    folder = folder.rstrip("/")
    keys = sorted(item.key for item in bucket.list_objects() if _is_part(PurePosixPath(item.key)))
    names = [f"{folder}/{key}" for key in keys]
    if magic:
        any_depth = "**" in address
        depth = address.count("/")
        names = [
            name
            for name in fnmatch.filter(names, address.replace("**/", "*"))
            if any_depth or name.count("/") == depth
        ]
    if not names:
        raise InputError(f"{address}: no {', '.join(ENDINGS)} object is there")
    return [BillFile(name, name.rpartition("/")[0], options) for name in names]


def _find_storage(scheme: str) -> dict[str, Any]:
    """
    Return what polars needs of a storage; credentials it takes from boto3, google-auth and azure-identity by "auto".

    The address of another server is in the same variables as for `trainfare_providers.buckets`.
    """
    storage = {"allow_http": "true"} if allows_http() else {}
    if scheme == "gs" and (server := os.environ.get("GOOGLE_BASE_URL")):
        storage["google_base_url"] = server
    credential: Any = "auto"
    if scheme == "gs":
        # Without a scope it fails on the key of a service account, and polars reads the file by itself.
        with contextlib.suppress(ImportError):
            credential = pl.CredentialProviderGCP(scopes=[_GOOGLE_SCOPE])
    elif scheme == "az" and has_azure_key():
        credential = None  # a key in the environment needs no sign-in
    return {"storage_options": storage, "credential_provider": credential}


def _find_local(path: Path) -> list[BillFile]:
    if path.is_dir():
        found = [part for part in sorted(path.rglob("*")) if _is_part(part.relative_to(path))]
        if not found:
            raise InputError(f"{path}: no {', '.join(ENDINGS)} file is in this folder")
        return [_check(part, part.parent) for part in found]
    if glob.has_magic(str(path)) and not path.exists():
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - a pattern
        if not matches:
            raise InputError(f"{path}: no file has such a name")
        return [file for match in matches for file in _find_local(match)]
    return [_check(path, path)]


def _is_part(path: PurePath) -> bool:
    """Whether a file of a folder is one of the bill, not a hidden one or a manifest."""
    return path.name.endswith(ENDINGS) and not any(part.startswith((".", "_")) for part in path.parts)


def _check(path: Path, source: Path) -> BillFile:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path}: it cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        # It might never end.
        raise InputError(f"{path}: a pipe or a device, not a bill")
    return BillFile(str(path), str(source), {})


def _check_twice(files: Sequence[BillFile]) -> None:
    """Refuse a file that is named twice, by whatever name, and a copy of one: each line would count twice."""
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    names: dict[tuple[int, int], str] = {}
    objects = Counter(file.name for file in files if is_address(file.name))
    for name, count in objects.items():
        if count > 1:
            raise InputError(f"{name}: named twice: each line would count twice")
    for file in files:
        if file.name in objects:
            continue
        facts = os.stat(file.name)  # noqa: PTH116 - a name, not a path
        if (first := names.setdefault((facts.st_dev, facts.st_ino), file.name)) is not file.name:
            raise InputError(f"{file.name}: named twice, also as {first}: each line would count twice")
        by_size[facts.st_size].append(file.name)
    for same in by_size.values():
        digests: dict[bytes, str] = {}
        for name in same if len(same) > 1 else ():
            if (first := digests.setdefault(_digest(name), name)) is not name:
                raise InputError(f"{name}: the same bytes as {first}: each line would count twice")


def _check_gzip(name: str) -> None:
    if name.endswith(".gz") and not is_address(name) and os.stat(name).st_size > _MOST_GZIP_BYTES:  # noqa: PTH116
        older = f"polars before {'.'.join(map(str, _IN_PIECES))}"
        raise InputError(
            f"{name}: larger than {_MOST_GZIP_BYTES >> 20} MiB, and {older} holds all that it unpacks; "
            "update polars, or export the bill as Parquet"
        )


def _digest(name: str) -> bytes:
    with open(name, "rb") as stream:  # noqa: PTH123 - a name, not a path
        digest = hashlib.sha256()
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()
