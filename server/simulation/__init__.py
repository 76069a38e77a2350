"""Backtests, searches of parameters and simulated futures, here and on a cluster."""
