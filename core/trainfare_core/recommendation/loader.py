"""`LoaderFacts`: what the loader of a plan takes beside its devices, where its rate is known or was published."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainfare_core.documents import Count, Finite, Record
from trainfare_core.job_profile import InputKind
from trainfare_core.number_format import figures, percent


class LoaderFacts(Record):
    """The loader of a plan: its rate on this machine, and what more workers would give."""

    basis: Literal["stated", "measured", "published"] = Field(description="where its rate comes from")
    kind: InputKind | None = Field(default=None, description="of its input; None: not known")
    decides: bool = Field(description="loading a step's samples takes longer than computing it")
    workers: Count | None = Field(description="of one device; None: one on each vCPU")
    vcpus: Finite | None = Field(description="for one device; None: not known")
    samples_per_s_per_vcpu: Finite | None = Field(description="that it makes here; None: not known")
    slowest_per_s_per_vcpu: Finite | None = Field(
        default=None, description="the same at the slowest published rate"
    )
    fastest_per_s_per_vcpu: Finite | None = Field(
        default=None, description="the same at the fastest published rate"
    )
    more_workers: Count | None = Field(
        default=None,
        description="twice as many, or one on each vCPU where there are none; None: all vCPUs load",
    )
    step_ratio_with_more: Finite | None = Field(
        default=None, description="the step with them over the step as it is"
    )
    step_ratio_at_fastest: Finite | None = Field(
        default=None, description="the step at the fastest published rate over the step as it is"
    )

    def describe(self, machine: str, needed_per_s: float | None) -> str:
        """
        Return a sentence on a loader that decides; "" where it does not.

        Args:
            machine: its name.
            needed_per_s: samples that each vCPU must make a second to keep up; None: not known.
        """
        if not self.decides:
            return ""
        vcpus = f"{self.vcpus:g} vCPUs" if self.vcpus else "vCPUs that are not known"
        who = f"its {vcpus}" if self.workers is None else f"{self.workers} workers for {vcpus}"
        who = f"no workers beside {vcpus}" if self.workers == 0 else who
        rate, why = "", ""
        if self.samples_per_s_per_vcpu is not None:
            rate = f" load {figures(self.samples_per_s_per_vcpu)} samples a second per vCPU"
            if self.basis == "published" and self.slowest_per_s_per_vcpu and self.fastest_per_s_per_vcpu:
                low, high = self.slowest_per_s_per_vcpu, self.fastest_per_s_per_vcpu
                why = f" ({self.kind} were not measured; published: {figures(low)} to {figures(high)})"
        needed = "" if needed_per_s is None else f", {figures(needed_per_s)} would keep up"
        return f"The loader decides on {machine}: {who}{rate}{why}{needed}{self._describe_more()}."

    def _describe_more(self) -> str:
        if self.more_workers is None or self.step_ratio_with_more is None:
            return ""
        less = 1 - self.step_ratio_with_more
        if less < 0.01:
            return f"; {self.more_workers} workers would not help"
        return f"; with {self.more_workers} workers a step takes {percent(less)} less"
