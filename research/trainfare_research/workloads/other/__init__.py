"""Sound, graphs, tables and other workloads of the measured tables."""
