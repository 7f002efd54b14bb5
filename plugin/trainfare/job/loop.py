"""
The two doors between trainfare and a training loop. No framework is named here.

`Loop` is a loop that trains, as FareMeter sees it; `TrainingStep` is the step of a module, as it is run on fake
tensors. A loop derives from both and defines what they leave open; the rest has a value that is right for a loop
without the feature. `trainfare.lightning` implements them over a Trainer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from trainfare.job.run_facts import RunFacts
    from trainfare.job.run_plan import LoopLength
    from trainfare_core.job_profile import OperationGroup
    from trainfare_core.recommendation import Recommendation


class Phase(IntEnum):
    """A part of a training step. `PAUSE` is not part of it: validation, or the saving of a checkpoint."""

    DATA_WAIT = 1
    TRANSFER = 2
    FORWARD = 3
    BACKWARD = 4
    OPTIMIZER = 5
    PAUSE = 6


class PhaseListener(Protocol):
    """What a loop tells of its phases, which may nest."""

    def begin(self, phase: Phase) -> None:
        """Note that a phase begins."""
        ...

    def end(self, phase: Phase) -> None:
        """Note that a phase ends."""
        ...

    def expect_validation(self) -> None:
        """Note that validation is being set up."""
        ...

    def leave_validation(self) -> None:
        """Note that training goes on, whether the validation that was set up has run or not."""
        ...

    def leave(self) -> None:
        """Note that the user has taken the meter from the loop in mid-run."""
        ...


@dataclass(frozen=True, slots=True)
class RunReport:
    """
    The report of a run, for the loggers of its loop.

    Attributes:
        answer: the ranking.
        markdown: the same as a page of text.
        page: the HTML report; None where none was written.
        updates: see `Loop.updates`.
    """

    answer: Recommendation
    markdown: str
    page: Path | None
    updates: int


class LoopLog(Protocol):
    """One logger of a loop; whatever it raises, FareMeter warns of once and then leaves it out."""

    @property
    def name(self) -> str:
        """What to call it in a warning."""
        ...

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log numbers at the present step."""
        ...

    def log_report(self, report: RunReport) -> None:
        """Log the report at the end of the run, in the logger's own way; a logger that is closed by then does not."""
        del report


class TrainingStep(Protocol):
    """The step of one module, whose optimizers exist: forward, backward and update of one micro-batch after another."""

    name: str = "the training step"
    """What to call it in an error."""
    manual: bool = False
    """The user's code calls the optimizers itself, so that a step ends with a batch in which one of them steps."""

    @property
    def passes(self) -> int:
        """Forward and backward passes in one optimizer step, of which one is traced."""
        return 1

    @property
    @abstractmethod
    def optimizers(self) -> list[Optimizer]:
        """Bound to the module's parameters; empty where nothing is updated."""
        ...

    @abstractmethod
    def run(self, batch: Any, index: int) -> None:
        """
        Run one micro-batch: forward, backward and `step` of an optimizer.

        Args:
            batch: on fake or real tensors.
            index: number of the batch, from 0.
        """
        ...

    @abstractmethod
    def forward(self, batch: Any, index: int = 0) -> None:
        """Run what comes before the backward of `run`."""
        ...

    def before_update(self, optimizer: Optimizer) -> None:
        """Do what belongs to an optimizer's update and comes before it, such as clipping of gradients."""

    def count_update(self) -> None:
        """Take note that an optimizer has stepped."""


