"""
SkyPilot's own loader, validator and optimizer on exported tasks, offline, with a catalogue written from our prices.

`make test-export` installs SkyPilot and names its interpreter in TRAINFARE_SKYPILOT_PYTHON.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from builders.exports import PROFILES, answer_of, plan, small_answer
from trainfare.export import export_plan
from trainfare.export.skypilot import NAMES, SERVICES
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Option

PYTHON = os.environ.get("TRAINFARE_SKYPILOT_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="run by `make test-export`")

SETTINGS = '[export]\ncommand = "train.py --lr 1"\nsetup = "pip install -r requirements.txt"\n'
HEADS = {
    "aws": "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone,Arch",
    "azure": "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,Generation",
    "gcp": "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice",
    "lambda": "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice",
    "runpod": "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Region,SpotPrice,Price,AvailabilityZone",
}
"""Columns of SkyPilot's catalogue of version 8."""
ACCELERATORS = {"A100-SXM-80GB": "A100-80GB", "A100-PCIE-80GB": "A100-80GB"}
"""SkyPilot's names of accelerators that differ from the first part of ours."""
QUOTED = {"1x-b200": "gpu_1x_b200_sxm6", "secure-1x-l40s": "1x_L40S_SECURE"}
"""Types of Lambda's API, and of SkyPilot's fetcher for RunPod, by the names of our quotes."""


def write_catalogue(home: Path, options: Iterable[Option]) -> None:
    """Write machines with our prices where SkyPilot looks for its catalogue; one without a file beside it is kept."""
    rows: dict[str, dict[tuple[str, str], dict[str, Any]]] = {cloud: {} for cloud in HEADS}
    for option in options:
        if option.service not in SERVICES or option.provider not in HEADS:
            continue
        row = rows[option.provider].setdefault((option.instance_type, option.region), {
            "InstanceType": QUOTED.get(option.instance_type, option.instance_type), "AcceleratorName": ACCELERATORS.get(option.accelerator, option.accelerator.split("-")[0]),
            "AcceleratorCount": option.accelerator_count, "vCPUs": 96, "MemoryGiB": 1000, "GpuInfo": "",
            "Region": option.region, "AvailabilityZone": f"{option.region}a", "Arch": "x86_64", "Generation": "V2",
        })  # fmt: skip
        price = "SpotPrice" if option.purchase_option == "spot" else "Price"
        row[price] = option.usd_per_hour / option.nodes
        row.setdefault("Price", 999)  # every machine has one on demand
    for cloud, head in HEADS.items():
        folder = home / ".sky" / "catalogs" / "v8" / cloud
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "vms.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, head.split(","), extrasaction="ignore", restval="")
            writer.writeheader()
            for row in rows[cloud].values():
                if cloud != "gcp":
                    writer.writerow(row)
                    continue
                # Google's accelerators are rows of their own; ours are in the price of the machine.
                zone = {**row, "AvailabilityZone": f"{row['Region']}-a"}
                if (
                    row["AcceleratorName"] == "TPU"
                ):  # of a slice the accelerator alone has a row, and the price
                    name = f"tpu-{row['InstanceType']}"
                    own = {"AcceleratorName": name, "AcceleratorCount": 1}
                    writer.writerow({**zone, "InstanceType": "", "vCPUs": "", "MemoryGiB": "", **own})
                    continue
                writer.writerow({**zone, "AcceleratorName": "", "AcceleratorCount": ""})
                free = {price: 0 for price in ("Price", "SpotPrice") if price in row}
                writer.writerow({**zone, "InstanceType": "", "vCPUs": "", "MemoryGiB": "", **free})
            if (
                cloud == "gcp"
            ):  # a host of TPUs is looked up first; and an empty column is read as one of numbers
                host = {"Region": "us-central1", "AvailabilityZone": "us-central1-a", "Price": 999}
                writer.writerow({**host, "InstanceType": "n1-highmem-8", "vCPUs": 8, "MemoryGiB": 52})
                writer.writerow({**host, "AcceleratorName": "L4", "AcceleratorCount": 1})
    common = home / ".sky" / "catalogs" / "v8" / "common"
    common.mkdir(exist_ok=True)
    (common / "accelerators.csv").write_text("AcceleratorName,AcceleratorCount\n")


