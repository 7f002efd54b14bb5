"""Timing and state of a metered run: a few steps of a training are measured, and the whole run is priced."""
