"""Files: atomic writes, bounded reads, checksums, the price cache."""
