"""`trainfare doctor`: what is installed and found here, what is missing for what, and the command that mends it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.output import output_width
from trainfare.job.floors import is_older, list_floors
from trainfare.prices.run_cost_table import OWN_FILE, PROJECT_FILE
from trainfare.prices.sources import LoadedPrices, PriceChoice, load_prices
from trainfare.report.tables import table_text
from trainfare_core.clouds import CLOUDS
from trainfare_core.documents import Document
from trainfare_core.errors import FetchError, PricesUnavailableError, TrainfareError
from trainfare_core.installation import __version__, write_install_line
from trainfare_providers.update import live_sources

if TYPE_CHECKING:
    from trainfare_core.prices.status import ServiceStatus
    from trainfare_providers.http.client import HttpClient

_PURPOSES: Final[dict[str, str]] = json.loads(
    Path(__file__).with_name("extras.json").read_text(encoding="utf-8")
)
"""What each extra is for, in the order of the table."""
_CLOUD_S: Final = 5.0
"""Chosen: the three clouds are asked one after the other, so a wait is at most a quarter of a minute."""
_SMI: Final = ("nvidia-smi", "--format=csv,noheader,nounits")
_SMI_S: Final = 10.0
"""Chosen: a driver that does not run yet takes some seconds to start."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is there, or is not; `mend` is a command, "" where none helps or none is needed."""

    kind: Literal["extra", "prices", "cloud", "policy", "lock", "gpu"]
    name: str
    state: Literal["ok", "missing", "old", "failed", "not asked"]
    text: str
    mend: str = ""


class DoctorReport(Document):
    """What `trainfare doctor` found."""

    schema_version: Literal[1] = 1
    tool_version: str
    system: str
    findings: tuple[Finding, ...]


@group_options
def doctor(
    *,
    online: Annotated[
        bool, typer.Option("--online", help="ask each cloud's price list for an answer")
    ] = False,
    output: Format = "table",
) -> None:
    """Say what is installed and found here, what is missing for what, and the command that mends it."""
    prices = tuple(check_prices(PriceChoice()))
    clouds = live_sources(None) if online else [(name, None) for name in CLOUDS]
    findings = (
        *check_extras(metadata.requires("trainfare") or ()),
        *prices,
        *(check_cloud(name, source) for name, source in clouds),
        *check_files(Path(), PriceChoice().now),
        *check_gpus(),
    )
    system = f"Python {platform.python_version()}, {platform.platform()}"
    answer = DoctorReport(tool_version=__version__, system=system, findings=findings)
    sys.stdout.write(answer.to_json() if output == "json" else doctor_table(answer, output_width()))
    if all(finding.state == "failed" for finding in prices):
        raise typer.Exit(PricesUnavailableError.exit_code)


def doctor_table(answer: DoctorReport, width: int) -> str:
    """Return one row for each finding, and below the commands that mend what is not well."""
    rows = [(f"{entry.kind} {entry.name}".rstrip(), entry.state, entry.text) for entry in answer.findings]
    mends = dict.fromkeys(f"mend: {entry.mend}" for entry in answer.findings if entry.mend)
    head = f"trainfare {answer.tool_version}, {answer.system}"
    return "\n".join([head, table_text(("what", "state", "says"), rows, width=width), *mends]) + "\n"


def check_extras(
    requirements: Iterable[str], version_of: Callable[[str], str] = metadata.version
) -> Generator[Finding, None, None]:
    """Yield whether the packages of each extra are there."""
    missing: dict[str, list[str]] = {name: [] for name in _PURPOSES}
    for floor in list_floors(requirements):
        if floor.extra not in missing:
            continue
        try:
            version = version_of(floor.package)
        except metadata.PackageNotFoundError:
            missing[floor.extra].append(f"no {floor.package}")
        else:
            if is_older(version, floor.lowest):
                missing[floor.extra].append(f"{floor.package} {version} is older than {floor.lowest}")
    for extra, packages in missing.items():
        text, mend = f"for {_PURPOSES[extra]}", write_install_line(extra)
        text = f"{', '.join(packages)}: needed {text}" if packages else text
        yield Finding("extra", extra, "missing" if packages else "ok", text, mend if packages else "")


