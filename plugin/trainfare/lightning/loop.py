"""A Trainer of either namespace as FareMeter sees it: an implementation of `trainfare.job.loop.Loop`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from torch import nn
from torch.optim import Optimizer

from trainfare.job.loop import Loop, PhaseListener
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.lightning.logs import LightningLog
from trainfare.lightning.profiler_tap import TeeProfiler, tell_phases
from trainfare.lightning.run_facts import read_run
from trainfare.lightning.run_length import batches_of, read_trainer


@final
class LightningLoop(Loop):
    """
    The fit loop of a Trainer.

    Args:
        trainer: in `on_train_start` or later.
        module: the LightningModule.
        meter: the callback that measures.
    """

    def __init__(self, trainer: Any, module: nn.Module, meter: object) -> None:
        self._trainer, self._module, self._meter_id = trainer, module, id(meter)

    @property
    def module(self) -> nn.Module:
        """The LightningModule."""
        return self._module

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """The Trainer's."""
        optimizers: Sequence[Optimizer] = self._trainer.optimizers
        return optimizers

    def run_facts(self) -> RunFacts:
        """Read the strategy, the precision plugin and the loaders."""
        return read_run(self._trainer, self._module)

    def length(self) -> LoopLength:
        """Read the limits, the loaders and the callbacks."""
        return read_trainer(self._trainer)

    @property
    def updates(self) -> int:
        """As `trainer.global_step`: under manual optimization each optimizer's step counts."""
        return int(self._trainer.global_step)

    @property
    def rank(self) -> int:
        """As `trainer.global_rank`."""
        return int(self._trainer.global_rank)

    @property
    def world_size(self) -> int:
        """As `trainer.world_size`."""
        return int(self._trainer.world_size)

    @property
    def epochs(self) -> int:
        """As `trainer.current_epoch`."""
        return int(self._trainer.current_epoch)

    @property
    def passes(self) -> int:
        """As `trainer.accumulate_grad_batches`, which callbacks may change."""
        return max(1, int(self._trainer.accumulate_grad_batches))

    @property
    def is_last_batch(self) -> bool:
        """As `trainer.is_last_batch`."""
        return bool(self._trainer.is_last_batch)

    @property
    def ends_in_step(self) -> bool:
        """As the loop itself decides."""
        accumulates = getattr(self._trainer.fit_loop.epoch_loop, "_should_accumulate", None)
        return not (callable(accumulates) and accumulates())

    def validation_batches(self) -> int | None:
        """Return the batches over all validation loaders, whose lengths may not have been known before."""
        return batches_of(self._trainer.num_val_batches)

    def metrics(self) -> Mapping[str, Any]:
        """Return what was logged with `self.log`."""
        metrics: Mapping[str, Any] = self._trainer.callback_metrics
        return metrics

    def watch(self, listener: PhaseListener, on_fault: Callable[[Exception], None]) -> Callable[[], None]:
        """
        Replace the Trainer's profiler by one that also tells the listener of its actions.

        A profiler that wraps ours by the time of the undoing stays; ours then only passes calls on.
        """
        trainer = self._trainer
        # By identity: the user's callbacks may define an equality.
        tell = tell_phases(listener, lambda: self._meter_id in map(id, trainer.callbacks))
        tee = TeeProfiler(trainer.profiler, tell, on_fault)
        trainer.profiler = tee

        def put_back() -> None:
            tee.silence()
            if trainer.profiler is tee:
                trainer.profiler = tee.inner

        return put_back

    def logs(self) -> Sequence[LightningLog]:
        """Return the Trainer's loggers."""
        return [LightningLog(logger, self._trainer) for logger in self._trainer.loggers]

    def show(self, line: str) -> bool:
        """Print above the progress bar."""
        bar = getattr(self._trainer, "progress_bar_callback", None)
        if bar is None or not getattr(bar, "is_enabled", False):
            return False
        bar.print(line)
        return True

    def folder(self) -> Path:
        """
        Return the first logger's folder, else the Trainer's root folder; the current one where that is a remote one.

        `trainer.log_dir` is not read, because reading it is a collective call.
        """
        folder = None
        for logger in self._trainer.loggers[:1]:
            folder = getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None)
        text = str(folder or self._trainer.default_root_dir)
        return Path() if "://" in text else Path(text)
