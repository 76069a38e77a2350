"""Correlations: estimated from histories, repaired, clustered, and taken out of sizes.

`estimate.py` is where to start reading: it names every estimator.
"""
