"""The report of `trainfare strategy`."""