class Loop(Protocol):
    """
    A training loop that runs in this process, on one of its ranks.

    What is asked in every batch (`updates`, `is_last_batch`) must neither wait for the device nor call a collective.
    """

    saving: tuple[object, str] | None = None
    """The object that saves checkpoints, and the name of its method; None: the loop does not tell."""
    resumes_in_folder: bool = False
    """A resumed run, whose `updates` are above 0 before its first step, has the folder of the session before."""
    warmed_up: bool = False
    """The first step that the meter sees may be traced."""
    in_first_step: bool = False
    """The batches belong to the first step of the run, before it is known how many batches a step takes."""

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    @abstractmethod
    def optimizers(self) -> Sequence[Optimizer]:
        """In a fixed order."""
        ...

    @property
    def frozen_parameters(self) -> Sequence[nn.Parameter]:
        """Weights beside `module` that the step reads and does not train, such as the reference model of DPO."""
        return ()

    @abstractmethod
    def run_facts(self) -> RunFacts:
        """Read device, precision, parallelism and loader; called once, before the first step."""
        ...

    def complete_facts(
        self,
        facts: RunFacts,
        operations: Sequence[OperationGroup],  # noqa: ARG002 - of a loop that asks them
    ) -> RunFacts:
        """Return the facts of the run with what the traced step shows; called at the end, with its operations."""
        return facts

    @abstractmethod
    def length(self) -> LoopLength:
        """Read what decides how many steps the run has; called before the first step and after the last."""
        ...

    @property
    @abstractmethod
    def updates(self) -> int:
        """Optimizer steps so far, earlier sessions of a resumed run included, as `LoopLength.max_steps` counts them."""
        ...

    @abstractmethod
    def folder(self) -> Path:
        """Return the folder for files, without a collective call."""
        ...

    @property
    def rank(self) -> int:
        """Number of this process among those that train together."""
        return 0

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return 1

    @property
    def epochs(self) -> int:
        """Complete epochs so far."""
        return 0

    @property
    def passes(self) -> int:
        """Forward and backward passes in one optimizer step, as of now."""
        return 1

    @property
    def is_last_batch(self) -> bool:
        """The batch is the last of its epoch, which may be smaller than the others."""
        return False

    @property
    def ends_in_step(self) -> bool:
        """The next batch ends in an optimizer step; not where gradients of several are added up first."""
        return True

    def validation_batches(self) -> int | None:
        """Return the batches of the validation that has run last; None where not known."""
        return None

    def metrics(self) -> Mapping[str, Any]:
        """Return the newest validation metrics by their names; values may be tensors."""
        return {}

    def watch(
        self,
        listener: PhaseListener,
        on_fault: Callable[[Exception], None],  # noqa: ARG002 - of a loop with marks
    ) -> Callable[[], None]:
        """
        Tell a listener of the phases of each step from now on; a loop that knows none leaves its times unknown.

        Args:
            listener: told of each phase.
            on_fault: called with an error of the listener, which is then told nothing more.

        Returns:
            What undoes it; called at most once.
        """
        del listener
        return do_nothing

    def complete_length(self, length: LoopLength) -> LoopLength:
        """Return the length with what is known only once it trains; asked whenever the run is planned."""
        return length

    def logs(self) -> Sequence[LoopLog]:
        """Return the loggers."""
        return ()

    def show_in_bar(self, give_text: Callable[[], str]) -> Callable[[], None]:
        """Show a text in the loop's own progress bar, where it has one, from now on; return what undoes it."""
        del give_text
        return do_nothing

    def show(self, line: str) -> bool:
        """Print a line without breaking the loop's own output; return False where it has none to break."""
        del line
        return False


class ToldLoop(Loop):
    """A loop that its callback tells of the phases of a step."""

    _listener: PhaseListener | None = None

    def watch(self, listener: PhaseListener, on_fault: Callable[[Exception], None]) -> Callable[[], None]:
        """Pass on to the listener what `tell` is told."""
        self._listener, self._on_fault = listener, on_fault
        return lambda: setattr(self, "_listener", None)

    def tell(self, phase: Phase, what: Literal["begin", "end"], *_: object, **__: object) -> None:
        """Tell the listener, if there is one, that a phase begins or ends."""
        try:
            if self._listener is not None:
                getattr(self._listener, what)(phase)
        except Exception as error:  # noqa: BLE001 - a fault of FareMeter must not reach the training
            self._listener = None
            self._on_fault(error)


def do_nothing(*_: object, **__: object) -> None:
    """Stand for what is left out."""
