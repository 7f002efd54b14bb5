"""`SideCosts`: what each run pays beside its machines, for data, trained models and disks (part of stage 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from trainfare_core.arrays import Column, Rows
from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.pricing.data_costs import ModelRoutes, ObjectStorage
from trainfare_core.recommendation import Constraints


@dataclass(frozen=True, slots=True)
class SideCosts:
    """
    Dollars beside the machines; arrays have shape (r,).

    Attributes:
        transfer_usd: of bringing the data to the run's region.
        model_usd: of sending the trained model from the run's region.
        kept_usd: of object storage after the run and while it waits for capacity, and of requests.
        waiting_usd: of the disks that keep checkpoints while the run waits for capacity.
        disks_usd_per_hour: disks for the checkpoints and of the machines.
        object_usd_per_hour: of the data in object storage, and of their copy in the run's region, while the run lasts.
    """

    transfer_usd: Column
    model_usd: Column
    kept_usd: Column
    waiting_usd: Column
    disks_usd_per_hour: Column
    object_usd_per_hour: Column

    @property
    def once_usd(self) -> Column:
        """Dollars of each run that do not grow with its billed hours, and are sure, shape (r,)."""
        return self.transfer_usd + self.model_usd + self.kept_usd + self.waiting_usd

    @property
    def usd_per_hour(self) -> Column:
        """Dollars an hour of disks and object storage, shape (r,)."""
        return self.disks_usd_per_hour + self.object_usd_per_hour


@dataclass(frozen=True, slots=True)
class SidePrices:
    """
    Prices of the data and of the trained model of each variant of a job.

    Attributes:
        routes: the way of the model from each offer's region.
        stored: what lies in object storage with each variant, at least one.
    """

    routes: ModelRoutes
    stored: tuple[ObjectStorage, ...]

    @classmethod
    def of(cls, jobs: tuple[JobProfile, ...], offers: pl.DataFrame, asked: Constraints) -> SidePrices:
        """Look up the prices; arguments as for `ModelRoutes.of`."""
        return cls(ModelRoutes.of(jobs, offers, asked), tuple(ObjectStorage.of(job, asked) for job in jobs))

    def cost_runs(
        self,
        machines: pl.DataFrame,
        nodes: Rows,
        variant: Rows,
        disks_usd_per_hour: Column,
        checkpoints_usd_per_hour: Column,
        waiting_hours: Column,
    ) -> SideCosts:
        """
        Return what runs pay beside their machines.

        Args:
            machines: the machine of each run, columns `transfer_usd`, `copy_usd_per_hour` and `model_route`, r rows.
            nodes: of each run, shape (r,).
            variant: of the job that each run trains, shape (r,).
            disks_usd_per_hour: of each run, shape (r,).
            checkpoints_usd_per_hour: the part of it that stays while a run waits for capacity, shape (r,).
            waiting_hours: expected, of each run, shape (r,); no machine is billed meanwhile.
        """
        object_usd_per_hour = self.stored[0].usd_per_hour + machines["copy_usd_per_hour"].to_numpy()
        kept_usd = np.array([stored.kept_usd for stored in self.stored])
        reads_usd = self.stored[0].read_usd * nodes.astype(np.float64)
        return SideCosts(
            transfer_usd=machines["transfer_usd"].to_numpy().astype(np.float64),
            model_usd=self.routes.usd[machines["model_route"].to_numpy(), variant],
            kept_usd=kept_usd[variant] + reads_usd + waiting_hours * object_usd_per_hour,
            waiting_usd=waiting_hours * checkpoints_usd_per_hour,
            disks_usd_per_hour=disks_usd_per_hour,
            object_usd_per_hour=object_usd_per_hour,
        )
