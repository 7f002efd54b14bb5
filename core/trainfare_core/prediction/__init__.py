"""Stage 4: how long one optimizer step takes on a machine, how much memory it needs, and how sure that is."""

from __future__ import annotations

from trainfare_core.prediction.engine import predict
from trainfare_core.prediction.machine import MachinePrediction, predict_machine
from trainfare_core.prediction.table import PredictionTable

__all__ = ["MachinePrediction", "PredictionTable", "predict", "predict_machine"]
