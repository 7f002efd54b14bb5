"""The task for SkyPilot, by hand: its keys are those of SkyPilot's schema; `make test-export` asks SkyPilot itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.exports import answer_of, plan, small_answer
from trainfare.export import export_plan
from trainfare.export.plan import find_limit_s
from trainfare.export.yaml_text import format_yaml
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Recommendation

yaml = pytest.importorskip("yaml")

TASK_KEYS = {"name", "workdir", "num_nodes", "resources", "file_mounts", "setup", "run", "envs"}
RESOURCE_KEYS = {
    "infra", "instance_type", "use_spot", "job_recovery", "disk_size", "network_tier", "image_id", "labels", "ordered",
}  # fmt: skip
"""Of `sky/utils/schemas.py` of SkyPilot 0.14.1, those that we write."""


@pytest.fixture(autouse=True)
def _in_a_folder_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def export(answer: Recommendation, name: str = "cheapest") -> Any:
    return yaml.safe_load(export_plan(answer, "skypilot", name).text)


@pytest.mark.parametrize("name", ["cheapest", "fastest", "runner-up", "spot"])
def test_keys_are_those_of_the_schema(name: str) -> None:
    """With one machine and with several, on demand and spot."""
    task = export(answer_of("llama-7b"), name)
    assert set(task) <= TASK_KEYS
    assert set(task["resources"]) <= RESOURCE_KEYS
    for machine in task["resources"].get("ordered", []):
        assert set(machine) == {"infra", "instance_type"}


def test_machines_are_in_the_order_of_the_ranking() -> None:
    """`ordered`, of the same plan on the clouds that SkyPilot starts; a region each, no zone."""
    answer = answer_of("llama-7b")
    machines = export(answer)["resources"]["ordered"]
    same = [
        option for option in answer.options
        if option.trainer == answer.best("cheapest").trainer and option.service in ("ec2", "azure_vm", "gce")
        and not option.needs_porting and find_limit_s(option) <= 2 * find_limit_s(answer.best("cheapest"))
    ]  # fmt: skip
    assert [machine["instance_type"] for machine in machines] == [option.instance_type for option in same][:5]
    assert [machine["infra"] for machine in machines] == [
        f"{option.provider}/{option.region}" for option in same
    ][:5]
    assert len(machines) > 1
    limit_s = max(map(find_limit_s, same[:5]))
    assert f"timeout --signal=TERM --kill-after=120 {limit_s} torchrun " in export(answer)["run"]
    assert "any_of" not in export_plan(answer, "skypilot", "cheapest").text


def test_a_spot_task_recovers_and_keeps_checkpoints() -> None:
    """`sky jobs launch` starts again elsewhere on an empty machine."""
    text = export_plan(answer_of("llama-7b"), "skypilot", "spot").text
    task = yaml.safe_load(text)
    assert "# Start: sky jobs launch FILE." in text
    assert task["resources"]["job_recovery"] == {"strategy": "FAILOVER"}
    assert task["resources"]["use_spot"] is True
    assert task["file_mounts"]["/checkpoints"]["mode"] == "MOUNT_CACHED"
    assert task["envs"]["TRAINFARE_CHECKPOINTS"] == "/checkpoints"


def test_data_are_mounted() -> None:
    """Where the settings say where they are."""
    Path("trainfare.toml").write_text('[export]\ndata = "s3://made-for-a-test/data"\n')
    text = export_plan(small_answer(), "skypilot", "cheapest").text
    task = yaml.safe_load(text)
    assert task["file_mounts"] == {"/data": {"source": "s3://made-for-a-test/data", "mode": "MOUNT"}}
    assert task["envs"]["TRAINFARE_DATA"] == "/data"
    assert "# Read the data from the folder that TRAINFARE_DATA names." in text


def test_several_machines_meet() -> None:
    """By SkyPilot's own variables (https://docs.skypilot.co/en/latest/running-jobs/environment-variables.html)."""
    text = export_plan(small_answer(trainer=plan(num_nodes=2)), "skypilot", "cheapest").text
    task = yaml.safe_load(text)
    assert (task["num_nodes"], task["resources"]["network_tier"]) == (2, "best")
    assert '--node-rank="$SKYPILOT_NODE_RANK"' in task["run"]
    assert task["run"].startswith('MASTER_ADDR="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"\n')
    assert "run: |\n" in text


