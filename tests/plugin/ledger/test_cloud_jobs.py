"""`trainfare ledger update`: what SageMaker and Azure ML say of the jobs of runs, by their real clients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from builders.azure_ml import PATHS, WORKSPACE, FakeCredential, arm, cloud_of
from builders.cli import capture_main
from builders.runs import BEGAN, build_compared, run
from faults.server import json_script
from trainfare.ledger.cloud_jobs import (
    SEARCH,
    ask_sagemaker,
    match_jobs,
    read_azure_jobs,
    update_runs,
)
from trainfare.ledger.store import INDEX, read_records, read_runs, write_run
from trainfare_core.errors import CannotTellError
from trainfare_core.ledger.causes import explain_run
from trainfare_core.ledger.run_record import (
    CloudJob,
    Compared,
    PredictedParts,
    RunMachine,
    RunPrediction,
    RunRecord,
    TimeParts,
)
from trainfare_providers.aws.account import Account
from trainfare_providers.azure.workspace import ml_client
from trainfare_providers.derived_rows import NEEDS

PLAN = "0123456789ab"
PAGE = Path(__file__).resolve().parents[3] / "docs" / "permissions.md"
HOUR = timedelta(hours=1)


def sagemaker_run(number: int = 0, **fields: Any) -> RunRecord:
    """Return a run of one hour on two machines at $20 an hour together, priced at $22 for 1.1 h."""
    parts = PredictedParts(input_s=0.0, startup_usd=2.0, validation_usd=0.0, checkpoint_usd=0.0, interruption_usd=0.0,
                           storage_usd=0.0)  # fmt: skip
    defaults: dict[str, Any] = {
        "prediction": RunPrediction(id=PLAN, made="before", machine="aws:ml.p4d.24xlarge@us-east-1", usd_per_hour=20.0,
                                    steps=3600, parts=parts),
        "machine": RunMachine(accelerators=8, nodes=2),
        "run_s": build_compared(3960.0, 3600.0), "usd": Compared(predicted=build_compared(22.0, None).predicted),
        "step_s": build_compared(1.0, 0.9), "steps_done": 3600, "interruptions": 0,
        "parts": TimeParts(startup_s=360.0),
    }  # fmt: skip
    return run(number, **{**defaults, **fields})


def training_job(**fields: Any) -> dict[str, Any]:
    """Return a job as `Search` answers it, from five minutes before a run until five minutes after it."""
    minutes = timedelta(minutes=5)
    return {
        "TrainingJobName": "made", "TrainingStartTime": BEGAN - minutes, "TrainingEndTime": BEGAN + HOUR + minutes,
        "BillableTimeInSeconds": 4200, "Tags": [{"Key": "trainfare-prediction", "Value": PLAN}],
        "ResourceConfig": {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 2, "VolumeSizeInGB": 100}, **fields,
    }  # fmt: skip


def ask(runs: Sequence[RunRecord], *jobs: dict[str, Any]) -> list[tuple[str, CloudJob]]:
    """Ask the real boto3, whose Stubber expects the very request, and checks that the answer is one of the service."""
    boto3, stub = pytest.importorskip("boto3"), pytest.importorskip("botocore.stub")
    client = boto3.client(
        "sagemaker", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    tag = {"Name": "Tags.trainfare-prediction", "Operator": "Equals", "Value": PLAN}
    with stub.Stubber(client) as stubbed:
        stubbed.add_response(
            "search",
            {"Results": [{"TrainingJob": job} for job in jobs]},
            {"Resource": "TrainingJob", "SearchExpression": {"Filters": [tag]}},
        )
        return list(ask_sagemaker(runs, lambda http: Account(http, lambda service, region: client)))


def test_the_dollars_are_the_billable_time_times_machines() -> None:
    """SageMaker bills BillableTimeInSeconds x InstanceCount (its API reference): 4,200 s of two machines at $10 each."""
    (filled,) = match_jobs([sagemaker_run()], ask([sagemaker_run()], training_job()))
    assert filled.usd.measured == pytest.approx(4200 / 3600 * 2 * 10.0)
    assert filled.cloud_job is not None
    assert (filled.cloud_job.billed_s, filled.cloud_job.machines) == (4200, 2)
    assert (filled.machine.cloud, filled.machine.instance_type, filled.machine.region) == (
        "aws", "ml.p4d.24xlarge", "us-east-1",
    )  # fmt: skip
    # What is billed around the meter's hour is start-up: 10 minutes at $20 an hour, and no rest.
    causes = {cause.cause: cause.usd for cause in explain_run(filled).causes}
    assert causes["startup"] == pytest.approx((360 + 600 - 360) / 3600 * 20)
    assert sum(usd or 0.0 for usd in causes.values()) == pytest.approx(4200 / 3600 * 20 - 22)


@pytest.mark.parametrize(
    "fields",
    [
        {"EnableManagedSpotTraining": True},
        {"ResourceConfig": {"SelectedInstanceType": "ml.p5.48xlarge", "SelectedInstanceCount": 2, "VolumeSizeInGB": 1}},
        {"ResourceConfig": {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 3, "VolumeSizeInGB": 1}},
    ],
)  # fmt: skip
def test_other_machines_have_no_dollars(fields: dict[str, Any]) -> None:
    """Spot's billable time has the discount in it; of `InstancePreferences` another type may be taken, at its price."""
    (filled,) = match_jobs([sagemaker_run()], ask([sagemaker_run()], training_job(**fields)))
    assert filled.usd.measured is None
    assert filled.cloud_job is not None
    assert filled.cloud_job.billed_s == 4200
    selected = fields.get("ResourceConfig", {}).get("SelectedInstanceType", "ml.p4d.24xlarge")
    assert filled.machine.instance_type == filled.cloud_job.instance_type == selected


