"""The only way out to the network: deadlines, size limits, redirects, retries, strict JSON."""