@pytest.mark.parametrize(
    "machine",
    [
        {"provider": "gcp", "service": "gce", "instance_type": "n1-standard-8"},
        {"provider": "runpod", "service": "gpu_cloud", "instance_type": "community-1x-h200"},
        {"provider": "gcp", "service": "tpu", "instance_type": "tpu7x-8"},
    ],
)
def test_a_machine_without_a_name_is_refused(machine: dict[str, str]) -> None:
    """Accelerators are added to it, or SkyPilot's catalogue lacks it: that of RunPod has its secure cloud alone."""
    with pytest.raises(InputError, match=f"does not start .*{machine['instance_type']}"):
        export(small_answer(**machine))


@pytest.mark.parametrize(
    ("slice_name", "software"),
    [
        ("v6e-8", "v2-alpha-tpuv6e"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v2-8", "tpu-ubuntu2204-base"),
    ],
)
def test_a_slice_has_its_software(slice_name: str, software: str) -> None:
    """Of the table of https://cloud.google.com/tpu/docs/runtimes; Lightning starts the processes of a TPU's host."""
    machine = {"provider": "gcp", "service": "tpu", "instance_type": slice_name, "region": "us-central1"}
    answer = small_answer(**machine, accelerator="TPU-v5p", needs_porting=True, trainer=plan(devices=4))
    with pytest.raises(InputError, match="--porting"):
        export_plan(answer, "skypilot", "1")
    text = export_plan(answer, "skypilot", "1", porting=True).text
    resources = yaml.safe_load(text)["resources"]
    assert resources["accelerators"] == f"tpu-{slice_name}"
    assert resources["accelerator_args"] == {"runtime_version": software}
    assert resources["infra"] == "gcp/us-central1"
    assert yaml.safe_load(text)["run"] == (
        "timeout --signal=TERM --kill-after=120 57328 python \\\n  train.py --lr 0.1\n"
    )
    assert "accelerator='tpu', devices='auto'" in text


def test_a_slice_has_no_other_machine_as_its_alternative() -> None:
    """MI300X needs porting too, but to ROCm; and a v5p-16 runs another plan."""
    answer = answer_of("llama-7b")
    rank = next(option.rank for option in answer.options if option.instance_type == "v5p-8")
    assert "ordered" not in export_plan(answer, "skypilot", str(rank), porting=True).text


def test_a_quoted_machine_is_named_as_its_cloud_does() -> None:
    """Quotes name no region: SkyPilot takes the cheapest of the cloud."""
    machine = {
        "provider": "lambda",
        "service": "gpu_cloud",
        "instance_type": "8x-h100-sxm",
        "region": "global",
    }
    resources = export(small_answer(**machine))["resources"]
    assert (resources["infra"], resources["instance_type"]) == ("lambda", "gpu_8x_h100_sxm5")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "yes",
        "1e3",
        "a: b # c",
        "'\"\\",
        "a\nb",
        "a\nb\n",
        "a\n\nb\n",
        " a\nb",
        "\x07\nb",
        "é 😀",
        "${{x}}",
        "\u2028",
    ],
)
def test_yaml_is_read_as_it_was_meant(value: str) -> None:
    """By PyYAML, beside a number, a list and an empty table."""
    document = {"a": value, "b": [value, {"/c": value, "d": 1}], "e": {}, "f": True}
    assert yaml.safe_load(format_yaml(document, ["a comment"])) == document
    assert json.loads(json.dumps(document)) == document
