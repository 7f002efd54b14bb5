"""The ledger: what runs were predicted to take and cost, and what they took."""
