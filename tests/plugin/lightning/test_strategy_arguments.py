"""Every argument of a strategy changes the profile or is named as not counted; its own words and Lightning's agree."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel, MixedPrecision, ShardingStrategy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from builders.lightning_modules import NAMESPACES, Clock, MeterHarness, Rows, Tiny, loader, quiet, trainer
from builders.process_groups import end_process_group
from trainfare.fake_step import trace_job
from trainfare.job import LiveJob
from trainfare.job.fit_call import Recorder
from trainfare.lightning.run_facts import read_run
from trainfare.lightning.script.interception import intercept_trainers
from trainfare.lightning.script.live_fit import live_job
from trainfare.lightning.strategy_arguments import ARGUMENTS, checkpoint_modules
from trainfare_core.job_profile import JobProfile

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:`FSDPStrategy.activation_checkpointing=")]

WRAPPERS = {"DDPStrategy": DistributedDataParallel, "FSDPStrategy": FullyShardedDataParallel}
"""What takes the arguments of a strategy that it does not name."""
Make = Callable[[Any], Any]
HOST = "(less memory of the device, a longer step)"
GATHERED = "(weights stay gathered between forward and backward)"


class Block(nn.Module):
    """A layer whose activations are worth more than its input."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.drop = nn.Linear(8, 32), nn.Linear(32, 8), nn.Dropout(0.1)

    def forward(self, rows: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        hidden: torch.Tensor = self.narrow(self.drop(torch.relu(self.wide(rows)))) * scale
        return hidden


def module(namespace: str, *, by_hand: bool = False, blocks: int = 3, reads: bool = False) -> Any:
    """Return a module that makes its layers in `configure_model`, and may checkpoint them itself."""
    pl = importlib.import_module(namespace)

    class Net(pl.LightningModule):
        def configure_model(self) -> None:
            self.blocks = nn.ModuleList(Block() for _ in range(blocks))

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            for block in self.blocks:
                batch = (
                    checkpoint(block, batch, use_reentrant=False, scale=2.0)
                    if by_hand
                    else block(batch, scale=2.0)
                )
            loss = batch.square().mean()
            return loss * 2 if reads and float(loss) > 1e9 else loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.trainer.model.parameters())

    return Net()


def job_of(strategy: str | Make, net: Any = None, namespace: str = "lightning.pytorch") -> LiveJob:
    """Return the job of a script on 2 x 2 GPUs with a strategy."""
    jobs: list[LiveJob] = []
    with intercept_trainers(Recorder(lambda call: jobs.append(live_job(call, ())))):
        pl = importlib.import_module(namespace)
        made = strategy if isinstance(strategy, str) else strategy(pl.strategies)
        fit = pl.Trainer(accelerator="gpu", devices=2, num_nodes=2, strategy=made, max_epochs=1)
        fit.fit(net or module(namespace), DataLoader(Rows(64), 4))
    return jobs[0]


def work(profile: JobProfile) -> tuple[object, ...]:
    return profile.operations, profile.memory, profile.parameters, profile.modules


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    "name", ["DDPStrategy", "FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"]
)
def test_something_becomes_of_every_argument(name: str, namespace: str) -> None:
    """An argument of a later version of Lightning or torch has no row yet."""
    functions = [getattr(importlib.import_module(f"{namespace}.strategies"), name)]
    functions += [WRAPPERS[name]] if name in WRAPPERS else []
    taken = {
        argument
        for function in functions
        for argument, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    listed = [argument for row in ARGUMENTS if row.strategy == name for argument in row.names.split()]
    assert len(listed) == len(set(listed))
    assert taken - {"module"} <= set(listed)
    assert {row.fate for row in ARGUMENTS} == {"read", "not counted", "no cost"}


def test_the_page_shows_the_same_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "scripts.md").read_text(encoding="utf-8")
    for row in ARGUMENTS:
        names = ", ".join(f"`{name}`" for name in row.names.split())
        assert f"| `{row.strategy}` | {names} | {row.fate} | {row.effect} |" in page


