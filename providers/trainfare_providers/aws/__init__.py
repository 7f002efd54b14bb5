"""
AWS: live prices of EC2 and SageMaker. `AwsPrices.fetch` is the whole path.

Without credentials: the public offer files (0.3 GB and more a region, streamed). With them: the Pricing API, spot
prices, Capacity Blocks, training plans, Savings Plans and quotas. docs/permissions.md has the policy, call by call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Final

from trainfare_core.errors import CannotTellError, InputError, PricesUnavailableError
from trainfare_core.prices.book import PriceBook
from trainfare_providers.aws.account import find_account
from trainfare_providers.aws.bulk import Sites, read_advisor, read_offer_files, read_plan_files
from trainfare_providers.aws.listing import Listing
from trainfare_providers.aws.machines import Machines, read_known_machines
from trainfare_providers.aws.quotas import limits_of, quota_note, training_limits, unread_note
from trainfare_providers.aws.rows import AwsRows
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import FetchedQuotas, FetchedRows, load_last_good

__all__ = ["DEFAULT_REGIONS", "AwsPrices", "Sites"]

DEFAULT_REGIONS: Final = ("us-east-1", "us-east-2", "us-west-2", "eu-central-1", "ap-northeast-1")
"""The five regions with the most accelerator offers in the snapshot."""

REGIONS_VARIABLE: Final = "TRAINFARE_AWS_REGIONS"
PLANS_VARIABLE: Final = "TRAINFARE_AWS_SAVINGS_FILES"
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]{2,12}){1,3}-[0-9]{1,2}", re.ASCII)


class AwsPrices:
    """
    Live prices of AWS's accelerator machines, EC2 and SageMaker.

    Args:
        regions: None takes `TRAINFARE_AWS_REGIONS` (commas between), else `DEFAULT_REGIONS`.
        plan_files: read the public Savings Plan files too when there are no credentials: some GB more. None takes
            `TRAINFARE_AWS_SAVINGS_FILES` (1 is yes).
        sites: where the public files are, for tests.
        now: the time, for tests.

    Raises:
        InputError: a name that is not that of a region.
    """

    name = "aws"
    needs = (REGIONS_VARIABLE, PLANS_VARIABLE, "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    budget_s = 1800.0
    """Seconds for all requests together; each has the client's own limits, a public file `BULK_LIMITS`."""

    def __init__(
        self,
        *,
        regions: Sequence[str] | None = None,
        plan_files: bool | None = None,
        sites: Sites | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.regions = _regions(regions)
        self._plan_files = os.environ.get(PLANS_VARIABLE) == "1" if plan_files is None else plan_files
        self._sites, self._now = sites or Sites(), now

    def load(self) -> PriceBook:
        """Return the last good prices on disk; an empty book where there are none."""
        return load_last_good(self.name)

    def ping(self, http: HttpClient) -> None:
        """Ask for the index of the public price list, which needs no credentials; raises as `fetch`."""
        http.get_json(f"{self._sites.price_list}/offers/v1.0/aws/index.json")

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        """
        Fetch the prices of every region.

        Raises:
            PricesUnavailableError: AWS did not answer, refused the credentials, or gave no price at all. A part that
                the credentials may not read, or whose credentials are missing, is a note instead.
        """
        now = self._now().astimezone(timezone.utc)
        rows = AwsRows(today=f"{now:%Y-%m-%d}")
        account = find_account(http)
        if isinstance(account, str):
            machines = self._without_account(http, account, rows)
        else:
            machines = self._with_account(http, Listing(account, now, rows))
        if machines.refused:
            rows.note(f"ec2: left out, two sources differ on them: {', '.join(machines.refused)}")
        if not any(row.purchase_option == "on_demand" for row in rows.ec2.rows):
            regions = ", ".join(self.regions)
            raise PricesUnavailableError(
                f"aws: not one on-demand price of an accelerator machine came for {regions}"
            )
        return rows.ec2.finish(rows.notes), rows.sagemaker.finish()

    def quotas(self, http: HttpClient, prices: PriceBook) -> FetchedQuotas:
        """
        Return how many vCPUs of EC2's families and how many of SageMaker's machines the account may run at once.

        Those on demand and those on spot machines are quotas of their own.

        Raises:
            CannotTellError: there are no credentials to ask with, or they may not read quotas.
            FetchError: no answer.
        """
        account = find_account(http)
        if isinstance(account, str):
            raise CannotTellError(f"aws: {account}, and quotas belong to an account")
        names, rows = prices.names("instance_type"), AwsRows(today="")
        listing = Listing(account, self._now(), rows)
        limits = limits_of((quota for region in self.regions for quota in listing.quotas(region)), names)
        training = (quota for region in self.regions for quota in listing.training_quotas(region))
        limits += training_limits(training, names)
        if not limits:
            raise CannotTellError(
                "; ".join(["aws: no quota of a machine of the prices was read", *rows.notes])
            )
        rows.note(unread_note(limits, prices.filter(regions=self.regions)))
        if elsewhere := len(set(prices.names("region")) - set(self.regions)):
            said = ", ".join(self.regions)
            rows.note(
                f"aws: quotas of {said} alone ({REGIONS_VARIABLE}); other regions with prices: {elsewhere}"
            )
        return FetchedQuotas(limits, tuple(rows.notes))

    def _without_account(self, http: HttpClient, why: str, rows: AwsRows) -> Machines:
        machines = read_known_machines()
        rows.note(
            f"{why}: spot prices, Capacity Blocks, training plans and quotas are left out "
            "(docs/permissions.md says what they need)"
        )
        read_offer_files(http, self._sites, self.regions, machines, rows)
        if self._plan_files:
            read_plan_files(http, self._sites, self.regions, machines, rows)
        else:
            rows.note(
                f"Savings Plans are left out: with {PLANS_VARIABLE}=1 their public files are read, some GB"
            )
        return machines

    def _with_account(self, http: HttpClient, listing: Listing) -> Machines:
        described_machines = listing.found
        described = {region: listing.machines(region) for region in self.regions}
        machines = read_known_machines()
        for machines_of_region in described.values():
            machines = machines.join(machines_of_region)
        if not listing.price_list(self.regions, machines):
            read_offer_files(http, self._sites, self.regions, machines, described_machines)
        bands = read_advisor(http, self._sites, described_machines)
        for region in self.regions:
            listing.spot(region, machines, bands)
            listing.blocks(region, described[region], machines)
            listing.savings(region, machines)
            listing.found.note(quota_note(listing.quotas(region), region=region))
        return machines


def _regions(given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        regions_text = os.environ.get(REGIONS_VARIABLE, "")
        given = [name.strip() for name in regions_text.split(",") if name.strip()] or DEFAULT_REGIONS
    for name in given:
        if not _REGION.fullmatch(name):
            msg = f"{REGIONS_VARIABLE}: {name[:40]!r} is not the name of an AWS region such as us-east-1"
            raise InputError(msg)
        if name.startswith("cn-"):
            msg = f"{REGIONS_VARIABLE}: {name} is of AWS China, which sells in CNY; trainfare reads USD only"
            raise InputError(msg)
    if not given:
        raise InputError("aws: name at least one region, such as us-east-1")
    return tuple(dict.fromkeys(given))
