"""
The sizes and quota of an Azure ML workspace, read with the official client.

The client has several values only under their JSON name (`vCPUs`, `currentValue`) and None under the documented
attribute, so both are read. It has no total deadline and waits as long as a server asks, so its own retries are off,
each call goes through `retry.repeat`, and all calls together run within a time limit.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from trainfare_core.errors import FetchError, MissingExtraError
from trainfare_core.prices.intake import PURCHASE_OPTIONS
from trainfare_core.recommendation import QuotaLimit
from trainfare_providers.answer_values import amount_at, items_of, name_of, object_of, text_of
from trainfare_providers.azure.sign_in import NO_SIGN_IN, build_failure, find_credential, silence_logs, within
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.http.retry import is_retried, repeat, retry_after_s

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

# Chosen values: attempts and time-outs are those of `Limits`, and 60 s is enough for three calls that each retry.
_MOST_S: Final = 60.0
_CONNECT_S: Final = 5
_READ_S: Final = 10

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The name of a workspace."""

    subscription_id: str
    resource_group: str
    name: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Workspace | None:
        """Return the workspace that the variables `NEEDS` name, or None where one is missing."""
        values = [environment.get(name, "").strip() for name in NEEDS]
        return cls(*values) if all(values) else None


@dataclass(frozen=True, slots=True)
class Size:
    """A size of machine; `estimates` are USD an hour by (operating system, tier), rounded to cents."""

    name: str
    family: str
    vcpus: int
    gpus: int
    low_priority_capable: bool
    compute_types: tuple[str, ...]
    estimates: Mapping[tuple[str, str], Decimal]


@dataclass(frozen=True, slots=True)
class Quota:
    """The vCPUs of a family: in use, and allowed."""

    family: str
    vcpus_used: int
    vcpus_allowed: int


@dataclass(frozen=True, slots=True)
class WorkspaceOffer:
    """Sizes and quota of one workspace; `unreadable` counts malformed sizes."""

    location: str
    sizes: tuple[Size, ...]
    quotas: tuple[Quota, ...]
    unreadable: int = 0


def read_workspace(workspace: Workspace, seconds: float) -> WorkspaceOffer:
    """
    Read the workspace, with the credentials that `azure-identity` finds.

    Raises:
        MissingExtraError: azure-ai-ml or azure-identity is not installed.
        FetchError: no credentials, no access, no answer in time.
    """
    return within(
        min(seconds, _MOST_S),
        lambda: offer_of(ml_client(workspace, find_credential()), workspace, time.sleep),
    )


def offer_of(client: MLClient, workspace: Workspace, sleep: Callable[[float], None]) -> WorkspaceOffer:
    """
    Read location, sizes and quota with a client.

    Raises:
        FetchError: the service refused or did not answer.
    """
    workspaces = cast("Any", client.workspaces)  # its types are of unknown parts
    region = name_of(getattr(call(lambda: workspaces.get(workspace.name), sleep), "location", None))
    if region is None:
        raise FetchError("azure", "the Azure ML workspace names no region; check the workspace")
    sizes = call(lambda: list(client.compute.list_sizes(location=region)), sleep)
    usages = call(lambda: list(client.compute.list_usage(location=region)), sleep)
    return parse_offer(region, sizes, usages)


def parse_offer(region: str, sizes: Iterable[object], usages: Iterable[object]) -> WorkspaceOffer:
    """Return the sizes and quotas of the client's objects; a malformed quota is left out."""
    read = [_size(vars(size)) for size in sizes]
    quotas = [_parse_quota(vars(usage)) for usage in usages]
    return WorkspaceOffer(
        region.lower(),
        tuple(size for size in read if size is not None),
        tuple(quota for quota in quotas if quota is not None),
        unreadable=sum(size is None for size in read),
    )


def ml_client(
    workspace: Workspace, credential: TokenCredential, cloud: Mapping[str, str] | None = None
) -> MLClient:
    """
    Make a client that sends no telemetry and does not retry.

    Args:
        workspace: which one.
        credential: anything with `get_token`.
        cloud: the six addresses of another cloud, for tests; its name is made from them, since the client keeps the
            first addresses that a process uses with a name.

    Raises:
        MissingExtraError: azure-ai-ml is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of its own imports
            from azure.ai.ml import MLClient
    except ImportError as error:
        raise MissingExtraError("azure-ai-ml", "azure") from error
    silence_logs()
    other: dict[str, Any] = {}
    if cloud is not None:
        name = sha256(repr(sorted(cloud.items())).encode()).hexdigest()[:16]
        other = {"cloud": f"trainfare-{name}", "cloud_metadata": dict(cloud)}
    return MLClient(
        credential,
        workspace.subscription_id,
        workspace.resource_group,
        workspace.name,
        enable_telemetry=False,
        show_progress=False,
        retry_total=0,
        connection_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        **other,
    )


def call(ask: Callable[[], Result], sleep: Callable[[float], None]) -> Result:
    """Make a call, and again where that can help (`retry.repeat`)."""
    return repeat(lambda: _call_once(ask), sleep=sleep)


def _call_once(ask: Callable[[], Result]) -> Result:
    """Make a call; an error has the server's status and none of its text."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

    try:
        return ask()
    except ClientAuthenticationError:
        raise build_failure(NO_SIGN_IN) from None
    except HttpResponseError as error:
        status = error.status_code or 0
        headers: Mapping[str, str] = getattr(error.response, "headers", {})
        raise build_failure(
            f"answered {status}" if status >= 400 else "gave an answer that cannot be read",
            error.status_code,
            retryable=is_retried(status),
            retry_after_s=retry_after_s(headers.get("Retry-After"), now_s=time.time()),
        ) from None
    except AzureError as error:
        raise build_failure(f"could not be asked ({type(error).__name__})") from None


