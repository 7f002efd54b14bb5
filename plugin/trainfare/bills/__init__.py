"""Files of a bill on disks and in buckets."""
