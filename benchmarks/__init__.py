"""Runners that measure the speed, the memory and the overhead of the product."""
