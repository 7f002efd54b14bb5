"""Runners that score predictions against measured tables, and the scripts that fit and document them."""
