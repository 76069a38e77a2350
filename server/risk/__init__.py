"""Histories, matrices estimated from them, risk reports and stress."""
