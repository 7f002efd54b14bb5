"""Commands: each scores one table of measurements, or writes one set of coefficients."""
