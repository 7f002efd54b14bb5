"""The clouds: their services, regions and habits, and where a region lies."""

from __future__ import annotations

from trainfare_core.clouds.facts import (
    CLOUDS,
    HOURS_PER_MONTH,
    INTERRUPTION_BANDS,
    OTHER_STARTUP_S,
    SERVICES,
    SYSTEM_DISK_GIB,
    Cloud,
    CloudService,
    pip_extra,
    pricing_service,
    service_label,
    service_startup_s,
)

__all__ = [
    "CLOUDS",
    "HOURS_PER_MONTH",
    "INTERRUPTION_BANDS",
    "OTHER_STARTUP_S",
    "SERVICES",
    "SYSTEM_DISK_GIB",
    "Cloud",
    "CloudService",
    "pip_extra",
    "pricing_service",
    "service_label",
    "service_startup_s",
]
