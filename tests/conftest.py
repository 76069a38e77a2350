"""Strict numerics for every test: float64, no silent promotion of rank or type."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the service; read by NumPy's import

import jax
import pytest
from hypothesis import settings

# A busy machine is no failure: timings never decide a test.
settings.register_profile("sizing", deadline=None)
settings.load_profile("sizing")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

pytest_plugins = ["tests.fixtures_kernels", "tests.fixtures_postgres", "tests.fixtures_pulsar"]

SLOW = (
    "tests/chaos/",
    "tests/clients/",
    "tests/compute/analytics/test_superior.py::test_one_good",
    "tests/compute/learn/test_network.py",
    "tests/compute/optimize/",
    "tests/compute/simulate/test_delisting.py::test_random_settings",
    "tests/compute/simulate/test_fast.py",
    "tests/compute/simulate/test_fast_rows.py",
    "tests/compute/simulate/test_honoured.py",
    "tests/compute/simulate/test_joint_backtest.py",
    "tests/compute/simulate/test_run_state.py",
    "tests/compute/test_pipeline_limits.py",
    "tests/server/calls/test_real_process.py",
    "tests/server/cli/test_learn_",
    "tests/server/cli/test_simulate_",
    "tests/server/fuzz/",
    "tests/server/jobs/test_jobs.py",
    "tests/server/learning/test_feature_store.py",
    "tests/server/learning/test_learning.py",
    "tests/server/learning/test_model_",
    "tests/server/learning/test_training_jobs.py",
    "tests/server/learning/test_training_options.py",
    "tests/server/limits/test_tail_limits.py",
    "tests/server/messaging/test_tenant_namespaces.py",
    "tests/server/reference/test_reference_floors.py",
    "tests/server/simulation/",
    "tests/storage/events/",
)
"""Files, and single tests, that `make test` leaves out: three quarters of the time of all tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


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