def test_dollars_of_a_machine_that_was_not_taken_are_none() -> None:
    """The script said p4d; the service took p5 of the preferences."""
    machine = RunMachine(cloud="aws", instance_type="ml.p4d.24xlarge", region="us-east-1", nodes=2)
    stated = sagemaker_run(machine=machine, usd_per_hour=20.0, usd=build_compared(22.0, 20.0))
    config = {"SelectedInstanceType": "ml.p5.48xlarge", "SelectedInstanceCount": 2, "VolumeSizeInGB": 1}
    (filled,) = match_jobs([stated], ask([stated], training_job(ResourceConfig=config)))
    assert (filled.usd.measured, filled.usd_per_hour) == (None, None)
    assert filled.machine.instance_type == "ml.p5.48xlarge"


def test_a_job_is_of_the_last_session_that_began_during_it() -> None:
    """Sessions that died are in the times of the last; a job that runs, or two at once, fill nothing."""
    died, last, later = sagemaker_run(0), sagemaker_run(20), sagemaker_run(200)
    job = ask([died], training_job())
    assert [filled.run_id for filled in match_jobs([died, last, later], job)] == [last.run_id]
    assert match_jobs([died], [*job, *job]) == []
    running = training_job()
    del running["TrainingEndTime"]
    assert match_jobs([died], ask([died], running)) == []
    assert (
        match_jobs([died], ask([died], {"TrainingJobName": "waits", "ResourceConfig": {"VolumeSizeInGB": 1}}))
        == []
    )


def test_a_run_that_an_earlier_job_began_has_not_the_dollars_of_the_last_job() -> None:
    """The job began five minutes before the session: 200 s of earlier sessions are its own, an hour is of another job."""
    own, other = (
        sagemaker_run(
            earlier_s=earlier_s, run_s=build_compared(3960.0, 3600.0 + earlier_s), interruptions=None
        )
        for earlier_s in (200.0, 3600.0)
    )
    (filled,) = match_jobs([own], ask([own], training_job()))
    assert filled.usd.measured == pytest.approx(4200 / 3600 * 20)
    (filled,) = match_jobs([other], ask([other], training_job()))
    assert (filled.usd.measured, filled.difference_usd) == (None, None)


def test_a_run_whose_job_has_ended_does_not_run() -> None:
    """Its dollars are known, and why they differ is not: its steps are not."""
    running = sagemaker_run(state="running", ended_at=None, run_s=build_compared(3960.0, None), steps_done=0)
    (filled,) = match_jobs([running], ask([running], training_job()))
    assert (filled.state, filled.usd.measured) == ("died", pytest.approx(4200 / 3600 * 20))
    assert explain_run(filled).unknown_because == "the run died, and its end was not recorded"


