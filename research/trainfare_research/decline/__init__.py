"""Backtest of the cost-decline models: forecasts of the past, simulated series, and the laws they are compared with."""
