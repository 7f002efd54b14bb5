"""Hugging Face's Trainer behind the meter and the fake step: `FareMeter` is its callback."""

from trainfare.huggingface.callback import FareMeter as FareMeter
