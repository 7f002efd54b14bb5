"""Runs at a price: requests, limits, machines, spot, budgets and what lies beside the machine hours."""
