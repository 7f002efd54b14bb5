"""A call of `Trainer.fit` becomes a job: nothing starts, and every number is the live Trainer's."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import distributed
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from builders.lightning_modules import NAMESPACES, Rows, Stream, quiet
from builders.process_groups import end_process_group
from trainfare.fake_step import trace_job
from trainfare.job import LiveJob
from trainfare.job.fit_call import FitCall, Recorder
from trainfare.job.run_plan import LoopLength
from trainfare.lightning.run_length import read_trainer
from trainfare.lightning.script.interception import intercept_trainers
from trainfare.lightning.script.live_fit import live_job
from trainfare.script.one_process import run_as_one_process
from trainfare.script.run import run_callable
from trainfare_core.errors import TargetError

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:`max_epochs` was not set")]


def net(namespace: str) -> Any:
    """Return a module of a namespace that reads its Trainer in every hook before the first step."""
    pl = importlib.import_module(namespace)

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"width": 2})
            self.layer = torch.nn.Linear(8, 2)
            self.setups = 0

        def setup(self, stage: str) -> None:
            self.setups += 1
            self.logger.log_hyperparams({"setup": self.trainer.world_size})

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch).mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise AssertionError("validation ran")

        def configure_optimizers(self) -> Any:
            self.total = self.trainer.estimated_stepping_batches
            return torch.optim.AdamW(self.parameters())

    return Net()


def loader(rows: int = 64) -> DataLoader[Any]:
    return DataLoader(Rows(rows), batch_size=4, num_workers=2)


@contextlib.contextmanager
def replace_all(recorder: Recorder) -> Iterator[None]:
    """Replace what a script with Lightning has replaced before launch."""
    with run_as_one_process(recorder), intercept_trainers(recorder):
        yield


def job_of(
    namespace: str, *, fit: dict[str, Any] | None = None, module: Any = None, **arguments: Any
) -> LiveJob:
    """Return the job of one call of `fit` in this process."""
    jobs: list[LiveJob] = []
    recorder = Recorder(lambda call: jobs.append(live_job(call, ())))
    with replace_all(recorder):
        trainer = importlib.import_module(namespace).Trainer(**arguments)
        trainer.fit(
            module or net(namespace),
            **(fit or {"train_dataloaders": loader(), "val_dataloaders": loader(20)}),
        )
    return jobs[0]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_nothing_is_started_or_written(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loggers, checkpoints, profilers, the saved config and other loops; the module itself is set up once."""
    monkeypatch.chdir(tmp_path)
    pl = importlib.import_module(namespace)
    loggers, callbacks = (importlib.import_module(f"{namespace}.{name}") for name in ("loggers", "callbacks"))
    profilers, tuning = (importlib.import_module(f"{namespace}.{name}") for name in ("profilers", "tuner"))

    class OwnLogger(loggers.Logger):
        name = version = "own"

        def log_metrics(self, *_: object, **__: object) -> None:
            raise AssertionError("logged")

        def log_hyperparams(self, *_: object, **__: object) -> None:
            raise AssertionError("logged")

    jobs: list[LiveJob] = []

    def take_second(call: FitCall) -> None:
        if len(recorder.places) == 2:
            jobs.append(live_job(call, ()))

    recorder = Recorder(take_second)
    with replace_all(recorder):
        wandb = loggers.WandbLogger(project="p", save_dir="logs")
        made = [
            wandb, loggers.TensorBoardLogger("logs", name="tb"), loggers.CSVLogger("logs"), OwnLogger(),
            loggers.MLFlowLogger(tracking_uri="http://127.0.0.1:9"),
        ]  # fmt: skip
        wandb.watch(None)
        wandb.experiment.config.update({"a": 1})
        assert isinstance(wandb, loggers.WandbLogger)
        assert [made[1].name, made[1].save_dir, made[1].log_dir] == ["tb", "logs", "logs/tb/version_0"]
        trainer = pl.Trainer(
            logger=made,
            callbacks=[
                callbacks.ModelCheckpoint("checkpoints", every_n_train_steps=7),
                callbacks.LearningRateFinder(),
            ],
            profiler=profilers.PyTorchProfiler(dirpath="profile"),
            default_root_dir="root",
            max_epochs=2,
        )
        module = net(namespace)
        (metrics,), two = trainer.validate(module, loader()), trainer.test(module, [loader(), loader()])
        assert math.isnan(metrics["any"])
        assert [math.isnan(metrics["test/0"]) for metrics in two] == [True, True]
        assert torch.cat(trainer.predict(module, loader())).isnan().all()
        tuner = tuning.Tuner(trainer)
        assert tuner.lr_find(module, loader()).suggestion() == 1e-3
        module.batch_size = 32
        assert tuner.scale_batch_size(module, loader()) == 32
        trainer.save_checkpoint("last.ckpt")
        trainer.fit(module, loader())
        assert (jobs, trainer.global_step, module.setups) == ([], 0, 0)
        assert math.isnan(trainer.callback_metrics["val_loss"].item())
        assert (trainer.callback_metrics.get("acc", 3), list(trainer.logged_metrics)) == (3, [])
        assert math.isnan(trainer.checkpoint_callback.best_model_score.item())
        best = trainer.checkpoint_callback.best_model_path
        assert (
            type(module).load_from_checkpoint(best, map_location="cpu") is trainer.lightning_module is module
        )
        with pytest.raises(FileNotFoundError):
            type(module).load_from_checkpoint(best, width=9)
        trainer.fit(module, loader(), loader(20))
    assert list(tmp_path.iterdir()) == []
    assert module.setups == 1
    assert jobs[0].live.facts.checkpoints[0].every_n_steps == 7
    assert [text.partition(" at ")[0] for text in recorder.skipped][:-1] == [
        "Trainer.validate", "Trainer.test", "Trainer.predict", "Tuner.lr_find", "Tuner.scale_batch_size",
        "save_checkpoint", "Trainer.fit", "Trainer.callback_metrics['val_loss']", "load_from_checkpoint",
    ]  # fmt: skip
    assert len(recorder.places) == 2
    assert all("test_live_fit.py:" in text for text in recorder.places)
    profile = trace_job(jobs[0])
    assert (profile.plan.optimizer_steps, profile.plan.validation_batches, module.setups) == (32, 10, 1)
    assert not hasattr(loggers.CSVLogger("logs"), "trainfare_texts")


