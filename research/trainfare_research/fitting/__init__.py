"""Scripts that fit the shipped coefficients, and the measured rows they read."""
