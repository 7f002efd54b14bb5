"""
Plans of scripts, exported and started with gloo: they train with the devices, the batch and the steps that were priced.

Each of nine scripts by each target; the one pair that a target refuses is last.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import huggingface, lightning_modules
from builders.scripts import load_script
from builders.warm_process import LAUNCHED, warm_python
from trainfare import recommend
from trainfare.export import export_plan
from trainfare.export.plan import find_option
from trainfare.fake_step import trace_job
from trainfare_core.errors import InputError
from trainfare_core.recommendation import PREDICTION_VARIABLE, Launch, Option, Recommendation

pytestmark = [pytest.mark.own_start, *lightning_modules.quiet, *huggingface.quiet]

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
SEEN = "CUDA_VISIBLE_DEVICES"
HEAD = f"""
import json, os, pathlib, torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
torch.set_num_threads(1)
STARTED = "{PREDICTION_VARIABLE}" in os.environ
def visible():  # a CPU stands for the machine's accelerators, of which a process sees those that are not hidden
    shown = os.environ.get("{SEEN}")
    return len(shown.split(",")) if shown else int(os.environ["ON_MACHINE"])
def write(rank, world, batch, steps):
    if STARTED:
        pathlib.Path(f"rank-{{rank}}.json").write_text(json.dumps([world, batch, steps]))
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
            os._exit(0)  # an interpreter that ends under gloo's threads is now and then aborted by them
data = TensorDataset(torch.ones(96, 8), torch.zeros(96, dtype=torch.long))
"""
LIGHTNING = """
from lightning import pytorch as pl
if STARTED:
    pl.accelerators.CPUAccelerator.auto_device_count = staticmethod(visible)
class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), {layer}, nn.Linear(8, 4))
    def training_step(self, batch, index):
        self.size = len(batch[0])
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
trainer = pl.Trainer(
    {options}, accelerator="cpu" if STARTED else "auto", max_epochs=2, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False)
net = Net()
trainer.fit(net, DataLoader(data, 8))
write(trainer.global_rank, trainer.world_size, net.size, trainer.global_step)
"""
HUGGING_FACE = """
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
model = BertForSequenceClassification(BertConfig(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=10))
rows = [{"input_ids": torch.zeros(4, dtype=torch.long), "labels": torch.tensor(0)}] * 96
arguments = TrainingArguments(
    "out", per_device_train_batch_size=8, num_train_epochs=2, report_to="none", use_cpu=True, save_strategy="no")
trainer = Trainer(model, arguments, train_dataset=rows)
trainer.train()
write(arguments.process_index, arguments.world_size, trainer._train_batch_size, trainer.state.global_step)
"""
LOOP = """
model = nn.Linear(8, 4)
SET_UP
steps = 0
for epoch in range(2):
    for features, classes in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(features), classes)
        BACKWARD
        optimizer.step()
        steps += 1