def test_the_ledger_is_written_once(tmp_path: Path) -> None:
    """A run that has its job is not asked for again, and the index is made anew."""
    for record in (sagemaker_run(), sagemaker_run(500), run(1)):
        write_run(record, tmp_path)
    assert read_runs(tmp_path).table["usd_measured"].to_list() == [None, None, None]
    assert (tmp_path / INDEX).exists()
    asked: list[int] = []

    def answer(runs: Sequence[RunRecord]) -> list[tuple[str, CloudJob]]:
        asked.append(len(runs))
        return ask(runs, training_job())

    clouds = {"SageMaker": ("aws:ml.", answer), "Azure ML": ("azure:", answer)}
    assert list(update_runs(tmp_path, None, clouds)) == ["SageMaker: found the jobs of 1 of 2 runs"]
    assert read_runs(tmp_path).table["usd_measured"].drop_nulls().to_list() == [pytest.approx(4200 / 180)]
    list(update_runs(tmp_path, None, clouds))
    none = ["no run of an exported plan lacks its job"]
    assert list(update_runs(tmp_path, "another project", clouds)) == none
    assert asked == [2, 1]


@pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:azure\.ai\.ml")
def test_azure_ml_has_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client finds the job by its tag, and the times of its run; Azure bills machines, so no dollars come."""
    priced = sagemaker_run(
        prediction=RunPrediction(id=PLAN, machine="azure:Standard_ND96amsr_A100_v4@eastus")
    )
    home = PATHS["workspace"]
    runs = f"/history/v1.0{home}/runs/made"
    job = {
        "id": f"{home}/jobs/made", "name": "made",
        "properties": {"jobType": "Command", "status": "Completed", "command": "x", "environmentId": "x",
                       "tags": {"trainfare-prediction": PLAN}, "resources": {"instanceCount": 2}},
    }  # fmt: skip
    times = {"runId": "made", "startTimeUtc": "2026-11-01T11:58:00Z", "endTimeUtc": "2026-11-01T13:04:00Z"}
    with arm(tmp_path) as (server, bundle):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        properties = {"discoveryUrl": server.url("/discovery"), "workspaceId": "0"}
        described = {"id": home, "name": WORKSPACE.name, "location": "eastus", "properties": properties}
        server.script(home, json_script(described))
        server.script("/discovery", json_script({"api": server.url()}))
        server.script(f"{home}/jobs", json_script({"value": [job]}))
        server.script(runs, json_script(times))
        jobs = list(read_azure_jobs(ml_client(WORKSPACE, FakeCredential(), cloud_of(server.url()))))
        asked = {(request.path, request.query.partition("&tag=")[2]) for request in server.requests}
    assert jobs == [
        (
            PLAN,
            CloudJob(
                began_at=datetime(2026, 11, 1, 11, 58, tzinfo=timezone.utc),
                ended_at=datetime(2026, 11, 1, 13, 4, tzinfo=timezone.utc),
                machines=2,
            ),
        )
    ], asked
    (filled,) = match_jobs([priced], jobs)
    assert filled.usd.measured is None
    assert filled.machine == priced.machine


def test_without_credentials_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 3; a ledger without priced runs asks no cloud."""
    for name in NEEDS:
        monkeypatch.delenv(name, raising=False)
    write_run(run(1), tmp_path)
    done = capture_main(capsys, "ledger", "update", "--ledger", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "no run of an exported plan lacks its job\n")
    azure = RunPrediction(id=PLAN, machine="azure:Standard_ND96amsr_A100_v4@eastus")
    write_run(sagemaker_run(2, prediction=azure), tmp_path)
    done = capture_main(capsys, "ledger", "update", "--ledger", tmp_path)
    assert done.exit_code == 3
    assert done.stdout == ""
    assert done.stderr.startswith("error: Azure ML: set AZURE_SUBSCRIPTION_ID, ")
    with pytest.raises(CannotTellError, match="there are no AWS credentials"):
        list(ask_sagemaker([sagemaker_run()], lambda _: "there are no AWS credentials"))
    assert json.loads(read_records(tmp_path.glob("*/*-000000000002.json"))[0].to_json())["cloud_job"] is None


@pytest.mark.sources
def test_permissions_are_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"`{SEARCH.action}`" in text
    assert "`Microsoft.MachineLearningServices/workspaces/jobs/read`" in text
