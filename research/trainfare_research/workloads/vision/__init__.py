"""Networks for images of the measured tables."""