write(RANK, WORLD, len(features), steps)
"""
OPTIMIZER = "optimizer, loader = torch.optim.SGD(model.parameters(), lr=0.1), DataLoader(data, 8)\n"


def write_loop(set_up: str, backward: str, rank: str, world: str) -> str:
    return (
        LOOP.replace("SET_UP", set_up)
        .replace("BACKWARD", backward)
        .replace("RANK", rank)
        .replace("WORLD", world)
    )


ACCELERATE = write_loop(
    OPTIMIZER
    + "from accelerate import Accelerator\naccelerator = Accelerator(cpu=STARTED)\n"
    + "model, optimizer, loader = accelerator.prepare(model, optimizer, loader)",
    "accelerator.backward(loss)", "accelerator.process_index", "accelerator.num_processes",
)  # fmt: skip
FABRIC = write_loop(
    OPTIMIZER
    + "from lightning import fabric as lf\nif STARTED:\n    lf.accelerators.CPUAccelerator.auto_device_count = staticmethod(visible)\n"
    + "fabric = lf.Fabric(accelerator='cpu' if STARTED else 'auto', devices='auto')\nfabric.launch()\n"
    + "model, optimizer = fabric.setup(model, optimizer)\nloader = fabric.setup_dataloaders(loader)",
    "fabric.backward(loss)", "fabric.global_rank", "fabric.world_size",
)  # fmt: skip
PLAIN = write_loop(
    "import torch.distributed as dist\ndist.init_process_group('gloo')\n"
    "model = nn.parallel.DistributedDataParallel(model)\n"
    "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    "loader = DataLoader(data, 8, sampler=DistributedSampler(data))",
    "loss.backward()", "dist.get_rank()", "dist.get_world_size()",
)  # fmt: skip


def write_lightning(options: str, layer: str = "nn.ReLU()") -> str:
    return LIGHTNING.replace("{layer}", layer).replace("{options}", options)


@dataclass(frozen=True)
class Case:
    """
    A script, what is asked for it, and the machines of its plan with the devices of each that it uses; None: all.

    ALL in the script stands for those of the machine.
    """

    text: str
    devices: int | None = None
    nodes: int = 1
    asked: tuple[tuple[str, Any], ...] = ()
    plan: str = "cheapest"


CASES = {
    "auto": Case(write_lightning("devices='auto'")),
    "auto, fewer": Case(write_lightning("devices='auto'", "nn.BatchNorm1d(8)"), 1, asked=(("scale", "batch"),)),
    "fixed": Case(write_lightning("devices=ALL, strategy='ddp'")),
    "fixed, fewer": Case(write_lightning("devices=1", "nn.BatchNorm1d(8)"), 1),
    "two machines": Case(write_lightning("devices=1, num_nodes=2, strategy='ddp'"), 1, 2, plan="own"),
    "two machines of eight": Case(
        write_lightning("devices=8, num_nodes=2, strategy='ddp'").replace("DataLoader(data, 8)", "DataLoader(data, 6)"),
        8, 2, plan="own",
    ),
    "hugging face": Case(HUGGING_FACE),
    "accelerate": Case(ACCELERATE),
    "fabric": Case(FABRIC),
    "plain": Case(PLAIN),
}  # fmt: skip
MACHINES = {
    "torchrun": ("gce", "g2-standard-24", 2),
    "skypilot": ("gce", "g2-standard-24", 2),
    "azureml": ("azure_ml", "Standard_NC48ads_A100_v4", 2),
    "sagemaker": ("sagemaker", "ml.g6.12xlarge", 4),
}
SINGLE = {
    "torchrun": ("gce", "g2-standard-8", 1),
    "skypilot": ("gce", "g2-standard-8", 1),
    "azureml": ("azure_ml", "Standard_NC4as_T4_v3", 1),
    "sagemaker": ("sagemaker", "ml.g6.xlarge", 1),
}
"""Machines of one accelerator, of which a plan takes two."""
RDMA = ("azure_ml", "Standard_ND96asr_v4", 8)
REFUSED = {
    ("azureml", "two machines"): "Standard_NC4as_T4_v3 has no RDMA network, which 2 machines were priced with"
}
"""Azure ML's sizes with such a network have eight accelerators each, and are started with all of them."""
STARTED = [
    (target, name)
    for target in MACHINES
    for name in CASES
    if (target, name) not in REFUSED and (target == "azureml" or name != "two machines of eight")
]


def answer_of(case: Case, machine: tuple[str, str, int]) -> tuple[Recommendation, Option]:
    """Return what is said of a script before launch, and the plan that is started."""
    answer = recommend(
        trace_job(load_script(HEAD + case.text.replace("ALL", str(machine[2])))), services=machine[0], instance_types=machine[1], now=NOW,
        purchase="on_demand", max_nodes=case.nodes, **dict(case.asked),
    ).model_copy(update={"launch": Launch(command="train.py")}).identify_plans()  # fmt: skip
    plan = find_option(answer, case.plan)
    assert plan is not None, answer.unknown_because
    return answer, plan


def write_programs(folder: Path, python: str) -> None:
    folder.mkdir()
    for name, words in (("python", python), ("torchrun", f"{python} -m torch.distributed.run")):
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)


def find_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def list_torchrun(text: str, nodes: int) -> list[tuple[list[str], dict[str, str]]]:
    return [
        (["sh", "-c", text], {"NODE_RANK": str(node), "MASTER_ADDR": "127.0.0.1"}) for node in range(nodes)
    ]


