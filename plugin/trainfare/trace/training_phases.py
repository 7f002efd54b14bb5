"""Phases of a run that train other parameters or accumulate other numbers of batches, and the mean step of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trainfare.trace.mixture import MAX_CHARACTERS
from trainfare.trace.step_facts import StepFacts, add_steps
from trainfare_core.number_format import list_items

MAX_PHASES = 32
"""Phases that are told apart; a chosen value, above the epochs of a schedule that unfreezes layer by layer. What comes
later counts as the last."""
SHOWN_PHASES = 4
"""Phases in the sentence of a report, which keeps it to two lines."""


@dataclass(frozen=True, slots=True)
class PhaseSignature:
    """
    What is the same in all steps of a phase; numbers of scalars, and batches in one optimizer step.

    Freezing changes `trained`, pruning adds buffers, a schedule changes `accumulated`.
    """

    trained: int
    parameters: int
    buffers: int
    accumulated: int

    @classmethod
    def of(cls, module: Any, accumulated: int) -> PhaseSignature:
        """
        Read a module.

        Args:
            module: that is trained.
            accumulated: batches in one optimizer step.
        """
        parameters = list(module.parameters())
        return cls(
            trained=_numel(parameter for parameter in parameters if parameter.requires_grad),
            parameters=_numel(parameters),
            buffers=_numel(module.buffers()),
            accumulated=accumulated,
        )


def _numel(tensors: Iterable[Any]) -> int:
    return sum(int(tensor.numel()) for tensor in tensors)


@dataclass(slots=True)
class _Phase:
    signature: PhaseSignature
    first_step: int
    step: StepFacts | None = None


class TrainingPhases:
    """The phases of a run so far, each with a traced step where there is one."""

    def __init__(self) -> None:
        self._phases: list[_Phase] = []

    def see(self, signature: PhaseSignature, steps: int) -> None:
        """
        Begin a new phase if the signature has changed; a phase that comes back is a new one.

        Args:
            signature: of the step that comes next.
            steps: optimizer steps that are done.
        """
        if self._phases and (self._phases[-1].signature == signature or len(self._phases) >= MAX_PHASES):
            return
        known = next(
            (phase.step for phase in self._phases if phase.signature == signature and phase.step), None
        )
        self._phases.append(_Phase(signature, steps, known))

    def __len__(self) -> int:
        return len(self._phases)

    @property
    def untraced(self) -> bool:
        """Whether no step of the current phase was traced yet."""
        return bool(self._phases) and self._phases[-1].step is None

    @property
    def current(self) -> StepFacts | None:
        """The traced step of the current phase."""
        return self._phases[-1].step if self._phases else None

    def trace(self, step: StepFacts) -> None:
        """Set the traced step of the current phase."""
        if self._phases:
            self._phases[-1].step = step

    def mean_step(self, steps: int) -> tuple[StepFacts, str] | None:
        """
        Return the mean step of the run, and what it is the mean of; None where there is one phase, or none was traced.

        A phase without a traced step counts as the nearest that has one, and the sentence says so.

        Args:
            steps: of the whole run: the last phase goes on to its end.
        """
        traced = [(index, phase.step) for index, phase in enumerate(self._phases) if phase.step is not None]
        if len(self._phases) < 2 or not traced:
            return None
        ends = [phase.first_step for phase in self._phases[1:]] + [max(steps, self._phases[-1].first_step)]
        lengths = [end - phase.first_step for phase, end in zip(self._phases, ends, strict=True)]
        total = sum(lengths)
        if total <= 0:
            return None
        parts = [
            (min(traced, key=lambda pair: abs(pair[0] - index))[1], length / total)
            for index, length in enumerate(lengths)
        ]
        # Of the last part parameters and optimizer are taken: the most state decides whether a run fits.
        parts.sort(key=lambda part: part[0].optimizer.state_bytes)
        return add_steps(parts), self._write_sentence(lengths)

    def _write_sentence(self, lengths: list[int]) -> str:
        parts = [
            f"{length:,} steps with {self._describe_difference(phase)}"
            + ("" if phase.step is not None else " (not traced: taken as the nearest phase)")
            for phase, length in zip(self._phases, lengths, strict=True)
        ]
        prefix = "mean of "
        room = MAX_CHARACTERS - len(prefix)
        return prefix + list_items(parts, room, most_items=SHOWN_PHASES, more="more phases")

    def _describe_difference(self, phase: _Phase) -> str:
        """Return what tells a phase from the others, in words."""
        signatures = [other.signature for other in self._phases]
        parts: list[str] = []
        if len({signature.trained for signature in signatures}) > 1:
            parts.append(f"{phase.signature.trained:,} trained parameters")
        if len({signature.accumulated for signature in signatures}) > 1:
            batches = phase.signature.accumulated
            parts.append(f"{batches} batch{'' if batches == 1 else 'es'} each")
        if not parts:
            parts.append(f"{phase.signature.parameters + phase.signature.buffers:,} parameters and buffers")
        return " and ".join(parts)