def ask(home: Path, text: str, hours: dict[str, float] | None = None, *, fails: bool = False) -> Any:
    """Return what SkyPilot says of a task, or its error."""
    (home / "task.yml").write_text(text)
    files = ["task.yml"]
    if hours is not None:
        (home / "hours.json").write_text(json.dumps(hours))
        files.append("hours.json")
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("ask_skypilot.py"), *files],
        cwd=home, capture_output=True, text=True, check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
             "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
    )  # fmt: skip
    if fails:
        assert done.returncode != 0, done.stdout
        return done.stderr
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("SAID ")[2])


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainfare.toml").write_text(SETTINGS)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_optimizer_names_our_machine_at_our_price(profile: str, tmp_path: Path) -> None:
    """Of every job of docs/examples, where SkyPilot's clouds have a plan."""
    answer = answer_of(profile, *sorted(SERVICES))
    best = answer.best("cheapest")
    if best is None:
        pytest.skip("no plan on these services")
    try:
        text = export_plan(answer, "skypilot", "cheapest").text
    except InputError as error:
        pytest.skip(str(error))
    write_catalogue(tmp_path, answer.options)
    said = ask(tmp_path, text)
    assert (said["chosen"], said["region"]) == (best.instance_type, best.region)
    assert said["usd_per_hour"] == pytest.approx(best.usd_per_hour, rel=1e-9)
    assert said["nodes"] == best.nodes
    assert json.loads(said["envs"]["TRAINFARE_PREDICTION"])["id"] == best.plan_id
    assert said["labels"] == {"trainfare-prediction": best.plan_id}
    assert said["run"].splitlines()[-1].split()[:3] == ["train.py", "--lr", "1"]


@pytest.mark.parametrize("purchase", [None, "spot"])
def test_with_our_hours_it_names_our_cheapest_and_fastest(purchase: str | None, tmp_path: Path) -> None:
    """Without hours `any_of` takes the lowest price an hour, of whatever run: hence `ordered`, whose first is taken."""
    (tmp_path / "trainfare.toml").write_text(SETTINGS + 'checkpoints = "s3://made-for-a-test/checkpoints"\n')
    answer = answer_of("llama-7b", *sorted(SERVICES), purchase=purchase)
    text = export_plan(answer, "skypilot", "cheapest").text
    write_catalogue(tmp_path, answer.options)
    assert "  ordered:" in text
    names = [line.split('"')[1] for line in text.splitlines() if line.strip().startswith("instance_type")]
    trainer = answer.best("cheapest").trainer  # type: ignore[union-attr]
    listed = {
        option.instance_type: option
        for option in answer.options
        if option.instance_type in names and option.trainer == trainer
    }
    hours = {name: option.run_hours.mid for name, option in listed.items()}
    said = ask(tmp_path, text.replace("ordered:", "any_of:"), hours)
    assert said["cheapest"] == min(listed, key=lambda name: hours[name] * listed[name].usd_per_hour)
    assert said["fastest"] == min(listed, key=lambda name: hours[name])
    assert said["chosen"] == min(listed, key=lambda name: listed[name].usd_per_hour)
    assert ask(tmp_path, text)["chosen"] == names[0] == said["cheapest"]
    head, first, second, *others = text.split("    -\n")
    swapped = "    -\n".join((head, second, first, *others))
    assert ask(tmp_path, swapped)["chosen"] == names[1]


def test_a_spot_task(tmp_path: Path) -> None:
    """It has a recovery strategy and a mounted folder for checkpoints, and our spot price."""
    (tmp_path / "trainfare.toml").write_text(SETTINGS + 'checkpoints = "s3://made-for-a-test/checkpoints"\n')
    answer = answer_of("llama-7b", *sorted(SERVICES))
    spot = answer.best_spot
    assert spot is not None
    text = export_plan(answer, "skypilot", "spot").text
    assert "/checkpoints" in text
    assert "MOUNT_CACHED" in text
    write_catalogue(tmp_path, [spot])
    said = ask(tmp_path, text)
    assert (said["chosen"], said["spot"]) == (spot.instance_type, True)
    assert said["usd_per_hour"] == pytest.approx(spot.usd_per_hour, rel=1e-9)
    assert said["recovery"]["strategy"] == "FAILOVER"
    write_catalogue(tmp_path, [spot.model_copy(update={"purchase_option": "on_demand"})])
    assert "ResourcesUnavailableError" in ask(tmp_path, text, fails=True)


