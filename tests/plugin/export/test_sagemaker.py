"""The request for SageMaker: botocore's validator, its Stubber and moto accept it, and we refuse what they let through."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builders.exports import answer_of, plan, small_answer
from builders.recommendations import interval
from trainfare.export import export_plan
from trainfare.export.plan import find_limit_s
from trainfare.export.sagemaker import RENDEZVOUS, check_request
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Launch, Recommendation, SpotOutlook

boto3 = pytest.importorskip("boto3")
botocore_stub = pytest.importorskip("botocore.stub")
MACHINE = {"service": "sagemaker", "instance_type": "ml.g6.12xlarge"}


@pytest.fixture(autouse=True)
def _in_a_folder_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load_client() -> Any:
    """Return a client that has no network; the key is none."""
    return boto3.client(
        "sagemaker", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )


def load_shapes() -> Any:
    return load_client().meta.service_model


def export(answer: Recommendation, name: str = "cheapest") -> dict[str, Any]:
    return json.loads(export_plan(answer, "sagemaker", name).text)  # type: ignore[no-any-return]


def spot_answer(waiting_hours: float = 2.0) -> Recommendation:
    outlook = SpotOutlook(
        interruptions=1.0, per_machine_hour=interval(0.05), rate_source="made", waiting_hours=waiting_hours,
        p50_hours=10.0, p90_hours=14.0, chance_in_time=None, save_every_n_steps=100,
    )  # fmt: skip
    return small_answer(purchase_option="spot", spot=outlook, **MACHINE)


def data_answer() -> Recommendation:
    launch = Launch(command="train.py", data="s3://bucket/data", bucket="bucket", image="image")
    return small_answer(**MACHINE).model_copy(update={"launch": launch})


REQUESTS = {
    "data": lambda: export(data_answer()),
    "one": lambda: export(small_answer(**MACHINE)),
    "ranked": lambda: export(answer_of("llama-7b", "sagemaker")),
    "spot": lambda: export(spot_answer()),
    "several": lambda: export(
        small_answer(trainer=plan(num_nodes=2), **{**MACHINE, "instance_type": "ml.p4d.24xlarge"})
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_clients_own_checks_accept_it(name: str) -> None:
    """Botocore's report is empty, a Stubber expects the very request, and it is sent."""
    from botocore.validate import ParamValidator

    request = REQUESTS[name]()
    shape = load_shapes().operation_model("CreateTrainingJob").input_shape
    assert not ParamValidator().validate(request, shape).generate_report()
    client = load_client()
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/made"
    with botocore_stub.Stubber(client) as stub:
        stub.add_response("create_training_job", {"TrainingJobArn": arn}, request)
        assert client.create_training_job(**request)["TrainingJobArn"] == arn
    assert len(request["TrainingJobName"]) <= 63
    assert all(len(value) <= 512 for value in request["Environment"].values())


@pytest.mark.parametrize("name", ["one", "ranked"])
def test_moto_takes_it(name: str) -> None:
    """A model of the service creates the job and describes it with the same limits and tags."""
    moto = pytest.importorskip("moto")
    request = REQUESTS[name]()
    request["RoleArn"] = "arn:aws:iam::123456789012:role/made"
    with moto.mock_aws():
        client = load_client()
        client.create_training_job(**request)
        there = client.describe_training_job(TrainingJobName=request["TrainingJobName"])
        assert there["StoppingCondition"] == request["StoppingCondition"]
        assert there["ResourceConfig"] == request["ResourceConfig"]
        assert client.list_tags(ResourceArn=there["TrainingJobArn"])["Tags"] == request["Tags"]


def test_data_are_a_channel() -> None:
    """SageMaker mounts a channel at /opt/ml/input/data/CHANNEL."""
    request = REQUESTS["data"]()
    channel = request["InputDataConfig"][1]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://bucket/data"
    assert request["Environment"]["TRAINFARE_DATA"] == f"/opt/ml/input/data/{channel['ChannelName']}"
    assert request["OutputDataConfig"]["S3OutputPath"].startswith("s3://bucket/")
    assert "FILL_IN_BUCKET" not in json.dumps(request)


def test_ranked_machines_are_preferences_in_order() -> None:
    """Those of the same plan in the same region; the time is enough for the slowest, none twice as slow as the first."""
    answer = answer_of("llama-7b", "sagemaker")
    best = answer.best("cheapest")
    request = export(answer)
    names = [entry["InstanceType"] for entry in request["ResourceConfig"]["InstancePreferences"]]
    same = [
        option for option in answer.options
        if option.trainer == best.trainer and option.region == best.region and not option.needs_porting
    ]  # fmt: skip
    all_of_them = len(same)
    same = [option for option in same if find_limit_s(option) <= 2 * find_limit_s(best)]
    assert len(same) < all_of_them
    assert names == [option.instance_type for option in same][:5]
    assert len(names) > 1
    limit_s = request["StoppingCondition"]["MaxRuntimeInSeconds"]
    assert max(option.run_hours.high_80 for option in same[:5]) * 3600 < limit_s <= 2 * find_limit_s(best)
    page = export_plan(answer, "sagemaker", "cheapest").beside[".md"].replace("\\", "")
    assert "99 of 100 runs end within it, on the slowest of these machines. Then SageMaker sends TERM" in page
    assert f"raise its quota 'Longest run time for a training job' to {limit_s:,} s" in page
    assert "Longest run time" not in export_plan(small_answer(**MACHINE), "sagemaker", "1").beside[".md"]


