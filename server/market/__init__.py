"""Prices: what may not be sized on, corporate actions, volatility models."""
