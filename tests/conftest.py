"""Strict numerics for every test: float64, no silent promotion of rank or type."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"

import jax
import pytest
from hypothesis import settings

# A busy machine is no failure: timings never decide a test.
settings.register_profile("sizing", deadline=None)
settings.load_profile("sizing")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

pytest_plugins = ["fixtures_kernels", "fixtures_postgres", "fixtures_pulsar"]

MAPS_MAX = 15_000
"""Of the 65,530 memory maps that Linux gives a process, a compiled program takes a dozen or more.

One file of tests takes up to 16,000; with none left, XLA ends the process by a segmentation fault.
"""


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Where many programs were compiled along the way, they are forgotten after a file of tests."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPS_MAX:
        jax.clear_caches()
        gc.collect()
