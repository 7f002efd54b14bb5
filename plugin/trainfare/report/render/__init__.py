"""Renderers: each shows a list of blocks in one format, escapes every text once, and knows nothing else of a report."""
