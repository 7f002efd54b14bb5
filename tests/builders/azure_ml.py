"""A loopback Azure Resource Manager over TLS that the real `MLClient` talks to, and a workspace on it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from faults.server import FaultServer, Script, json_script
from trainfare_providers.azure.workspace import Workspace

CANARY = "canary-7f3a9c-token"
WORKSPACE = Workspace("11111111-2222-3333-4444-555555555555", "a-group", "a-workspace")

_SUBSCRIPTION = f"/subscriptions/{WORKSPACE.subscription_id}"
_HOME = (
    f"{_SUBSCRIPTION}/resourceGroups/{WORKSPACE.resource_group}/providers/"
    f"Microsoft.MachineLearningServices/workspaces/{WORKSPACE.name}"
)
_PLACE = f"{_SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations/eastus"
PATHS = {"workspace": _HOME, "sizes": f"{_PLACE}/vmSizes", "usages": f"{_PLACE}/usages"}


class Token(NamedTuple):
    token: str
    expires_on: int


class FakeCredential:
    """Any object with `get_token` is a credential."""

    def get_token(self, *scopes: str, **_: Any) -> Token:
        return Token(CANARY, int(time.time()) + 3600)


def size(
    name: str, gpus: int, vcpus: int, standard: float, low: float | None = None, **changes: Any
) -> dict[str, Any]:
    """One entry of vmSizes, as on the wire."""
    values = [{"retailPrice": standard, "osType": "Linux", "vmTier": "Standard"}]
    values += [{"retailPrice": standard * 1.2, "osType": "Windows", "vmTier": "Standard"}]
    values += [] if low is None else [{"retailPrice": low, "osType": "Linux", "vmTier": "LowPriority"}]
    return {
        "name": name,
        "family": "standardNCADSA100v4Family",
        "vCPUs": vcpus,
        "gpus": gpus,
        "osVhdSizeMB": 1047552,
        "maxResourceVolumeMB": 65536,
        "memoryGB": 220.0,
        "lowPriorityCapable": low is not None,
        "premiumIO": True,
        "estimatedVMPrices": {"billingCurrency": "USD", "unitOfMeasure": "OneHour", "values": values},
        "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        **changes,
    }  # fmt: skip


def usage(family: str, used: int, limit: int) -> dict[str, Any]:
    return {
        "id": f"{_PLACE}/usages/{family}",
        "type": "Microsoft.MachineLearningServices/vmFamily/dedicatedUsages",
        "unit": "Count",
        "currentValue": used,
        "limit": limit,
        "name": {"value": f"Standard {family} Family Cluster Dedicated vCPUs", "localizedValue": family},
    }


def workspace_script() -> Script:
    described = {
        "id": _HOME,
        "name": WORKSPACE.name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": "eastus",
        "kind": "Default",
        "properties": {"friendlyName": WORKSPACE.name, "workspaceId": "0"},
    }
    return json_script(described)


def cloud_of(url: str) -> Mapping[str, str]:
    """The six addresses without which the client says "Unknown cloud"."""
    names = ("azure_portal", "resource_manager", "active_directory", "aml_resource_id")
    return dict.fromkeys((*names, "storage_endpoint", "registry_discovery_endpoint"), url)


@contextmanager
def arm(folder: Path, *, sizes: Any = (), usages: Any = ()) -> Iterator[tuple[FaultServer, Path]]:
    """The server with a workspace in eastus, and the file of the authority that its certificate is of."""
    pytest.importorskip("azure.ai.ml", reason="azure-ai-ml, of the extra azure, is not installed")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    bundle = folder / "ca.pem"
    bundle.write_bytes(authority.cert_pem.bytes())
    with FaultServer(tls=context, host="localhost") as server:
        server.script(PATHS["workspace"], workspace_script())
        server.script(PATHS["sizes"], json_script(json.dumps({"value": list(sizes)}).encode()))
        server.script(PATHS["usages"], json_script(json.dumps({"value": list(usages)}).encode()))
        yield server, bundle
