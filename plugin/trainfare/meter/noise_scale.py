"""
The noise scale of a run's gradients: of every 20th step, the norms of the gradient of two sizes of batch.

The small batch is the first micro-batch of this process: tensor hooks read its gradient before it is added to others or
averaged among processes, and return nothing. The large one is the whole step, read where its last backward has ended,
before anything clips or unscales it: a factor that both norms have in common, such as the loss scale of fp16, cancels.
Both stay on the device until the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import numpy as np
import torch

from trainfare.job.loop import Loop
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.meter.fare_log import first_line
from trainfare.trace import count_samples, torch_private
from trainfare.trace.module_facts import batch_norms
from trainfare_core.batch_scaling import (
    LEAST_READINGS,
    estimate_noise_scale,
    explain_not_predicted,
    find_not_predicted,
)

_LINALG: Any = torch.linalg
MOST_READINGS: Final = 1024
"""Steps whose norms are kept. Where there are more, every second one goes, and half as many are read from then on. A
chosen value: 8 KB, and more say nothing more."""
_EARLY_SHARE: Final = 0.1
"""Of the readings, the first that are left out: the noise scale grows while the loss falls fast."""

_WHOLE_SAMPLES: Final = 10.0
"""From here on a fraction of a sample says nothing."""


class _Reading:
    """The two norms of one step, as far as they are read."""

    def __init__(self) -> None:
        self.batches = 0
        self.sizes: set[int | None] = set()
        self.places: list[int] = []
        """Of the parameters whose gradients of the first micro-batch were seen, one entry a gradient."""
        self.small: list[torch.Tensor] = []
        self.large: torch.Tensor | None = None
        self.is_queued = False

    @property
    def is_whole(self) -> bool:
        """Whether both norms are of whole batches of equal micro-batches."""
        return (
            self.large is not None and len(set(self.places)) == len(self.places) > 0 and len(self.sizes) < 2
        )


class NoiseReader:
    """
    Reads the norms of a run, on one of its ranks; a fault in it ends the readings alone.

    Args:
        loop: before its first step.
        facts: of the run.
        length: of the run.
        every_steps: optimizer steps from one reading to the next.
    """

    def __init__(self, loop: Loop, facts: RunFacts, length: LoopLength, every_steps: int) -> None:
        self._loop, self._replicas = loop, facts.replicas or 1
        self._every_steps = every_steps
        self._because = _explain_none(loop, facts, length)
        self._steps = 0
        self._updates: int | None = None
        self._begins_step = self._is_in_batch = self._is_alone = self._steps_between = False
        self._reading: _Reading | None = None
        self._hooks: list[Any] = []
        self._norms: torch.Tensor | None = None
        self._times: list[int] = []

    def batch_start(self, batch: Any, *, is_traced: bool) -> None:
        """Note a micro-batch; one that is traced is not read, since the trace would count what reads it."""
        self._guard(partial(self._begin, batch, is_traced=is_traced))

    def batch_end(self) -> None:
        """Note the end of a micro-batch, and keep the norms of a step that ends with it."""
        if not self._because:
            self._guard(self._end)

    def drop(self) -> None:
        """Leave the parameters as they were, and the present step unread."""
        hooks, self._hooks, self._reading = self._hooks, [], None
        for hook in hooks:
            hook.remove()

    def measure(self, micro_batch_size: int | None) -> tuple[float | None, str]:
        """
        Return the noise scale in samples, and a sentence on it; None and the reason where there is none.

        Waits for the device.

        Args:
            micro_batch_size: samples of a micro-batch; None: not known.
        """
        because, readings = self._because, len(self._times)
        if not because and not readings and self._is_alone:
            because = "without accumulation or DDP a step has one batch, and no second one to compare it with"
        if not because and not readings and self._steps_between:
            because = "the optimizer steps between two batches, and not in the last one of its step"
        if not because and readings < LEAST_READINGS:
            because = f"{readings} of at least {LEAST_READINGS} steps were read, one in {self._every_steps}"
        if not because and micro_batch_size is None:
            because = "the samples of a batch are not known"
        if not because and self._norms is not None and micro_batch_size is not None:
            begin = round(_EARLY_SHARE * readings)
            norms = np.square(np.array(cast("Any", self._norms[begin:readings]).tolist(), dtype=np.float64))
            times, finite = np.array(self._times[begin:], dtype=np.float64), np.isfinite(norms).all(axis=1)
            if finite.any():
                ratio = estimate_noise_scale(norms[finite, 0], norms[finite, 1], times[finite])
                if ratio is not None:
                    samples = ratio * micro_batch_size
                    shown = f"{samples:,.0f}" if samples >= _WHOLE_SAMPLES else f"{samples:.2g}"
                    return samples, f"noise scale {shown} samples, from {finite.sum()} steps"
            because = f"{readings} steps do not tell the gradient from its noise"
        return None, f"no noise scale: {because}"

    def _guard(self, call: Callable[[], None]) -> None:
        if self._because:
            return
        try:
            with torch_private.without_torch_functions(), torch.no_grad():
                call()
        except Exception as error:  # noqa: BLE001 - without the noise scale the rest is measured all the same
            self._because = f"the gradients could not be read ({first_line(error)})"[:400]
            self._reading = None  # hooks that are called from now on do nothing

    def _begin(self, batch: Any, *, is_traced: bool) -> None:
        if self._is_in_batch or is_traced:  # the batch before was skipped
            self.drop()
        self._is_in_batch = True
        if (
            self._updates != self._loop.updates
        ):  # it stepped between two batches, after the last one was looked at
            self._steps_between = self._updates is not None
            self._updates = self._loop.updates
            self.drop()
        begins, self._begins_step = self._begins_step, False
        is_last = self._loop.ends_in_step
        if begins and not is_traced and (self._steps - 1) % self._every_steps == 0:
            self._is_alone = is_last and self._replicas == 1
            self._reading = None if self._is_alone else _Reading()
        reading = self._reading
        if reading is None:
            return
        reading.batches += 1
        reading.sizes.add(count_samples(batch))
        is_first = reading.batches == 1
        if is_first or is_last:
            self._watch(reading, is_first=is_first, is_last=is_last)

    def _watch(self, reading: _Reading, *, is_first: bool, is_last: bool) -> None:
        parameters = [
            parameter
            for group in self._loop.optimizers[0].param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        ]

        def read_whole() -> None:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            reading.large = _join([_norm(gradient) for gradient in gradients])
            reading.is_queued = False

        def see(place: int, gradient: torch.Tensor) -> None:
            if is_first:
                reading.places.append(place)
                reading.small.append(_norm(gradient))
            if is_last and not reading.is_queued:
                reading.is_queued = True
                # What DDP averages is written back by a callback of its own: the second one comes after that.
                later = partial(torch_private.call_after_backward, partial(self._guard, read_whole))
                torch_private.call_after_backward(partial(self._guard, later))

        def guard(place: int, gradient: torch.Tensor) -> None:
            self._guard(partial(see, place, gradient))

        for place, parameter in enumerate(parameters):
            self._hooks.append(parameter.register_hook(partial(guard, place)))

    def _end(self) -> None:
        reading, self._is_in_batch = self._reading, False
        self.drop()
        stepped, self._updates = self._loop.updates != self._updates, self._loop.updates
        if not stepped:
            self._reading = reading
            return
        self._steps, self._begins_step = self._steps + 1, True
        if reading is not None and reading.is_whole and reading.large is not None:
            self._keep(reading, reading.large)

    def _keep(self, reading: _Reading, large: torch.Tensor) -> None:
        if self._norms is None:
            self._norms = torch.zeros((MOST_READINGS, 2), dtype=torch.float32, device=large.device)
        if len(self._times) == MOST_READINGS:
            self._norms[: MOST_READINGS // 2] = self._norms[::2].clone()
            self._times, self._every_steps = self._times[::2], 2 * self._every_steps
        # The gradients of all micro-batches are added up, each with the same factor, whichever that is.
        small = reading.batches * _join(reading.small)
        self._norms[len(self._times)] = torch.stack([small.to(large.device), large])
        self._times.append(reading.batches * self._replicas)


def _norm(gradient: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = _LINALG.vector_norm(gradient.detach(), dtype=torch.float32)
    return norm


def _join(norms: list[torch.Tensor]) -> torch.Tensor:
    norm: torch.Tensor = _LINALG.vector_norm(torch.stack(norms))
    return norm


def _explain_none(loop: Loop, facts: RunFacts, length: LoopLength) -> str:
    """Return why a run has no noise scale; "" where it may have one."""
    if not length.automatic or len(loop.optimizers) != 1:
        return "the steps are not those of one optimizer that the loop itself steps"
    if facts.split_because or facts.replicas is None:
        return facts.split_because.partition(":")[0] or "it is not known how the devices share the samples"
    norms = batch_norms(loop.module)
    if norms.of_device or norms.of_all:
        return "BatchNorm makes each sample's gradient depend on the others of its batch"
    kinds = [type(part).__name__ for part in loop.module.modules()]
    why = find_not_predicted([facts.name, *kinds])
    return "" if why in (None, "unknown_loss") else explain_not_predicted(why).partition(": ")[2]
