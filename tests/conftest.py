"""Strict numerics for every test: float64, no silent promotion of rank or type."""

import os

os.environ["JAX_ENABLE_X64"] = "1"

import jax
from hypothesis import settings

# A busy machine is no failure: timings never decide a test.
settings.register_profile("sizing", deadline=None)
settings.load_profile("sizing")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

pytest_plugins = ["fixtures_kernels", "fixtures_postgres", "fixtures_pulsar"]
