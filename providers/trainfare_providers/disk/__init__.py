"""The only way onto the disk: atomic writes, bounded reads, checksums, the price cache."""
