"""The job and the cluster for Azure ML: its loaders accept them, and we refuse what they let through."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from builders.azure_ml import PATHS, WORKSPACE, FakeCredential, arm, cloud_of
from builders.exports import answer_of, plan, small_answer
from faults.server import json_script
from trainfare.export import export_plan
from trainfare.export.plan import find_limit_s
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Launch, Recommendation
from trainfare_providers.azure.workspace import ml_client

yaml = pytest.importorskip("yaml")
MACHINE = {
    "provider": "azure", "service": "azure_ml", "instance_type": "Standard_ND96amsr_A100_v4", "region": "eastus",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def export(answer: Recommendation, name: str = "cheapest") -> tuple[dict[str, Any], dict[str, Any]]:
    """Write both files and return what they hold."""
    files = export_plan(answer, "azureml", name)
    Path("job.yml").write_text(files.text)
    Path("job-compute.yml").write_text(files.beside["-compute.yml"])
    return yaml.safe_load(files.text), yaml.safe_load(files.beside["-compute.yml"])


ANSWERS = {
    "one device": lambda: small_answer(trainer=plan(devices=1), **MACHINE),
    "one machine": lambda: answer_of("llama-7b", "azure_ml"),
    "two machines": lambda: small_answer(trainer=plan(num_nodes=2), **MACHINE),
    "spot": lambda: small_answer(purchase_option="spot", **MACHINE),
    "data": lambda: small_answer(**MACHINE).model_copy(
        update={
            "launch": Launch(
                command="cli.py fit", trainer_flags=True, data="azureml:data:1", image="repo/image:1"
            )
        }
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_loaders_of_azure_ml_accept_both_files(name: str) -> None:
    """`load_job(...)._validate()` and `load_compute` of azure-ai-ml, as `az ml` calls them."""
    ml = pytest.importorskip("azure.ai.ml")
    job, cluster = export(ANSWERS[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of azure-ai-ml's own
        loaded = ml.load_job("job.yml")
        result = loaded._validate()
        assert result.passed, result.error_messages
        compute = ml.load_compute("job-compute.yml")
    assert loaded.command == job["command"]
    assert loaded.environment_variables == job["environment_variables"]
    assert (compute.name, compute.size, compute.tier) == (cluster["name"], cluster["size"], cluster["tier"])
    assert loaded.compute == f"azureml:{compute.name}" or loaded.compute == compute.name
    assert loaded.resources.instance_count == compute.max_instances
    assert loaded.limits.timeout == job["limits"]["timeout"]


def test_the_plan_is_in_both() -> None:
    """The tier is the cluster's, one process a device is Azure ML's, and the run finds its plan."""
    answer = ANSWERS["two machines"]()
    job, cluster = export(answer)
    option = answer.options[0]
    assert job["distribution"] == {"type": "pytorch", "process_count_per_instance": 2}
    assert job["command"].endswith(" python train.py --lr 0.1")
    assert "torchrun" not in job["command"]
    assert (cluster["size"], cluster["location"], cluster["max_instances"]) == (
        option.instance_type,
        "eastus",
        2,
    )
    assert json.loads(job["environment_variables"]["TRAINFARE_PREDICTION"])["id"] == option.plan_id
    assert job["tags"] == cluster["tags"] == {"trainfare-prediction": option.plan_id}
    assert cluster["tier"] == "dedicated"
    assert export(ANSWERS["spot"]())[1]["tier"] == "low_priority"
    assert "distribution" not in export(ANSWERS["one device"]())[0]
    assert job["limits"]["timeout"] == find_limit_s(option)
    assert "Then Azure ML cancels the job" in Path("job.yml").read_text()
    command = export(ANSWERS["data"]())[0]["command"]
    assert command.startswith(
        "TRAINFARE_DATA=${{inputs.data}} TRAINFARE_CHECKPOINTS=${{outputs.checkpoints}} python"
    )
    assert command.endswith(" --trainer.default_root_dir=${{outputs.checkpoints}}")


@pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:azure\.ai\.ml")
def test_both_are_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client sends them to a loopback Resource Manager, whose workspace has the code by its hash already."""
    ml = pytest.importorskip("azure.ai.ml")
    answer = ANSWERS["two machines"]().model_copy(
        update={"launch": Launch(command="train.py --lr 0.1", image="repo/image:1")}
    )
    plan_id = answer.options[0].plan_id
    job, _ = export(answer)
    home = PATHS["workspace"]
    code = {
        "id": f"{home}/codes/made/versions/1",
        "name": "1",
        "properties": {"codeUri": "https://a.example/b"},
    }
    environment = {"id": f"{home}/environments/made/versions/1", "name": "1", "properties": {"image": "i"}}
    sent = {"jobType": "Command", "status": "Starting", "command": "x", "environmentId": environment["id"]}
    cluster = {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": {"vmSize": "x"}}
    names = {"job": f"{home}/jobs/made", "cluster": f"{home}/computes/trainfare-{plan_id}"}
    with arm(tmp_path) as (server, bundle), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of azure-ai-ml's own
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        server.everywhere(json_script({**environment, "value": [code]}))
        server.script(code["id"], json_script(code))
        for name, properties in (("job", sent), ("cluster", cluster)):
            document = {"id": names[name], "name": "made", "location": "eastus", "properties": properties}
            server.script(names[name], json_script(document))
        client = ml_client(WORKSPACE, FakeCredential(), cloud_of(server.url()))
        client.compute.begin_create_or_update(ml.load_compute("job-compute.yml")).result()
        loaded = ml.load_job("job.yml")
        loaded.name = "made"
        assert client.jobs.create_or_update(loaded).status == "Starting"
        bodies = {request.path: request.body for request in server.requests if request.body}
    put_job = json.loads(bodies[names["job"]])["properties"]
    put_cluster = json.loads(bodies[names["cluster"]])
    assert put_job["command"] == job["command"]
    assert put_job["computeId"] == names["cluster"]
    assert put_job["resources"]["instanceCount"] == 2
    assert put_job["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 2}
    assert put_job["outputs"]["checkpoints"]["mode"] == "ReadWriteMount"
    assert json.loads(put_job["environmentVariables"]["TRAINFARE_PREDICTION"])["id"] == plan_id
    assert put_job["tags"] == put_cluster["tags"] == {"trainfare-prediction": plan_id}
    sizes = put_cluster["properties"]["properties"]
    assert (sizes["vmSize"], sizes["vmPriority"]) == ("Standard_ND96amsr_A100_v4", "Dedicated")
    assert sizes["scaleSettings"]["maxNodeCount"] == 2


def test_whether_the_workspace_has_the_size_is_said() -> None:
    """A price that was read with the workspace's list is of a size in it; documented sizes are not checked."""
    unchecked = "It was not checked that your workspace has Standard_ND96amsr_A100_v4"
    assert unchecked in export_plan(answer_of("llama-7b", "azure_ml"), "azureml", "cheapest").text
    assert unchecked in export_plan(small_answer(**MACHINE), "azureml", "cheapest").text
    read = small_answer(price_fetched_at="2026-11-30T00:00:00+00:00", **MACHINE)
    assert "Your workspace listed Standard_ND96amsr" in export_plan(read, "azureml", "cheapest").text


def test_a_machine_of_azure_that_azure_ml_rents_too() -> None:
    """At one price both are one row of the ranking."""
    answer = answer_of("llama-7b")
    both = next(
        option for option in answer.options if "azure_ml" in option.also_services and not option.needs_porting
    )
    assert export(answer, str(both.rank))[1]["size"] == both.instance_type


@pytest.mark.parametrize(
    ("size", "said"), [("Standard_Moon", "no size of Azure"), ("Standard_ND96ams_A100_v4", "no RDMA network")]
)
def test_what_the_loader_lets_through_is_refused(size: str, said: str) -> None:
    """azure-ai-ml loads and validates a job on either; names with an r have RDMA (Azure's "VM naming conventions")."""
    with pytest.raises(InputError, match=said):
        export(small_answer(trainer=plan(num_nodes=2), **{**MACHINE, "instance_type": size}))


def test_what_azure_would_replace_is_refused() -> None:
    """An expression of the user's own in the command."""
    with pytest.raises(InputError, match="which Azure ML replaces"):
        export(small_answer(command="train.py '${{ inputs.x }}'", **MACHINE))
