"""The task for SkyPilot, by hand: its keys are those of SkyPilot's schema; `make test-export` asks SkyPilot itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.exports import answer_of, plan, small_answer
from trainfare.export import export_plan
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
        and not option.needs_porting
    ]  # fmt: skip
    assert [machine["instance_type"] for machine in machines] == [option.instance_type for option in same][:5]
    assert [machine["infra"] for machine in machines] == [
        f"{option.provider}/{option.region}" for option in same
    ][:5]
    assert len(machines) > 1
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


def test_a_machine_without_a_type_is_refused() -> None:
    """Google's machines to which accelerators are added have no type of their own in SkyPilot."""
    machine = {"provider": "gcp", "service": "gce", "instance_type": "n1-standard-8"}
    with pytest.raises(InputError, match="no type n1-standard-8"):
        export(small_answer(**machine))


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
