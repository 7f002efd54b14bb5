"""Training strategies of a real module: plan, question file, module changes, pilot curves."""
