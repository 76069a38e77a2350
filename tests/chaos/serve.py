"""`sizing serve` with the kernels of the smallest shapes alone, so that a start takes seconds.

Everything else is the server as it is. `make chaos` runs the command itself (CHAOS_COMMAND).
"""

import dataclasses
import sys

import server.app
from compute.shapes import KernelRegistry
from compute.waterfall.kernels import registry
from server.cli import app


def smallest() -> KernelRegistry:
    """Every kernel, for its first shape."""
    return KernelRegistry(
        [dataclasses.replace(kernel, shapes=kernel.shapes[:1]) for kernel in registry().kernels]
    )


if __name__ == "__main__":
    server.app.registry = smallest
    server.app.joint_kernels = lambda shapes: []
    sys.argv = ["sizing", *sys.argv[1:]]
    app()
