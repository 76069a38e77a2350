"""The kernel's answer on the host: one packed vector (`kernel.pack`), taken apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compute.optimize.problem import Array
from compute.optimize.solver.model import Data
from compute.optimize.solver.newton import pieces, sizes


@dataclass(frozen=True)
class Answer:
    """The kernel's vector taken apart, on the host; see `kernel.pack` for what is in it."""

    w: Array
    gradient: Array
    y: Array
    z: Array
    e: Array
    errors: Array  # f64[3], see `interior.error`
    iterations: Array
    scale: Array  # f64[1]

    @property
    def error(self) -> Array:
        """The largest of the errors."""
        return np.asarray(self.errors.max(axis=-1))


def unpack(data: Data, vector: Array) -> Answer:
    """The parts of a packed vector, `data` giving the lengths."""
    n, m, k = data.lower.shape[-1], data.rows.shape[-2], sum(sizes(data))
    lengths = (n, n, m, k, 0 if data.price is None else k, 3, 1, 1)
    w, gradient, y, z, e, errors, iterations, scale = pieces(vector, lengths)
    return Answer(w, gradient, y, z, e, errors, iterations[..., 0], scale)
