"""Where prices come from: one cloud, one file, and the dated snapshot that works offline."""
