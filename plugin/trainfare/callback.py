"""Alias of `trainfare.lightning`, kept until 0.2 for scripts and checkpoints that name the old module."""

from trainfare.lightning import FareMeter as FareMeter
