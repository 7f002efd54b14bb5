"""Loops of plain PyTorch, Lightning Fabric and Accelerate behind the meter: `with FareMeter.loop(...) as meter`."""

from trainfare.plain_loop.loop_meter import FareMeter as FareMeter
