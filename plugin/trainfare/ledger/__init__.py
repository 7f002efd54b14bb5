"""The ledger of this user or team: a folder with one small file a run."""
