"""Measurements of the service against its peers, on the same data in the same run."""

import os

# Matrices of this size lose more to the waiting threads of a busy machine than they gain; NumPy
# peers (SLSQP above all) are up to ten times faster so. Must be set before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax

jax.config.update("jax_enable_x64", True)