class Stop(Exception):
    """Ends a real run before its first step."""


def facts_of_a_run(namespace: str, fit: dict[str, Any], arguments: dict[str, Any]) -> LoopLength:
    """Return what FareMeter would read in a real run."""
    pl = importlib.import_module(namespace)

    class Reader(pl.Callback):
        facts: LoopLength

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.facts = read_trainer(trainer)
            raise Stop

    reader = Reader()
    module = net(namespace)
    module.validation_step = type(module).validation_step.__get__(module)
    callbacks = [reader, *arguments.pop("callbacks", [])]
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, num_sanity_val_steps=0, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks, **arguments,
    )  # fmt: skip
    module._log_hyperparams = False
    type(module).setup = lambda self, stage: None
    with pytest.raises(Stop):
        trainer.fit(module, **fit)
    return reader.facts


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_epochs": 3, "val_check_interval": 0.25, "accumulate_grad_batches": 3},
        {"max_steps": 21, "val_check_interval": 7, "check_val_every_n_epoch": None},
        {
            "limit_train_batches": 0.5,
            "limit_val_batches": 2,
            "check_val_every_n_epoch": 2,
            "max_time": "00:00:10:00",
        },
        {"overfit_batches": 3, "max_epochs": 4, "enable_checkpointing": False},
        {"fast_dev_run": 2},
        {},
    ],
)
def test_numbers_are_those_of_the_run_itself(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings read without a run are equal to those that a real run has in `on_train_start`."""
    monkeypatch.chdir(tmp_path)
    fit = {
        "train_dataloaders": DataLoader(Rows(66), batch_size=4),
        "val_dataloaders": DataLoader(Rows(9), batch_size=4),
    }
    job = job_of("pytorch_lightning", fit=fit, **arguments)
    run = facts_of_a_run("pytorch_lightning", fit, dict(arguments))
    # A real run sets up validation later where the first epoch has none.
    later = (
        "max_time_s",
        "early_end",
        "no_length",
        "scales",
        "samples_per_epoch",
        *(("validation_batches",) if run.validation_batches is None else ()),
    )
    got = {name: getattr(job.live.facts, name) for name in LoopLength.__slots__ if name not in later}
    assert got == {name: getattr(run, name) for name in got}
    assert run.max_time_s is None or job.live.facts.max_time_s == pytest.approx(run.max_time_s, abs=60)


@pytest.mark.parametrize("listed", [False, True])
def test_a_plugin_that_synchronizes_layers_is_recorded(
    listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning makes it of `sync_batchnorm=True` itself; a script may give it, alone or in a list."""
    monkeypatch.chdir(tmp_path)
    plugin = TorchSyncBatchNorm()
    assert job_of("lightning.pytorch", max_epochs=1, plugins=[plugin] if listed else plugin).sync_batchnorm


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"accelerator": "gpu", "devices": 8, "num_nodes": 2, "strategy": "fsdp"}, (8, 2, "fsdp")),
        ({"accelerator": "cuda", "devices": [0, 2], "precision": "16-mixed"}, (2, 1, "ddp")),
        (
            {"accelerator": "gpu", "devices": "0,1,2", "strategy": "deepspeed_stage_3"},
            (3, 1, "deepspeed_stage_3"),
        ),
        (
            {"accelerator": "tpu", "devices": "4", "strategy": "ddp_find_unused_parameters_true"},
            (4, 1, "ddp_find_unused_parameters_true"),
        ),
        ({"accelerator": "auto", "devices": -1}, (1, 1, "single_device")),
        ({"precision": "bf16", "sync_batchnorm": True, "deterministic": True}, (1, 1, "single_device")),
    ],
)
def test_what_is_not_there_is_replaced_and_recorded(
    arguments: dict[str, Any], words: tuple[int, int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU, TPU, second process or package of a strategy is needed; each device gets its share of the data."""
    monkeypatch.chdir(tmp_path)
    job = job_of("lightning.pytorch", max_epochs=1, **arguments)
    assert (job.devices, job.num_nodes, job.strategy) == words
    assert job.sync_batchnorm is arguments.get("sync_batchnorm", False)
    assert job.precision == {"bf16": "bf16-mixed"}.get(
        arguments.get("precision", ""), arguments.get("precision", "32-true")
    )
    batches = math.ceil(math.ceil(64 / job.world_size) / 4)
    assert job.live.facts.batches_per_epoch == batches
    assert (job.train_samples, job.batch_size) == (64, 4)
    assert any("each device of the machine gets this batch" in note for note in job.live.notes) == (
        arguments.get("devices") in (-1, None)
    )
    assert job.live.trainer.precision == job.precision


def test_a_strategy_that_splits_the_maths_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device of tensor parallelism does a part of the model, which a trace of the whole is not."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TargetError, match="'model_parallel' is not one"):
        job_of("lightning.pytorch", accelerator="gpu", devices=2, strategy="model_parallel")


class Dropping(DistributedSampler[Any]):
    """A sampler of torch with a rule of its own."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, drop_last=True)


class Shared:
    """A sampler of another library: its share is written out as torch's is."""

    def __init__(self, data: Any, replicas: int = 1) -> None:
        self.num_replicas = replicas
        self.num_samples = self.total_size = len(data)

    def __iter__(self) -> Any:
        return iter(range(self.num_samples))

    def __len__(self) -> int:
        return self.num_samples


class Fixed(Shared):
    """One that does not say how long its share is."""

    def __len__(self) -> int:
        return 64


class Ranked(Shared):
    """One that knows the number of processes by another name, and nothing else."""

    def __init__(self, data: Any) -> None:
        self.world_size, self.num_samples = 1, len(data)


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("make", "replaced", "batches", "said"),
    [
        (lambda rows: {"sampler": DistributedSampler(rows)}, False, 2, "DistributedSampler was made for the one process here"),
        (lambda rows: {"sampler": DistributedSampler(rows)}, True, 2, "DistributedSampler was made for the one process here"),
        (lambda rows: {"sampler": Dropping(rows)}, False, 1, "Dropping was made for the one process here"),
        (lambda rows: {"sampler": DistributedSampler(rows, num_replicas=16, rank=0)}, False, 2, ""),
        (lambda rows: {"sampler": DistributedSampler(rows, num_replicas=2, rank=0)}, False, 9, "DistributedSampler shares the data among 2 process(es)"),
        (
            lambda rows: {"batch_sampler": BatchSampler(Shared(rows), 4, drop_last=False), "batch_size": 1},
            False,
            2,
            "Shared was made for the one process here",
        ),
        (lambda rows: {"sampler": Shared(rows)}, True, 2, ""),
        (lambda rows: {"sampler": Fixed(rows)}, False, 16, "Fixed shares the data among 1 process(es)"),
        (lambda rows: {"sampler": Ranked(rows)}, False, 18, "Ranked shares the data among 1 process(es)"),
    ],
)  # fmt: skip
def test_a_sampler_made_for_one_process_is_shared_among_the_devices(
    make: Callable[[Any], dict[str, Any]],
    replaced: bool,
    batches: int,
    said: str,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A script for torchrun makes its own after `init_process_group`: 70 rows by 4 on 16 devices are 5 rows each."""
    monkeypatch.chdir(tmp_path)
    jobs: list[LiveJob] = []
    with replace_all(Recorder(lambda call: jobs.append(live_job(call, ())))):
        distributed.init_process_group("nccl")
        try:
            rows = Rows(70)
            train, val = (DataLoader(rows, **{"batch_size": 4, **make(rows)}) for _ in range(2))
            trainer = importlib.import_module(namespace).Trainer(
                accelerator="gpu", devices=8, num_nodes=2, max_epochs=2, use_distributed_sampler=replaced
            )
            trainer.fit(net(namespace), train, val)
        finally:
            end_process_group()
    facts, notes = jobs[0].live.facts, [note for note in jobs[0].live.notes if "process" in note]
    assert len(notes) == bool(said)
    assert all(note.startswith(said) and "16 device" in note for note in notes)
    assert (facts.batches_per_epoch, facts.validation_batches) == (batches, batches)
    assert facts.estimated_steps == 2 * batches
    assert jobs[0].train_samples == 70


def test_a_process_group_of_another_size_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices of the Trainer are what is priced."""
    monkeypatch.chdir(tmp_path)
    for world, expected in ((4, 1), (2, 0), (-1, 0)):
        jobs: list[LiveJob] = []
        with replace_all(Recorder(lambda call, jobs=jobs: jobs.append(live_job(call, ())))):  # type: ignore[misc]
            distributed.init_process_group("nccl", world_size=world, rank=0)
            try:
                trainer = importlib.import_module("lightning.pytorch").Trainer(
                    accelerator="gpu", devices=2, max_epochs=1
                )
                trainer.fit(net("lightning.pytorch"), loader())
            finally:
                end_process_group()
        notes = [note for note in jobs[0].live.notes if "init_process_group" in note]
        assert len(notes) == expected
        assert jobs[0].world_size == 2


def test_data_and_callbacks_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A datamodule in the second place with transfer hooks, callbacks that change the module, a stream without length."""
    monkeypatch.chdir(tmp_path)
    pl = importlib.import_module("pytorch_lightning")
    finetuning = importlib.import_module("pytorch_lightning.callbacks").BaseFinetuning

    class Data(pl.LightningDataModule):
        def prepare_data(self) -> None:
            self.rows = 10

        def setup(self, stage: str) -> None:
            self.data = Rows(self.rows)

        def train_dataloader(self) -> Any:
            return DataLoader(self.data, batch_size=16)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch.repeat(1, 1)[:, :8]

    class Freeze(finetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            pl_module.layer.bias.requires_grad_(False)

        def finetune_function(self, *_: object) -> None: ...

    class Own(pl.Callback):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            pl_module.seen = (trainer.datamodule.rows, stage)

    module = net("pytorch_lightning")
    job = job_of(
        "pytorch_lightning",
        fit={"train_dataloaders": Data()},
        module=module,
        callbacks=[Freeze(), Own()],
        max_steps=5,
    )
    assert (job.batch_size, job.train_samples, module.seen) == (10, 10, (10, "fit"))
    profile = trace_job(job)
    assert (profile.trainable_parameters, profile.batch.micro_batch_size) == (16, 10)
    assert profile.work_note is None
    stream = DataLoader(Stream(8), batch_size=None)
    unsized = job_of(
        "pytorch_lightning", fit={"train_dataloaders": stream}, max_epochs=2, max_time=timedelta(hours=1)
    )
    profile = trace_job(unsized)
    assert (profile.batch.micro_batch_size, profile.plan.optimizer_steps) == (8, None)
    assert unsized.train_samples is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [(0, "is zero|no batch"), (None, r"setting up the data raised .*test_live_fit.py:\d+")],
)
def test_data_that_fail(
    rows: int | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the user's line."""
    monkeypatch.chdir(tmp_path)

    class Broken(Rows):
        def __getitem__(self, index: int) -> Any:
            raise OSError("no such image")

    data = Broken(8) if rows is None else Rows(rows)
    with pytest.raises(TargetError, match=message):
        job_of("pytorch_lightning", fit={"train_dataloaders": DataLoader(data, batch_size=4)}, max_steps=3)


def test_call_is_kept_as_it_was_made() -> None:
    """The names are Lightning's, also for arguments by place."""
    calls: list[FitCall] = []
    with replace_all(Recorder(calls.append)):
        importlib.import_module("lightning.pytorch").Trainer().fit(1, 2, ckpt_path="last.ckpt")
    assert (calls[0].arguments, calls[0].namespace) == (
        {"model": 1, "train_dataloaders": 2, "ckpt_path": "last.ckpt"},
        "lightning.pytorch",
    )


CALLABLE = """
import pytorch_lightning as pl
from builders.lightning_modules import Tiny, loader

def trainer():
    return pl.Trainer(accelerator="gpu", devices=2, max_epochs=2)

def tuple_of_both():
    return trainer(), Tiny(), loader()

def other():
    class Other:
        fit_loop = fit = print
    return Other(), Tiny()

def too_many():
    return trainer(), Tiny(), loader(), None, None, "last.ckpt", 7, 8
"""


def never(load: object) -> NoReturn:
    raise AssertionError(load)


def test_a_callable_may_return_a_trainer_with_its_module(tmp_path: Path) -> None:
    """What `fit` would be called with stands after the Trainer, which may ask for what is not here."""
    (tmp_path / "train.py").write_text(CALLABLE)
    job = run_callable(f"{tmp_path / 'train.py'}:tuple_of_both", never)
    profile = trace_job(job)
    # 64 rows over 2 devices, in batches of 4.
    assert (profile.parallel.devices, profile.plan.optimizer_steps) == (2, 16)
    for name, message in (
        ("other", "a Other is no Trainer of"),
        ("too_many", "arguments of its fit: too many"),
    ):
        with pytest.raises(TargetError, match=message):
            run_callable(f"{tmp_path / 'train.py'}:{name}", never)


def test_batches_of_the_loader_that_vary_are_priced_at_their_mean() -> None:
    """The first batches of the Trainer's own loader are looked at: their mean is traced, and their spread is said."""
    sizes = (2, 8, 4, 6, 2, 8, 4, 6, 2)
    batches = [torch.ones(size, 8) for size in sizes]
    job = job_of(
        "pytorch_lightning", fit={"train_dataloaders": DataLoader(batches, batch_size=None)}, max_epochs=3
    )  # type: ignore[arg-type]
    profile = trace_job(job)
    assert profile.batch.variation is not None
    assert profile.batch.variation.batches == 8
    assert profile.batch.micro_batch_size == 5
    assert profile.step_flops == 2 * 2 * 5 * 8 * 2
    assert profile.plan.optimizer_steps == 27


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_phases_of_a_run_are_followed(namespace: str) -> None:
    """Unfreezing, a schedule of accumulation and pruning, by the callbacks of the live Trainer."""
    module_type = importlib.import_module(f"{namespace}.callbacks")

    class Net(type(net(namespace))):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torch.nn.Linear(8, 8)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(self.backbone(batch)).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(
                [parameter for parameter in self.parameters() if parameter.requires_grad]
            )

    def profile(*callbacks: Any) -> Any:
        job = job_of(namespace, module=Net(), max_epochs=4, callbacks=list(callbacks))
        return trace_job(job)

    plain = profile()
    unfrozen = profile(module_type.BackboneFinetuning(unfreeze_backbone_at_epoch=1))
    assert 0.75 * plain.step_flops < unfrozen.step_flops < plain.step_flops
    assert unfrozen.trainable_parameters == plain.trainable_parameters
    assert str(unfrozen.work_note).startswith("mean of 16 steps with 18 trained parameters, 48 steps with 90")
    accumulated = profile(module_type.GradientAccumulationScheduler({0: 1, 1: 4}))
    assert accumulated.plan.optimizer_steps == 16 + 3 * 4
    assert accumulated.step_flops * 28 == pytest.approx(plain.step_flops * 64, rel=0.01)
    pruned = profile(module_type.ModelPruning("l1_unstructured", amount=0.5))
    assert pruned.memory.buffer_bytes == 4 * 90


@pytest.mark.parametrize("rows", [29, 30])
def test_the_incomplete_last_batch_of_an_epoch_is_left_out(rows: int) -> None:
    """As FareMeter leaves it out: the step is that of whole batches, also where all of an epoch is read."""
    profile = trace_job(job_of("pytorch_lightning", fit={"train_dataloaders": loader(rows)}, max_epochs=3))
    assert (profile.batch.micro_batch_size, profile.batch.variation) == (4, None)
    assert profile.plan.optimizer_steps == 3 * 8


def test_a_validation_that_never_comes_needs_no_loader(tmp_path: Path) -> None:
    """Libraries switch it off by an interval beyond the run, and their datamodule then has no loader."""
    pl = importlib.import_module("pytorch_lightning")

    class Data(pl.LightningDataModule):  # type: ignore[misc]
        def train_dataloader(self) -> Any:
            return loader()

        def val_dataloader(self) -> Any:
            return None

    def job(every: int) -> LiveJob:
        fit = {"datamodule": Data()}
        return job_of("pytorch_lightning", fit=fit, max_epochs=3, check_val_every_n_epoch=every)

    profile = trace_job(job(100))
    assert profile.plan.validation_batches == 0
    assert not any("validation" in note for note in profile.notes)
    with pytest.raises(TargetError, match="Found None"):
        job(1)
