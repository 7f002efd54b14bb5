"""A recommendation as a terminal table, Markdown, a self-contained HTML page, and JSON: one module a format."""
