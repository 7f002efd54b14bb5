"""Time of collectives between devices and between machines."""
