"""Compiled kernels of few and small shapes, once a run; programs are kept on disk between runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from compute.optimize.execution import Execution, JointShapes, Programs
from compute.optimize.kernels import joint_kernels
from compute.shapes import Kernel, KernelRegistry
from compute.waterfall.kernels import registry

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "kernels"

WATERFALLS = ((16, 8), (64, 8), (16, 64), (256, 8))
"""Buckets of lines and of groups that tests may use."""


def share_programs(folder: Path) -> None:
    """What processes of a service's work compile is kept in one place for all services of tests."""
    kept = CACHE.parent / "work"
    kept.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        folder.symlink_to(kept, target_is_directory=True)


@contextmanager
def kept_programs(folder: Path = CACHE) -> Iterator[None]:
    """Compiled programs are read from and written to `folder` inside the block."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
        "jax_persistent_cache_enable_xla_caches",  # with them a program is named by the path, too
    )
    before = {name: getattr(jax.config, name) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, value in zip(names, (str(folder), 0.0, -1, "none"), strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # it looks at its settings once
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def small(kernel: Kernel) -> Kernel:
    """The kernel for the shapes that tests use."""
    if kernel.name != "waterfall":
        return replace(kernel, shapes=kernel.shapes[:1])
    shapes = [shape for shape in kernel.shapes if (shape[0][-1], shape[3][-1]) in WATERFALLS]
    return replace(kernel, shapes=tuple(shapes))


JOINT = JointShapes(assets=(16,), scenarios=(64,))
"""Shapes of joint problems in tests."""


@pytest.fixture(scope="session")
def joint_programs() -> Programs:
    """The kernels of the tests, and with them every joint one for small books."""
    closed = [small(kernel) for kernel in registry().kernels]
    made = KernelRegistry([*closed, *joint_kernels(JOINT)])
    with kept_programs():
        made.compile()
    return Programs(made, JOINT)


@pytest.fixture(scope="session")
def ahead(joint_programs: Programs) -> Execution:
    """On programs that were compiled ahead, as in a service."""
    return Execution(programs=joint_programs)


@pytest.fixture(scope="session")
def kernels() -> KernelRegistry:
    """All kernels, compiled for 16 lines and a few larger waterfalls."""
    made = KernelRegistry([small(kernel) for kernel in registry().kernels])
    with kept_programs():
        made.compile()
    return made