def list_skypilot(text: str, nodes: int) -> list[tuple[list[str], dict[str, str]]]:
    """By https://docs.skypilot.co/en/latest/running-jobs/environment-variables.html."""
    task = yaml.safe_load(text)
    assert task["num_nodes"] == nodes
    where = {"SKYPILOT_NODE_IPS": "\n".join(["127.0.0.1"] * nodes)}
    return [
        (["bash", "-c", task["run"]], {**task["envs"], **where, "SKYPILOT_NODE_RANK": str(node)})
        for node in range(nodes)
    ]


def list_sagemaker(text: str, nodes: int) -> list[tuple[list[str], dict[str, str]]]:
    """By docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html."""
    request = json.loads(text)
    assert request["ResourceConfig"]["InstanceCount"] == nodes
    algorithm = request["AlgorithmSpecification"]
    words = [*algorithm["ContainerEntrypoint"], *algorithm["ContainerArguments"]]
    here = [word.replace("/opt/ml/input/data/code", str(Path.cwd())) for word in words]
    hosts = [f"127.0.0.{number}" for number in range(1, nodes + 1)]
    started: list[tuple[list[str], dict[str, str]]] = []
    for host in hosts:
        where = Path(f"resourceconfig-{host}.json").absolute()
        where.write_text(json.dumps({"hosts": hosts, "current_host": host, "network_interface_name": "lo"}))
        variables = {
            name: value.replace("/opt/ml/input/config/resourceconfig.json", str(where))
            for name, value in request["Environment"].items()
        }
        started.append((here, variables))
    return started


def list_azureml(text: str, nodes: int) -> list[tuple[list[str], dict[str, str]]]:
    """A process a device, with variables of learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu."""
    job = yaml.safe_load(text)
    each = job.get("distribution", {}).get("process_count_per_instance", 1)
    command = job["command"].replace("${{outputs.checkpoints}}", "checkpoints")
    assert job["resources"]["instance_count"] == nodes
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": find_port(), "WORLD_SIZE": str(each * nodes)}
    return [
        (
            ["bash", "-c", command],
            {
                **job["environment_variables"],
                # A job of one process has no launcher.
                **({**where, **number_rank(rank, each)} if each * nodes > 1 else {}),
            },
        )
        for rank in range(each * nodes)
    ]


def number_rank(rank: int, each: int) -> dict[str, str]:
    return {"RANK": str(rank), "NODE_RANK": str(rank // each), "LOCAL_RANK": str(rank % each)}


COMMANDS: dict[str, Callable[[str, int], list[tuple[list[str], dict[str, str]]]]] = {
    "torchrun": list_torchrun, "skypilot": list_skypilot, "sagemaker": list_sagemaker, "azureml": list_azureml,
}  # fmt: skip


@pytest.mark.parametrize(("target", "name"), STARTED)
def test_a_started_plan_is_what_was_priced(
    target: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ("hugging face", "accelerate"):
        pytest.importorskip({"hugging face": "transformers"}.get(name, name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SEEN, raising=False)
    case = CASES[name]
    machine = RDMA if case.devices == 8 else (SINGLE if case.nodes > 1 else MACHINES)[target]
    answer, plan = answer_of(case, machine)
    assert plan.trainer is not None
    world = (case.devices or machine[2]) * case.nodes
    assert (plan.trainer.devices * plan.nodes, plan.nodes) == (world, case.nodes)
    text = export_plan(answer, target, case.plan).text
    assert (SEEN in text) == (plan.trainer.devices < machine[2])
    write_programs(tmp_path / "bin", warm_python(LAUNCHED))
    common = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "ON_MACHINE": str(machine[2]),
    }
    processes = [
        subprocess.Popen(
            words, env={**common, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for words, variables in COMMANDS[target](text.replace("29500", find_port()), case.nodes)
    ]
    texts = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(texts)
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("rank-*.json")}
    batch = plan.trainer.batch_size
    assert found == {f"rank-{rank}.json": [world, batch, plan.optimizer_steps] for rank in range(world)}
    assert batch is not None
    assert plan.global_batch_size == world * batch * plan.trainer.accumulate_grad_batches


@pytest.mark.parametrize(("target", "name"), REFUSED)
def test_a_plan_that_a_target_cannot_start_is_not_exported(
    target: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer, _ = answer_of(CASES[name], SINGLE[target])
    with pytest.raises(InputError, match=REFUSED[target, name]):
        export_plan(answer, target, "own")
