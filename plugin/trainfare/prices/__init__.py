"""Which prices an answer uses: sources, lock files, the user's own prices, constraints, verification."""
