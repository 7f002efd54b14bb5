"""Clocks of one fit: steps, CUDA events, validation, profiler phases, and the other ranks."""
