"""Benchmarks of our own speed and memory."""
