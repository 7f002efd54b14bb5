"""What the callbacks of all loops have in common: the meter of a run, and a guard that keeps its faults away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from trainfare.ledger.run_status import RunStatus
from trainfare.meter.fare_log import first_line, warn_user
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.other_rank_meter import OtherRankMeter
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.trace import torch_private

_ELAPSED_S = TypeAdapter(Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)])
"""Training time that is accepted from a checkpoint: up to about 317 years, so only a damaged value is above it."""


class GuardedMeter:
    """
    The part of a `FareMeter` that is the same for every loop.

    Args:
        settings: its arguments.
    """

    services = MeterServices()
    """Clock, prices, tracing, files and console; tests replace it on a subclass."""

    def __init__(self, settings: MeterSettings) -> None:
        super().__init__()
        self._settings = settings
        self._meter: FitMeter | None = None
        self._forget_earlier()
        self._not_traced = ""
        self._status: RunStatus | None = None

    def make_meter(self) -> FitMeter:
        """Return the meter of the next run on rank 0; a subclass may return another."""
        return FitMeter(self._settings, self.services, self._disable, self._earlier_sessions_s)

    def _prepare_meter(self, nodes: int, *, first_rank: bool) -> None:
        """Make the meter of a run on so many machines, and start its clock; rank 0 reports."""
        self._meter = None
        try:
            other = (self._settings, self.services, self._disable, self._earlier_sessions_s)
            self._meter = self.make_meter() if first_rank else OtherRankMeter(*other)
            self._meter.not_traced = self._not_traced
            self._meter.take_paid(self._earlier_paid)
        except Exception as error:  # noqa: BLE001 - a fault of FareMeter must not reach the training
            warn_user(f"FareMeter could not start and is off ({first_line(error)})")
        self.call_guarded(lambda meter: meter.prepare(nodes))

    def call_guarded(self, call: Callable[[FitMeter], None], *, every_batch: bool = False) -> None:
        """
        Call the meter; an Exception disables the meter and does not reach the training.

        Args:
            call: of the meter.
            every_batch: the hook runs in each batch, so that the meter itself keeps torch functions off where it reads
                tensors.
        """
        if self._meter is None:
            return
        try:
            if every_batch:
                call(self._meter)
                return
            with torch_private.without_torch_functions():  # a user's class counts or refuses calls
                call(self._meter)
        except Exception as error:  # noqa: BLE001 - a fault of FareMeter must not reach the training
            self._disable(error)

    @property
    def _stops_here(self) -> bool:
        """Whether the loop is to save and to end after the batch that has ended; the same on all ranks, and once."""
        return self._meter is not None and self._meter.stops

    def _end_early(self, error: BaseException) -> None:
        """Undo every change and save what was measured before an exception."""
        # A second Ctrl-C ends the report, and must not replace the exception under way.
        with contextlib.suppress(BaseException):
            self.call_guarded(lambda meter: meter.end(error))
        self._forget()

    def _forget(self) -> None:
        """Be ready for another run."""
        self._elapsed_s = self.state_dict()["elapsed_s"]
        if self._meter is not None:
            self._not_traced, self._status = self._meter.not_traced, self._meter.status
        self._meter = None

    def _forget_earlier(self) -> None:
        """Be a run that no session came before."""
        self._earlier_sessions_s = self._elapsed_s = 0.0
        self._paid: dict[str, Any] = {}
        self._earlier_paid: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds and dollars so far, to which a resumed run adds its own, and what the run is known by."""
        meter = self._meter
        try:
            elapsed_s = self._elapsed_s if meter is None else float(meter.elapsed_s)
            self._paid = self._paid if meter is None else meter.give_paid()
        except Exception as error:  # noqa: BLE001 - a fault of FareMeter must not reach the training
            self._disable(error)
            elapsed_s = self._elapsed_s
        return {"version": 1, "elapsed_s": elapsed_s, **self._paid}

    def load_state_dict(self, state_dict: Any) -> None:
        """Add the seconds and dollars of earlier sessions; a state of another form is ignored."""
        try:
            elapsed_s = _ELAPSED_S.validate_python(state_dict["elapsed_s"], strict=True)
            paid: dict[str, Any] = {key: state_dict[key] for key in ("usd", "run") if key in state_dict}
            self._earlier_sessions_s = self._elapsed_s = elapsed_s
            self._paid = self._earlier_paid = paid
            if self._meter is not None:
                self._meter.earlier_sessions_s = elapsed_s
                self._meter.take_paid(paid)
        except Exception:  # noqa: BLE001, S110 - a damaged state only loses the earlier seconds
            pass

    def _repr_html_(self) -> str | None:
        """Return how far the run is, for a notebook's cell."""
        status = self._status if self._meter is None else self._meter.status
        return None if status is None else status.format_html(self.services.utc_now())

    def _disable(self, error: Exception) -> None:
        meter, self._meter = self._meter, None
        if meter is None:
            return
        with contextlib.suppress(Exception):
            meter.give_up()
        if isinstance(meter, OtherRankMeter):
            return
        what = "FareMeter had a fault and is off; training continues without it"
        warn_user(f"{what}. {first_line(error)}")
