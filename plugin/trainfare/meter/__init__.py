"""The `FareMeter` callback and what it needs while a Trainer fits."""
