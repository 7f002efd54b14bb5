"""Alias of `trainfare.meter.callback`, kept until 0.2 for scripts and checkpoints that name the old module."""

from trainfare.meter.callback import FareMeter as FareMeter
