"""Spot machines as a process: how often they are taken back, and what a run that saves its state takes then."""
