"""`trainfare doctor`: what is installed and found here, what is missing for what, and the command that mends it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.output import output_width
from trainfare.prices.run_cost_table import OWN_FILE, PROJECT_FILE
from trainfare.prices.sources import LoadedPrices, PriceChoice, load_prices
from trainfare.report.tables import table_text
from trainfare_core._version import __version__
from trainfare_core.clouds import CLOUDS
from trainfare_core.documents import Document, Record
from trainfare_core.errors import FetchError, PricesUnavailableError, TrainfareError

if TYPE_CHECKING:
    from trainfare_providers.http.client import HttpClient

_PURPOSES: Final = {
    "lightning": "profile, recommend and check of a training script; FareMeter",
    "aws": "prices update and quotas of AWS",
    "azure": "prices update and quotas of Azure",
    "gcp": "prices update and quotas of Google Cloud",
    "lora": "strategy with LoRA and QLoRA",
    "report": "charts in HTML reports",
    "ci": "comment, and check --format junit",
    "demo": "demo",
}
"""What each extra is for, in the order of the table."""
_CLOUD_BUDGET_S: Final = 5.0
"""Chosen: the three clouds are asked one after the other, and nobody waits longer than a quarter of a minute."""
_SMI: Final = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_SMI_S: Final = 10.0
"""Chosen: a driver that does not run yet takes some seconds to start."""

State = Literal["ok", "missing", "old", "failed", "not asked"]


class Finding(Record):
    """One thing that is there, or is not."""

    kind: Literal["extra", "prices", "cloud", "policy", "lock", "gpu"]
    name: str
    state: State
    text: str
    mend: str = ""


class DoctorReport(Document):
    """What `trainfare doctor` found."""

    schema_version: Literal[1] = 1
    tool_version: str
    python: str
    platform: str
    findings: tuple[Finding, ...]

    @property
    def can_answer(self) -> bool:
        """Whether there are prices, without which nothing can be answered."""
        return any(finding.kind == "prices" and finding.state != "failed" for finding in self.findings)


@group_options
def doctor(
    *,
    online: Annotated[
        bool, typer.Option("--online", help="ask each cloud's price list for an answer")
    ] = False,
    output: Format = "table",
) -> None:
    """Say what is installed and found here, what is missing for what, and the command that mends it."""
    choice = PriceChoice()
    answer = DoctorReport(
        tool_version=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        findings=(
            *check_extras(metadata.requires("trainfare") or ()),
            *check_prices(choice),
            *(check_cloud(name, _open_client if online else None) for name in CLOUDS),
            *check_files(Path(), choice.now),
            *check_gpus(),
        ),
    )
    sys.stdout.write(answer.to_json() if output == "json" else doctor_table(answer, width=output_width()))
    if not answer.can_answer:
        raise typer.Exit(PricesUnavailableError.exit_code)


def doctor_table(answer: DoctorReport, *, width: int) -> str:
    """Return one row for each finding, and below the commands that mend what is not well."""
    rows = [
        (f"{finding.kind} {finding.name}".rstrip(), finding.state, finding.text)
        for finding in answer.findings
    ]
    table = table_text(("what", "state", "says"), rows, width=width)
    mends = dict.fromkeys(finding.mend for finding in answer.findings if finding.mend)
    head = f"trainfare {answer.tool_version}, Python {answer.python}, {answer.platform}"
    return "\n".join([head, table, *(f"mend: {mend}" for mend in mends)]) + "\n"


def check_extras(
    requirements: Iterable[str], version_of: Callable[[str], str] = metadata.version
) -> Generator[Finding, None, None]:
    """
    Yield whether the packages of each extra are installed.

    Args:
        requirements: of the distribution, as its metadata state them: `boto3>=1.41; extra == 'aws'`.
        version_of: returns the version of an installed package.
    """
    needed: dict[str, list[tuple[str, str]]] = {name: [] for name in _PURPOSES}
    for requirement in requirements:
        parts = re.match(r"([\w.-]+)[^>;]*(?:>=([\d.]+))?.*extra == ['\"](\w+)['\"]", requirement)
        if parts is not None and parts[3] in needed:
            needed[parts[3]].append((parts[1], parts[2] or "0"))
    for extra, packages in needed.items():
        missing: list[str] = []
        for name, lowest in packages:
            try:
                version = version_of(name)
            except metadata.PackageNotFoundError:
                missing.append(f"no {name}")
                continue
            if _split_version(version) < _split_version(lowest):
                missing.append(f"{name} {version} is older than {lowest}")
        text = (
            f"{', '.join(missing)}: needed for {_PURPOSES[extra]}" if missing else f"for {_PURPOSES[extra]}"
        )
        mend = f"pip install 'trainfare[{extra}]'" if missing else ""
        yield Finding(kind="extra", name=extra, state="missing" if missing else "ok", text=text, mend=mend)


def _split_version(version: str) -> list[int]:
    """Return the numbers of a release, without what stands after it: `2.8.0rc1` and `2.8.0+cpu` count as 2.8."""
    numbers = [int(number) for number in re.split(r"[^\d.]", version)[0].split(".") if number]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def check_prices(
    choice: PriceChoice,
    load: Callable[[PriceChoice], LoadedPrices] = lambda choice: load_prices(choice=choice),
) -> Generator[Finding, None, None]:
    """Yield the age of the prices of each service, and what failed; those of over 30 days are old."""
    from trainfare_core.prices.freshness import USABLE_DAYS
    from trainfare_core.prices.precedence import OTHER_CLOUDS
    from trainfare_core.prices.status import ServiceStatus, price_status

    try:
        loaded = load(choice)
    except TrainfareError as error:
        yield Finding(kind="prices", name="", state="failed", text=str(error))
        return
    for problem in loaded.problems:
        yield Finding(kind="prices", name="source", state="failed", text=problem)
    groups: dict[tuple[str, str], list[ServiceStatus]] = {}
    for service in price_status(loaded.book, as_of=choice.now).services:
        live = service.provider in CLOUDS
        name = f"{service.provider}/{service.service}" if live else "other clouds"
        if service.rows:
            groups.setdefault((name, service.origin), []).append(service)
    for (name, origin), services in groups.items():
        rows, old = sum(service.rows for service in services), sum(service.old_rows for service in services)
        youngest = min(service.age_days for service in services)
        oldest = max(service.oldest_age_days for service in services)
        mend = f"trainfare prices update --provider {services[0].provider}"
        if name == "other clouds":
            mend = "pip install -U trainfare" if origin == OTHER_CLOUDS else ""
        yield Finding(
            kind="prices",
            name=name,
            state="old" if old else "ok",
            text=f"{origin}: {rows:,} prices, {youngest} to {oldest} days old, {old:,} of them over {USABLE_DAYS}",
            mend=mend if old else "",
        )


def _open_client(cloud: str) -> HttpClient:
    from trainfare_providers.http.client import HttpClient

    return HttpClient(cloud, budget_s=_CLOUD_BUDGET_S, max_failed_s=_CLOUD_BUDGET_S)


def check_cloud(name: str, open_client: Callable[[str], HttpClient] | None) -> Finding:
    """
    Return whether a cloud's price list answers.

    Args:
        name: of the cloud.
        open_client: makes a client for it; None asks nothing.
    """
    if open_client is None:
        text, mend = "no request was made", "trainfare doctor --online"
        return Finding(kind="cloud", name=name, state="not asked", text=text, mend=mend)
    from trainfare_providers import azure, gcp
    from trainfare_providers.aws.bulk import Sites
    from trainfare_providers.http.addresses import Secret

    key = Secret(os.environ.get(gcp.KEY_VARIABLE, "").strip())
    url, params = {
        "aws": (f"{Sites().price_list}/offers/v1.0/aws/index.json", {}),
        "azure": (azure.ENDPOINT, {"$filter": "armSkuName eq 'Standard_ND96isr_H100_v5'"}),
        "gcp": (f"{gcp.ENDPOINT}/v1/services", {"key": key, "pageSize": "1"} if key else {}),
    }[name]
    try:
        with open_client(name) as http:
            http.get_json(url, params=params)
    except FetchError as error:
        if name == "gcp" and not key and error.status in (401, 403):
            mend = f"export {gcp.KEY_VARIABLE}=..., see docs/permissions.md"
            text = "it answers, and gives prices only for an API key"
            return Finding(kind="cloud", name=name, state="missing", text=text, mend=mend)
        return Finding(kind="cloud", name=name, state="failed", text=str(error))
    except TrainfareError as error:  # a package of the cloud's extra, which its own row mends
        return Finding(kind="cloud", name=name, state="missing", text=str(error))
    return Finding(kind="cloud", name=name, state="ok", text="its price list answers")


def check_files(folder: Path, now: datetime) -> Generator[Finding, None, None]:
    """
    Yield the policy and the price lock of a folder.

    Args:
        folder: where they are looked for.
        now: the moment to which the age of the lock is counted.
    """
    from trainfare.policy import read_policy
    from trainfare.policy.policy_file import read_file
    from trainfare.prices.lock import LOCK_FILE, read_lock

    lock = folder / LOCK_FILE
    try:
        paths = (folder / OWN_FILE, folder / PROJECT_FILE)
        if any(path.is_file() and read_file(path) for path in paths):
            file = read_policy(None, folder)
            lock = lock if file.policy.lock is None else file.beside(file.policy.lock)
            text = f"{file.path}: {len(file.policy.jobs)} jobs"
            yield Finding(kind="policy", name="", state="ok", text=text)
        else:
            text = "none here: check needs a TARGET and a limit; docs/policy.md has an example"
            yield Finding(kind="policy", name="", state="missing", text=text)
    except TrainfareError as error:
        yield Finding(kind="policy", name="", state="failed", text=str(error))
    make = f"trainfare prices lock -o {lock}"
    if not lock.exists():
        text = "none here: an answer changes as prices do"
        yield Finding(kind="lock", name="", state="missing", text=text, mend=make)
        return
    try:
        header = read_lock(lock).header
    except TrainfareError as error:
        yield Finding(kind="lock", name="", state="failed", text=str(error), mend=f"{make} --replace")
        return
    days = (now.date() - header.locked_on).days
    old = days > header.max_price_age_days
    text = f"{lock}: {header.rows:,} prices, locked {days} days ago, good for {header.max_price_age_days}"
    mend = f"{make} --replace" if old else ""
    yield Finding(kind="lock", name="", state="old" if old else "ok", text=text, mend=mend)


def _ask_driver() -> str | None:
    """Return what nvidia-smi lists; None where it is not installed or fails."""
    program = shutil.which(_SMI[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own program, without a shell
            [program, *_SMI[1:]], capture_output=True, text=True, timeout=_SMI_S, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return done.stdout


def check_gpus(ask: Callable[[], str | None] = _ask_driver) -> Generator[Finding, None, None]:
    """
    Yield each GPU of this machine, with the name that trainfare has for it.

    Args:
        ask: returns a line for each GPU, its name and MiB; None where there is no driver that lists them.
    """
    from trainfare_core.hardware.accelerators import resolve_device

    lines = (ask() or "").splitlines()
    for index, line in enumerate(lines):
        name, _, mib = line.rpartition(",")
        device = resolve_device(name.strip(), float(mib) * 2**20 if mib.strip().isdigit() else None)
        known = "not in its table of accelerators"
        text = f"{name.strip()}: {known if device is None else device.name}"
        yield Finding(kind="gpu", name=str(index), state="missing" if device is None else "ok", text=text)
    if not lines:
        text = "nvidia-smi lists none; none is needed: only FareMeter times steps, on whatever device trains"
        yield Finding(kind="gpu", name="", state="missing", text=text)
