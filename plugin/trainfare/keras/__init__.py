"""Keras 3 behind the meter and the fake step: `FareMeter` is a callback of `Model.fit`."""

from trainfare.keras.callback import FareMeter as FareMeter