def test_a_slice(tmp_path: Path) -> None:
    """The loader takes a TPU with the software that is named, and its optimizer has our price."""
    answer = answer_of("llama-7b", *sorted(SERVICES))
    tpu = answer.options[0]
    assert (tpu.service, tpu.needs_porting) == ("tpu", True)
    write_catalogue(tmp_path, answer.options)
    said = ask(tmp_path, export_plan(answer, "skypilot", "1", porting=True).text)
    assert (said["chosen"], said["region"]) == ("TPU-VM", tpu.region)
    assert said["accelerators"] == {f"tpu-{tpu.instance_type}": 1}
    assert said["accelerator_args"] == {"runtime_version": "v2-alpha-tpuv5"}
    assert said["usd_per_hour"] == pytest.approx(tpu.usd_per_hour, rel=1e-9)


@pytest.mark.parametrize(("cloud", "machine"), [("lambda", "1x-b200"), ("runpod", "secure-1x-l40s")])
def test_a_quoted_machine(cloud: str, machine: str, tmp_path: Path) -> None:
    """By the type that SkyPilot's catalogue of the cloud has."""
    quote = {"provider": cloud, "service": "gpu_cloud", "region": "global", "instance_type": machine}
    answer = small_answer(**quote, trainer=plan(devices=1), accelerator_count=1.0)
    write_catalogue(tmp_path, [answer.options[0].model_copy(update={"region": "us-east-1"})])
    said = ask(tmp_path, export_plan(answer, "skypilot", "cheapest").text)
    assert said["chosen"] == QUOTED[machine]
    assert said["usd_per_hour"] == pytest.approx(answer.options[0].usd_per_hour, rel=1e-9)


def test_the_names_of_quoted_machines_are_skypilots() -> None:
    """Those that its fetchers make of what Lambda and RunPod list."""
    program = (
        "import json, sys; from unittest.mock import MagicMock;"  # RunPod's own client is not installed
        "sys.modules.update(dict.fromkeys(('runpod', 'runpod.api'), MagicMock())); from sky.catalog.data_fetchers import fetch_lambda_cloud as a, fetch_runpod as b;"
        "print(json.dumps([sorted(a.GPU_TO_MEMORY), sorted(b.DEFAULT_GPU_INFO)]))"
    )
    done = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, check=True)
    of_lambda, of_runpod = json.loads(done.stdout)
    for machine, name in NAMES.items():
        if machine.startswith("lambda:"):
            assert name.split("_")[2].upper() in of_lambda
        elif machine.startswith("runpod:"):
            assert name.split("_")[1] in of_runpod


def test_several_machines(tmp_path: Path) -> None:
    """They are given the best network."""
    answer = small_answer(trainer=plan(num_nodes=2), instance_type="p4d.24xlarge")
    write_catalogue(tmp_path, answer.options)
    said = ask(tmp_path, export_plan(answer, "skypilot", "cheapest").text)
    assert (said["nodes"], said["tier"]) == (2, "NetworkTier.BEST")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("p4de.24xlarge", "p9.xx", "p9.xx"),
        ("us-east-1", "us-moon-1", "us-moon-1"),
        ("num_nodes: 1", "num_nodes: 0", "num_nodes"),
        ("  labels:", "  lables:", "lables"),
    ],
)
def test_a_damaged_task_is_noticed(old: str, new: str, said: str, tmp_path: Path) -> None:
    """The check is one that fails."""
    answer = answer_of("llama-7b", *sorted(SERVICES))
    write_catalogue(tmp_path, answer.options)
    text = export_plan(answer, "skypilot", "cheapest").text
    assert old in text
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert said in ask(tmp_path, body.replace(old, new), fails=True)