def check_prices(
    choice: PriceChoice,
    load: Callable[[PriceChoice], LoadedPrices] = lambda choice: load_prices(choice=choice),
) -> Generator[Finding, None, None]:
    """Yield the age of the prices of each service, and what failed; those of over 30 days are old."""
    from trainfare_core.prices.freshness import USABLE_DAYS
    from trainfare_core.prices.status import price_status

    try:
        loaded = load(choice)
    except TrainfareError as error:
        yield Finding("prices", "", "failed", str(error))
        return
    for problem in loaded.problems:
        yield Finding("prices", "source", "failed", problem)
    groups: dict[tuple[str, str], list[ServiceStatus]] = {}
    for service in price_status(loaded.book, as_of=choice.now).services:
        name = f"{service.provider}/{service.service}" if service.provider in CLOUDS else "other clouds"
        if service.rows:
            groups.setdefault((name, service.origin), []).append(service)
    for (name, origin), services in groups.items():
        rows, old = sum(service.rows for service in services), sum(service.old_rows for service in services)
        youngest = min(service.age_days for service in services)
        oldest = max(service.oldest_age_days for service in services)
        text = (
            f"{origin}: {rows:,} prices, {youngest} to {oldest} days old, {old:,} of them over {USABLE_DAYS}"
        )
        mend = f"trainfare prices update --provider {services[0].provider}"
        mend = "pip install -U trainfare" if name == "other clouds" else mend
        yield Finding("prices", name, "old" if old else "ok", text, mend if old else "")


def _open_client(cloud: str) -> HttpClient:
    from trainfare_providers.http.client import HttpClient

    return HttpClient(cloud, budget_s=_CLOUD_S, max_failed_s=_CLOUD_S)


def check_cloud(
    name: str, source: object, open_client: Callable[[str], HttpClient] = _open_client
) -> Finding:
    """Return whether the price list of a cloud answers its plug-in; None asks nothing."""
    ping: Callable[[HttpClient], None] | None = getattr(source, "ping", None)
    if ping is None:
        text, mend = "no request was made", "" if source else "trainfare doctor --online"
        return Finding(
            "cloud", name, "not asked", f"{text}: {source}" if isinstance(source, str) else text, mend
        )
    try:
        with open_client(name) as http:
            ping(http)
    except FetchError as error:
        return Finding("cloud", name, "failed", str(error))
    except TrainfareError as error:  # a key, or a package of its extra, which has a row of its own
        return Finding("cloud", name, "missing", str(error))
    return Finding("cloud", name, "ok", "its price list answers")


def check_files(folder: Path, now: datetime) -> Generator[Finding, None, None]:
    """Yield the policy and the price lock of a folder, whose age is counted to a moment."""
    from trainfare.policy import read_policy
    from trainfare.policy.policy_file import read_file
    from trainfare.prices.lock import LOCK_FILE, read_lock

    lock = folder / LOCK_FILE
    text = "none here: check needs a TARGET and a limit; docs/policy.md has an example"
    try:
        if any(path.is_file() and read_file(path) for path in (folder / OWN_FILE, folder / PROJECT_FILE)):
            file = read_policy(None, folder)
            lock = lock if file.policy.lock is None else file.beside(file.policy.lock)
            yield Finding("policy", "", "ok", f"{file.path}: jobs {', '.join(file.policy.jobs)}")
        else:
            yield Finding("policy", "", "missing", text)
    except TrainfareError as error:
        yield Finding("policy", "", "failed", str(error))
    make = f"trainfare prices lock -o {lock}"
    if not lock.exists():
        yield Finding("lock", "", "missing", f"no {lock}: an answer changes as prices do", make)
        return
    try:
        header = read_lock(lock).header
    except TrainfareError as error:
        yield Finding("lock", "", "failed", str(error), f"{make} --replace")
        return
    days = (now.date() - header.locked_on).days
    text = f"{lock}: {header.rows:,} prices, locked {days} days ago, good for {header.max_price_age_days}"
    old = days > header.max_price_age_days
    yield Finding("lock", "", "old" if old else "ok", text, f"{make} --replace" if old else "")


def ask_driver(fields: str = "name,memory.total") -> str:
    """Return a line of these fields for each GPU, as `nvidia-smi --query-gpu` names them; "" where there is none."""
    try:
        return subprocess.run(  # noqa: S603 - the driver's own program, without a shell
            (*_SMI, f"--query-gpu={fields}"), capture_output=True, text=True, timeout=_SMI_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeError):  # not installed, or there is no GPU
        return ""


def check_gpus(ask: Callable[[], str] = ask_driver) -> Generator[Finding, None, None]:
    """Yield each GPU that the driver lists by a line with its name and MiB, with trainfare's name for it."""
    from trainfare_core.hardware.accelerators import resolve_device

    lines = ask().splitlines()
    for index, line in enumerate(lines):
        name, _, mib = line.rpartition(", ")
        device = resolve_device(name, float(mib) * 2**20 if mib.isdigit() else None)
        known = "not in its table of accelerators" if device is None else device.name
        yield Finding("gpu", str(index), "missing" if device is None else "ok", f"{name}: {known}")
    if not lines:
        text = "nvidia-smi lists none; none is needed: only FareMeter times steps, on whatever device trains"
        yield Finding("gpu", "", "missing", text)
