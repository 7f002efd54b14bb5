"""The energy of a metered session: what NVML counts on this process's accelerator, times all of them."""

from __future__ import annotations

import torch

from trainfare.meter.fare_log import first_line, warn_user
from trainfare.meter.services import MeterServices
from trainfare.report.wording import describe_energy
from trainfare_core.energy import RentedMachines, RunEnergy, add_measured
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.ledger.run_record import RunMachine


class SessionEnergy:
    """
    Reads the accelerator's counter of energy now and at the end; a failure gives one warning and no energy.

    Args:
        services: clock and counter.
        device: of this process.
    """

    def __init__(self, services: MeterServices, device: torch.device) -> None:
        self._services = services
        self._device = device
        self._began_j = self._read()
        self._began_s = services.now()

    def _read(self) -> float | None:
        try:
            return self._services.read_energy_j(self._device)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything; the run needs no energy
            warn_user(f"FareMeter: the energy is not measured: {first_line(error)}")
            return None

    def end(self, machine: RunMachine) -> tuple[RunEnergy, str] | None:
        """
        Return the energy since the beginning, and a sentence on it; None where the counter does not tell.

        All accelerators of the run are taken to draw what that of this process does.

        Args:
            machine: where the run ran.
        """
        ended_j = None if self._began_j is None else self._read()
        took_s = self._services.now() - self._began_s
        if ended_j is None or self._began_j is None or ended_j < self._began_j or took_s <= 0:
            return None
        watts, count = (ended_j - self._began_j) / took_s, machine.accelerators or 1
        nodes = machine.nodes or 1
        machines = RentedMachines(
            resolve_device(machine.accelerator), count, nodes, float("nan"), machine.cloud, machine.region
        )
        energy = add_measured(took_s / 3600, machines, watts, self._services.utc_now().year)
        kwh = watts * took_s / 3.6e6 * count * nodes
        return energy, (
            f"energy of this session: {watts:,.0f} W at an accelerator by NVML, {kwh:.3g} kWh at all {count * nodes}; "
            f"with host, PUE and grid: {describe_energy(energy)}"
        )
