"""Alias of `trainfare.meter`, kept until 0.2 for scripts and checkpoints that name the old module."""

from trainfare.meter import FareMeter as FareMeter