def _either(values: Mapping[str, object], *names: str) -> object:
    """Return the first value that is there: by its JSON name, or by the client's attribute."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(values: Mapping[str, object]) -> Size | None:
    name, family = name_of(values.get("name")), text_of(values.get("family"))
    gpus, vcpus = _count(values.get("gpus")), _count(_either(values, "vCPUs", "v_cp_us"))
    if name is None or family is None or gpus is None or vcpus is None:
        return None
    types = _either(values, "supportedComputeTypes", "supported_compute_types")
    types = types.split(",") if isinstance(types, str) else items_of(types)
    prices = object_of(_either(values, "estimatedVMPrices", "estimated_vm_prices")) or {}
    return Size(
        name=name,
        family=family,
        vcpus=vcpus,
        gpus=gpus,
        low_priority_capable=_either(values, "lowPriorityCapable", "low_priority_capable") is True,
        compute_types=tuple(str(size) for size in types),
        estimates=_estimates(prices),
    )


def _estimates(prices: Mapping[str, object]) -> Mapping[tuple[str, str], Decimal]:
    unit = _either(prices, "unitOfMeasure", "unit_of_measure")
    if _either(prices, "billingCurrency", "billing_currency") != "USD" or unit != "OneHour":
        return {}
    estimates: dict[tuple[str, str], Decimal] = {}
    for value in items_of(prices.get("values")):
        entry = object_of(value) or {}
        key = (str(_either(entry, "osType", "os_type")), str(_either(entry, "vmTier", "vm_tier")))
        price = amount_at({"price": _either(entry, "retailPrice", "retail_price")}, "price")
        if price is not None:
            # The client made a float of it; the shortest text of the float is the original number.
            estimates[key] = Decimal(repr(price))
    return estimates


def _parse_quota(values: Mapping[str, object]) -> Quota | None:
    name = values.get("name")
    label = object_of(name) or cast("Mapping[str, object]", getattr(name, "__dict__", {}))
    family = text_of(label.get("value"))
    used, allowed = _count(_either(values, "currentValue", "current_value")), _count(values.get("limit"))
    if family is None or used is None or allowed is None or allowed < 0:  # -1: none is set
        return None
    return Quota(family, used, allowed)


def families(quotas: Iterable[Quota]) -> Mapping[str, Quota]:
    """Return the quota with the least room, by the family's short name."""
    quotas_by_name: dict[str, Quota] = {}
    for quota in quotas:
        name = short_family(quota.family)
        if name not in quotas_by_name or _room(quota) < _room(quotas_by_name[name]):
            quotas_by_name[name] = quota
    return quotas_by_name


def quota_limits(offer: WorkspaceOffer, instance_types: Iterable[str]) -> tuple[QuotaLimit, ...]:
    """
    Return the quotas of a workspace in the form of `--quota`, those of the given machines; low priority has another.

    Args:
        offer: of the workspace.
        instance_types: of the prices.
    """
    known, quotas = frozenset(instance_types), families(offer.quotas)
    sizes: dict[str, list[str]] = {}
    for size in offer.sizes:
        if size.name in known:
            sizes.setdefault(short_family(size.family), []).append(size.name)
    return tuple(
        QuotaLimit(
            provider="azure",
            service="azure_ml",
            region=offer.location,
            family=tuple(sorted(names)),
            purchase=tuple(option for option in PURCHASE_OPTIONS if option != "spot"),
            vcpus=float(quotas[family].vcpus_allowed),
        )
        for family, names in sorted(sizes.items())
        if family in quotas
    )


def short_family(name: str) -> str:
    """Return what "standardNCADSA100v4Family" and "Standard NCADSA100v4 Family Cluster Dedicated vCPUs" share."""
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    return letters.partition("family")[0]


def _room(quota: Quota) -> int:
    return quota.vcpus_allowed - quota.vcpus_used
