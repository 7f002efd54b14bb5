"""What SageMaker and Azure ML say of the jobs of exported plans, put into the records of their runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast

from trainfare.ledger.bucket import fetch_folder, replace_record
from trainfare.ledger.place import LedgerFolder
from trainfare.ledger.store import read_records
from trainfare_core.errors import CannotTellError, TrainfareError
from trainfare_core.ledger.run_record import CloudJob, RunRecord
from trainfare_core.recommendation import PREDICTION_TAG
from trainfare_providers.aws import AwsPrices
from trainfare_providers.aws.account import Account, Call, find_account
from trainfare_providers.azure.sign_in import find_credential, within
from trainfare_providers.azure.workspace import Workspace, call, ml_client
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.http.client import HttpClient

Jobs: TypeAlias = Iterable[tuple[str, CloudJob]]
"""Each after the id of its prediction."""
Cloud: TypeAlias = tuple[str, Callable[[Sequence[RunRecord]], Jobs]]
"""How the names of its machines begin, and what asks it for the jobs of runs, those that have not ended too."""
SEARCH: Final = Call("sagemaker:Search", "Results")
_BUDGET_S: Final = 60.0
"""Of a cloud, as for the lists of an Azure ML workspace."""


def match_jobs(runs: Sequence[RunRecord], jobs: Jobs) -> list[RunRecord]:
    """
    Return the runs whose job is known and has ended, with it.

    Of the sessions that a job had, the last is the run: its times have those of earlier ones. A run that began during
    two jobs of its plan has none.
    """
    jobs_by_run: dict[str, list[CloudJob]] = {}
    for prediction, job in jobs:
        begun = [run for run in runs if run.prediction.id == prediction and run.started_at >= job.began_at]
        sessions = [run for run in begun if job.ended_at is None or run.started_at <= job.ended_at]
        for last in sorted(sessions, key=lambda run: run.started_at)[-1:]:
            jobs_by_run.setdefault(last.run_id, []).append(job)
    own = {name: its[0] for name, its in jobs_by_run.items() if len(its) == 1 and its[0].ended_at}
    return [run.add_job(own[run.run_id]) for run in runs if run.run_id in own]


def ask_sagemaker(
    runs: Sequence[RunRecord], find: Callable[[HttpClient], Account | str] = find_account
) -> Jobs:
    """
    Yield SageMaker's jobs of some runs.

    Raises:
        CannotTellError: there are no credentials.
        FetchError: no answer.
    """
    with HttpClient(AwsPrices.name, budget_s=_BUDGET_S) as http:
        account = find(http)
        if isinstance(account, str):
            raise CannotTellError(account)
        for plan, machine in sorted({(run.prediction.id, run.prediction.machine) for run in runs}):
            tag = {"Name": f"Tags.{PREDICTION_TAG}", "Operator": "Equals", "Value": plan}
            search = {"Resource": "TrainingJob", "SearchExpression": {"Filters": [tag]}}
            for result in account.pages(SEARCH, machine.rpartition("@")[2], **search):
                job = cast("dict[str, Any]", result)["TrainingJob"]
                if "TrainingStartTime" in job:
                    yield plan, _read_sagemaker_job(job)


def _read_sagemaker_job(job: Mapping[str, Any]) -> CloudJob:
    machines = job["ResourceConfig"]
    return CloudJob(
        began_at=job["TrainingStartTime"],
        ended_at=job.get("TrainingEndTime"),
        # Of `InstancePreferences` the one that was taken.
        instance_type=machines.get("SelectedInstanceType") or machines.get("InstanceType", ""),
        machines=machines.get("SelectedInstanceCount") or machines.get("InstanceCount"),
        billed_s=job.get("BillableTimeInSeconds"),
        is_spot=job.get("EnableManagedSpotTraining", False),
    )


def ask_azure_ml(_: Sequence[RunRecord]) -> Jobs:
    """
    Return the jobs of exported plans in the Azure ML workspace that the environment names.

    Raises:
        CannotTellError: it names none.
        FetchError: no answer, or no sign-in.
    """
    workspace = Workspace.from_environment(os.environ)
    if workspace is None:
        raise CannotTellError(f"set {', '.join(NEEDS)}")
    return within(_BUDGET_S, lambda: list(read_azure_jobs(ml_client(workspace, find_credential()))))


def read_azure_jobs(client: Any) -> Jobs:
    """Yield the jobs of exported plans that a workspace's client finds."""
    for job in call(lambda: list(client.jobs.list(tag=PREDICTION_TAG)), time.sleep):
        plan = getattr(job, "tags", {}).get(PREDICTION_TAG)
        if plan:
            # The client shows no times of a job, and has those of its run for itself alone.
            run = call(partial(client.jobs._runs_operations.get_run, job.name), time.sleep)  # noqa: SLF001
            machines = getattr(job.resources, "instance_count", None) or 1
            times = {"began_at": run.start_time_utc, "ended_at": run.end_time_utc}
            if run.start_time_utc:
                yield plan, CloudJob(**times, machines=machines)


CLOUDS: Final[Mapping[str, Cloud]] = {
    "SageMaker": ("aws:ml.", ask_sagemaker),
    "Azure ML": ("azure:", ask_azure_ml),
}


def update_runs(
    folder: LedgerFolder, project: str | None = None, clouds: Mapping[str, Cloud] = CLOUDS
) -> Iterator[str]:
    """
    Write what clouds say of the jobs of a ledger's runs into it, and yield a line a cloud.

    Args:
        folder: of the ledger.
        project: of the runs; None: every one.
        clouds: that are asked, by name.

    Raises:
        CannotTellError: a cloud or the ledger's bucket does not answer; what others said is written.
        InputError: the ledger cannot be written.
    """
    runs_by_cloud: dict[str, list[RunRecord]] = {}
    for run in read_records(fetch_folder(folder).glob("[!.]*/[!.]*.json")):
        is_open = run.prediction.id and run.cloud_job is None and run.state != "planned"
        if is_open and project in (None, run.project):
            for cloud, (prefix, _) in clouds.items():
                if run.prediction.machine.startswith(prefix):
                    runs_by_cloud.setdefault(cloud, []).append(run)
    if not runs_by_cloud:
        yield "no run of an exported plan lacks its job"
    problems: list[str] = []
    for cloud, here in runs_by_cloud.items():
        try:
            found = match_jobs(here, clouds[cloud][1](here))
        except TrainfareError as error:
            problems.append(f"{cloud}: {error}")
            continue
        for run in found:
            replace_record(run, folder)
        yield f"{cloud}: found the jobs of {len(found)} of {len(here)} runs"
    if problems:
        raise CannotTellError("; ".join(problems))
