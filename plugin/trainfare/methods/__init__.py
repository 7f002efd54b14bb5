"""Training methods of a real module: request, plan, module changes, pilot curves."""