@pytest.mark.parametrize(
    ("make", "word", "note"),
    [
        (lambda s: s.DDPStrategy(), "ddp", ""),
        (lambda s: s.DDPStrategy(start_method="spawn", find_unused_parameters=False), "ddp_find_unused_parameters_false", ""),
        (
            lambda s: s.DDPStrategy(find_unused_parameters=True, gradient_as_bucket_view=True, ddp_comm_hook=print),
            "ddp_find_unused_parameters_true",
            ("not counted of DDPStrategy: find_unused_parameters (the search of the graph in each step); "
            "gradient_as_bucket_view (one copy of the gradients less); "
            "ddp_comm_hook (an exchange of other gradients, or of fewer)"),
        ),
        (lambda s: s.DDPStrategy(process_group_backend="gloo"), "ddp", "not counted of DDPStrategy: process_group_backend (devices exchange by NCCL)"),
        (lambda s: s.FSDPStrategy(), "fsdp", ""),
        (lambda s: s.FSDPStrategy(cpu_offload=True), "fsdp_cpu_offload", f"not counted of FSDPStrategy: cpu_offload {HOST}"),
        (lambda s: s.FSDPStrategy(cpu_offload=CPUOffload()), "fsdp", ""),
        (lambda s: s.FSDPStrategy(sharding_strategy="NO_SHARD", state_dict_type="sharded"), "ddp", ""),
        (lambda s: s.FSDPStrategy(sharding_strategy=ShardingStrategy.SHARD_GRAD_OP), "fsdp", f"not counted of FSDPStrategy: SHARD_GRAD_OP {GATHERED}"),
        (
            lambda s: s.FSDPStrategy(sharding_strategy="_HYBRID_SHARD_ZERO2", device_mesh=(2, 2)),
            "FSDPStrategy(sharding_strategy='HYBRID_SHARD')",
            ("not counted of FSDPStrategy: device_mesh (devices share by NCCL, all or those of a machine); "
            f"_HYBRID_SHARD_ZERO2 {GATHERED}"),
        ),
        (
            lambda s: s.FSDPStrategy(
                auto_wrap_policy={Block}, sharding_strategy="hybrid_shard", mixed_precision=MixedPrecision(), use_orig_params=False,
                limit_all_gathers=False,
            ),
            "FSDPStrategy(sharding_strategy='HYBRID_SHARD')",
            ("not counted of FSDPStrategy: auto_wrap_policy, use_orig_params (each repeated block is taken as a unit); "
            "mixed_precision (types beside those of the precision); "
            "limit_all_gathers (two units are gathered at a time)"),
        ),
        (lambda s: s.DeepSpeedStrategy(), "deepspeed_stage_2", ""),
        (lambda s: s.DeepSpeedStrategy(zero_optimization=False), "ddp", ""),
        (
            lambda s: s.DeepSpeedStrategy(
                stage=3, offload_optimizer=True, offload_parameters=True, partition_activations=True, cpu_checkpointing=True,
                reduce_bucket_size=5, hysteresis=3,
            ),
            "deepspeed_stage_3_offload",
            (f"not counted of DeepSpeedStrategy: offload_optimizer, offload_parameters {HOST}; partition_activations, "
            "cpu_checkpointing (they matter where the module calls DeepSpeed's checkpointing); "
            "reduce_bucket_size (buckets are DeepSpeed's usual ones)"),
        ),
        (lambda s: s.DeepSpeedStrategy(stage=2, offload_parameters=True), "deepspeed_stage_2", f"not counted of DeepSpeedStrategy: offload_parameters {HOST}"),
    ],
)  # fmt: skip
def test_words_and_notes_of_objects(
    make: Make, word: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one whose package is not installed here."""
    monkeypatch.chdir(tmp_path)
    job = job_of(make)
    notes = [text for text in job.live.notes if "not counted" in text]
    assert (job.strategy, notes) == (word, [note] if note else [])


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("word", "make"),
    [
        ("ddp", lambda s: s.DDPStrategy()),
        ("ddp_find_unused_parameters_true", lambda s: s.DDPStrategy(find_unused_parameters=True)),
        ("fsdp_cpu_offload", lambda s: s.FSDPStrategy(cpu_offload=True)),
        ("deepspeed_stage_2_offload", lambda s: s.DeepSpeedStrategy(offload_optimizer=True)),
        ("deepspeed_stage_3_offload", lambda s: s.DeepSpeedStrategy(stage=3, offload_optimizer=True, offload_parameters=True)),
        (
            "deepspeed_stage_3_offload_nvme",
            lambda s: s.DeepSpeedStrategy(
                stage=3, offload_optimizer=True, offload_parameters=True, remote_device="nvme", offload_params_device="nvme",
                offload_optimizer_device="nvme",
            ),
        ),
    ],
)  # fmt: skip
def test_a_name_and_its_object_give_the_same(
    word: str, make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named, made = (job_of(strategy, namespace=namespace) for strategy in (word, make))
    assert named.strategy == made.strategy == word
    assert named.live.notes == made.live.notes
    assert any("not counted" in note for note in named.live.notes) == (word != "ddp")


@pytest.mark.parametrize("form", ["dict", "file", "variable"])
def test_a_configuration_of_deepspeed_replaces_the_arguments(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a dict, the path of a file, or a file that the environment names."""
    monkeypatch.chdir(tmp_path)
    config = {
        "bf16": {"enabled": True}, "optimizer": {"type": "Adam"},
        "activation_checkpointing": {"cpu_checkpointing": True},
        "zero_optimization": {
            "stage": 3, "reduce_bucket_size": 7, "stage3_max_live_parameters": 9,
            "offload_optimizer": {"device": "nvme", "buffer_count": 9}, "offload_param": {"device": "none"},
        },
    }  # fmt: skip
    Path("config.json").write_text(json.dumps(config))
    if form == "variable":
        monkeypatch.setenv("PL_DEEPSPEED_CONFIG_PATH", "config.json")
    given = {"dict": {"config": config}, "file": {"config": Path("config.json")}, "variable": {}}[form]
    job = job_of(lambda s: s.DeepSpeedStrategy(stage=1, **given))
    assert job.strategy == "deepspeed_stage_3_offload_nvme"
    (note,) = [note for note in job.live.notes if "not counted" in note]
    assert note == (
        f"not counted of DeepSpeedStrategy: offload_optimizer, offload_optimizer_device {HOST}; optimizer_buffer_count "
        "(how it is offloaded); cpu_checkpointing (they matter where the module calls DeepSpeed's checkpointing); "
        "reduce_bucket_size (buckets are DeepSpeed's usual ones); optimizer, stage3_max_live_parameters (of its config)"
    )
    assert job_of(lambda s: s.DeepSpeedStrategy(config={"bf16": {}})).strategy == "ddp"


@pytest.mark.parametrize(
    ("make", "chosen"),
    [
        (lambda s: s.FSDPStrategy(activation_checkpointing_policy={Block}), "3 modules (Block)"),
        (lambda s: s.FSDPStrategy(activation_checkpointing=[Block]), "3 modules (Block)"),
        (
            lambda s: s.FSDPStrategy(
                activation_checkpointing_policy=lambda module, recurse, nonwrapped_numel: (
                    recurse or isinstance(module, Block)
                )
            ),
            "3 modules (Block)",
        ),
    ],
)
@pytest.mark.parametrize("how", ["fake", "real"])
def test_activations_are_those_of_checkpointing_by_hand(
    make: Make, chosen: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLOPs, bytes, saved activations, memory and names of modules: as the same layers checkpointed in the step."""
    monkeypatch.chdir(tmp_path)
    reads = how == "real"
    policy, by_hand, plain = (
        trace_job(job_of(strategy, module("lightning.pytorch", by_hand=strategy == "fsdp", reads=reads)))
        for strategy in (make, "fsdp", lambda s: s.FSDPStrategy())
    )
    assert policy.source.how == by_hand.source.how == how
    assert work(policy) == work(by_hand)
    flops, plain_flops = (sum(group.flops for group in profile.operations) for profile in (policy, plain))
    # The wide product of three blocks of 4 rows; torch stops before the narrow one, whose result nothing needs.
    assert flops - plain_flops == 3 * (2 * 4 * 8 * 32)
    assert policy.memory.saved_activation_bytes < plain.memory.saved_activation_bytes
    note = f"activation checkpointing of FSDPStrategy: {chosen} are computed again in the backward pass"
    assert any(note in text for text in policy.notes)


def test_equal_blocks_are_followed_with_checkpointing_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of many blocks is traced by a few of them."""
    monkeypatch.chdir(tmp_path)

    def make(strategies: Any) -> Any:
        return strategies.FSDPStrategy(activation_checkpointing_policy={Block})

    policy, by_hand = (
        trace_job(job_of(strategy, module("lightning.pytorch", by_hand=strategy == "fsdp", blocks=24)))
        for strategy in (make, "fsdp")
    )
    assert work(policy) == work(by_hand)
    assert {facts.module for facts in policy.modules} >= {"blocks.*.wide"}
    assert policy.memory.blocks is not None
    assert policy.memory.blocks.classes == ("Block",)


def test_the_wrappers_that_lightning_makes_count_the_same() -> None:
    """FLOPs and gradients of a real step, with those wrappers and with ours."""
    setup: Any = importlib.import_module("lightning.fabric.strategies.fsdp")
    policy = setup._activation_checkpointing_kwargs(None, {Block})
    counts: list[int] = []
    gradients: list[list[torch.Tensor]] = []
    for prepare in (setup._setup_activation_checkpointing, checkpoint_modules, lambda *_: None):
        torch.manual_seed(0)
        net = nn.Sequential(*[Block() for _ in range(3)])
        prepare(net, policy)
        with FlopCounterMode(display=False) as counter:
            net(torch.ones(4, 8)).square().mean().backward()
        counts.append(counter.get_total_flops())
        gradients.append([parameter.grad for parameter in net.parameters() if parameter.grad is not None])
    assert counts[0] == counts[1] > counts[2]
    assert all(map(torch.equal, gradients[0], gradients[1]))
    assert len(gradients[0]) == len(gradients[1]) == 12


def test_a_module_that_checkpoints_itself_stays_as_it_is() -> None:
    """As Lightning does; and a second trace of the same module derives no class anew."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    wrapped = nn.Sequential(checkpoint_wrapper(Block()), Block())
    (note,) = checkpoint_modules(wrapped, {"check_fn": lambda member: isinstance(member, Block)})
    assert "0 modules (none)" in note
    assert type(wrapped[1]) is Block
    plain = nn.Sequential(Block(), Block())
    for _ in range(2):
        checkpoint_modules(plain, {"check_fn": lambda member: isinstance(member, Block)})
        assert [type(member).__mro__[1] for member in plain] == [Block, Block]
    assert repr(plain) == repr(nn.Sequential(Block(), Block()))


def test_a_metered_run_says_the_same(tmp_path: Path) -> None:
    """One process of DDP, whose strategy Lightning has set up."""
    clock = Clock()
    strategy = DDPStrategy(find_unused_parameters=True, gradient_as_bucket_view=True)
    meter = MeterHarness(clock, rank_times_limit_s=0.0).meter(tmp_path)
    try:
        fit = trainer(tmp_path, meter, strategy=strategy, devices=1, logger=False, max_steps=32)
        fit.fit(Tiny(clock), loader(160))
    finally:
        end_process_group()
    profile = JobProfile.from_json((tmp_path / "trainfare-profile.json").read_text(encoding="utf-8"))
    assert profile.parallel.strategy == "ddp_find_unused_parameters_true"
    (note,) = (text for text in profile.notes if "not counted" in text)
    assert note == (
        "not counted of DDPStrategy: find_unused_parameters (the search of the graph in each step); "
        "gradient_as_bucket_view (one copy of the gradients less)"
    )


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_live_trainer_gives_the_same_words_and_notes(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning itself keeps a backend once it has started; that one is not an argument."""
    monkeypatch.chdir(tmp_path)
    pl = importlib.import_module(namespace)
    strategy = pl.strategies.DDPStrategy(find_unused_parameters=True, static_graph=True)
    strategy.parallel_devices = [torch.device("cpu")]
    strategy._process_group_backend = "gloo"
    facts = read_run(
        SimpleNamespace(
            strategy=strategy, world_size=1, num_devices=1, num_nodes=1, accumulate_grad_batches=1,
            precision="32-true", fit_loop=None,
        ),
        nn.Linear(1, 1),
    )  # fmt: skip
    before = job_of(
        lambda s: s.DDPStrategy(find_unused_parameters=True, static_graph=True), namespace=namespace
    )
    assert facts.parallel.strategy == before.strategy == "ddp_find_unused_parameters_true"
    assert facts.notes == tuple(note for note in before.live.notes if "not counted" in note)
    assert len(facts.notes) == 1
