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
        kept_usd: of object storage after the run, and of the requests that read the data.
        disks_usd_per_hour: disks for the checkpoints and of the machines.
        checkpoints_usd_per_hour: the part of them that stays while a run waits for capacity.
        waiting_hours: of that wait, which no machine is billed for.
        object_usd_per_hour: of the data in object storage where they lie, while the run lasts; the same for every run.
    """

    transfer_usd: Column
    model_usd: Column
    kept_usd: Column
    disks_usd_per_hour: Column
    checkpoints_usd_per_hour: Column
    waiting_hours: Column
    object_usd_per_hour: float

    @property
    def once_usd(self) -> Column:
        """Dollars of each run that do not grow with its billed hours, and are sure, shape (r,)."""
        waiting_usd = self.waiting_hours * (self.checkpoints_usd_per_hour + self.objects_usd_per_hour)
        return self.transfer_usd + self.model_usd + self.kept_usd + waiting_usd

    @property
    def objects_usd_per_hour(self) -> Column:
        """Dollars an hour of the data set, and as many of its copy in the region of a run elsewhere, shape (r,)."""
        return self.object_usd_per_hour * np.where(self.transfer_usd > 0, 2.0, 1.0)

    @property
    def usd_per_hour(self) -> Column:
        """Dollars an hour of disks and object storage, shape (r,)."""
        return self.disks_usd_per_hour + self.objects_usd_per_hour


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
            machines: the machine of each run, columns `transfer_usd` and `model_route`, r rows.
            nodes: of each run, shape (r,).
            variant: of the job that each run trains, shape (r,).
            disks_usd_per_hour: see `SideCosts`, shape (r,).
            checkpoints_usd_per_hour: see `SideCosts`, shape (r,).
            waiting_hours: see `SideCosts`, shape (r,).
        """
        kept_usd = np.array([stored.kept_usd for stored in self.stored])
        reads_usd = self.stored[0].read_usd * nodes.astype(np.float64)
        return SideCosts(
            transfer_usd=machines["transfer_usd"].to_numpy().astype(np.float64),
            model_usd=self.routes.usd[machines["model_route"].to_numpy(), variant],
            kept_usd=kept_usd[variant] + reads_usd,
            disks_usd_per_hour=disks_usd_per_hour,
            checkpoints_usd_per_hour=checkpoints_usd_per_hour,
            waiting_hours=waiting_hours,
            object_usd_per_hour=self.stored[0].usd_per_hour,
        )
