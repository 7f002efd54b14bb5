"""Language models of the measured tables."""