def test_the_time_is_the_99_percent_end() -> None:
    """Of a log-normal time of sigma 0.2 around 10 h: 10 h x exp(2.3263 x 0.2), where one day would end a longer run."""
    runtime_s = export(small_answer(**MACHINE))["StoppingCondition"]["MaxRuntimeInSeconds"]
    assert runtime_s == pytest.approx(36000 * math.exp(2.3263 * 0.2), rel=1e-3)


def test_a_spot_job_waits_and_keeps_checkpoints() -> None:
    """99 of 100 exponential waits of mean 2 h are shorter than 2 h x ln 100; the request takes no preferences."""
    request = export(spot_answer())
    stop = request["StoppingCondition"]
    assert request["EnableManagedSpotTraining"] is True
    assert stop["MaxWaitTimeInSeconds"] - stop["MaxRuntimeInSeconds"] == pytest.approx(
        7200 * math.log(100), abs=2
    )
    assert request["CheckpointConfig"]["LocalPath"] == request["Environment"]["TRAINFARE_CHECKPOINTS"]
    assert request["ResourceConfig"]["InstanceType"] == "ml.g6.12xlarge"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: small_answer(run_hours=interval(600.0), **MACHINE), "ends a job after 28 days"),
        (
            lambda: small_answer(service="sagemaker", instance_type="ml.zz.huge"),
            "no training machine ml.zz.huge",
        ),
        (lambda: small_answer(command=f"train.py {'a' * 257}", **MACHINE), "256 characters"),
        (lambda: small_answer(command="train.py 'a\nb'", **MACHINE), "on one line"),
        (lambda: small_answer(), "starts machines of sagemaker: the answer has none"),
        (lambda: small_answer(purchase_option="capacity_block", **MACHINE), "booked first"),
        (
            lambda: small_answer(**MACHINE).model_copy(update={"basis": "per_1000_steps"}),
            "the length of the run is not known",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(answer: Any, said: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html has the limits."""
    with pytest.raises(InputError, match=said):
        export(answer())


def test_requests_that_botocore_lets_through_are_refused() -> None:
    """MaxWait below MaxRuntime, and preferences beside spot machines."""
    from botocore.validate import ParamValidator

    shapes = load_shapes()
    shape = shapes.operation_model("CreateTrainingJob").input_shape
    short = REQUESTS["spot"]()
    short["StoppingCondition"]["MaxWaitTimeInSeconds"] = 60
    both = {**REQUESTS["ranked"](), "EnableManagedSpotTraining": True}
    both["StoppingCondition"]["MaxWaitTimeInSeconds"] = 28 * 86400
    for request, said in (
        (short, "at least MaxRuntimeInSeconds"),
        (both, "InstancePreferences stands neither"),
    ):
        assert not ParamValidator().validate(request, shape).generate_report()
        with pytest.raises(InputError, match=said):
            check_request(request, shapes)


def test_machines_of_one_job_meet(tmp_path: Path) -> None:
    """By the file that SageMaker writes (its developer guide, "Distributed training configuration"), on machine 2 of 2."""
    request = REQUESTS["several"]()
    config = tmp_path / "resourceconfig.json"
    config.write_text(
        '{"current_host": "algo-2", "hosts": ["algo-2", "algo-1"], "network_interface_name": "eth0"}'
    )
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (
        ("torchrun", 'printf "%s\\n" "$@" "$NCCL_SOCKET_IFNAME"'),
        ("python", f'exec {sys.executable} "$@"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    algorithm = request["AlgorithmSpecification"]
    words = [
        word.replace("/opt/ml/input/data/code", str(tmp_path)) for word in algorithm["ContainerEntrypoint"]
    ]
    here = request["Environment"]["TRAINFARE_RENDEZVOUS"].replace(
        "/opt/ml/input/config/resourceconfig.json", str(config)
    )
    assert request["Environment"]["TRAINFARE_RENDEZVOUS"] == RENDEZVOUS
    done = subprocess.run(
        [*words, *algorithm["ContainerArguments"]], capture_output=True, text=True, check=True,
        env={"PATH": f"{folder}:/usr/bin:/bin", "TRAINFARE_RENDEZVOUS": here},
    )  # fmt: skip
    assert done.stdout.split() == [
        "--nnodes=2", "--nproc-per-node=2", "--node-rank=1", "--master-addr=algo-1", "--master-port=29500",
        "train.py", "--lr", "0.1", "eth0",
    ]  # fmt: skip
    # aws/sagemaker-training-toolkit, src/sagemaker_training/torch_distributed.py
    efa = {
        "FI_PROVIDER": "efa",
        "FI_EFA_USE_DEVICE_RDMA": "1",
        "RDMAV_FORK_SAFE": "1",
        "NCCL_PROTO": "simple",
    }
    assert efa.items() <= request["Environment"].items()
    assert not efa.keys() & REQUESTS["one"]()["Environment"].keys()


def test_the_page_beside_it_names_what_to_fill_in_first(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has no comments: they stand in FILE.md, and nothing is printed in place of both."""
    from builders.cli import run_main

    Path("answer.json").write_text(small_answer(command=None, **MACHINE).to_json())
    assert run_main("export", "answer.json", "--to", "sagemaker", "-o", "job.json") == 0
    first = Path("job.md").read_text().splitlines()[2]
    assert first.startswith("- Fill in FILL\\_IN\\_ACCOUNT")
    assert "Fill in FILL_IN_BUCKET" in capsys.readouterr().err
    assert run_main("export", "answer.json", "--to", "sagemaker") == 2
