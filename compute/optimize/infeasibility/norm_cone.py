"""The Euclidean norm in linear programs, to a stated accuracy.

|x| <= t in the plane is a disc; turning x by ever smaller angles and folding it back covers the
disc with a regular polygon of 2^(STAGES + 1) sides at a cost of two variables a turn (Ben-Tal and
Nemirovski 2001). More dimensions are a tree of such pairs. The polygon is outside the disc: the
norm is understated by a factor of at most cos(pi / 2^(STAGES + 1)) per level of the tree.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import sparse

from compute.optimize.linear_program import Builder

Matrix = npt.NDArray[np.float64]

STAGES = 12


def add_norm(builder: Builder, key: str, matrix: Matrix) -> str:
    """Add columns `key.*` so that one of them is >= |matrix @ weights|; returns its name.

    matrix [k, n]. Uses about 26 k variables and 39 k rows.
    """
    part = f"{key}.0"
    builder.columns(part, len(matrix), -np.inf, np.inf)
    eye = sparse.identity(len(matrix), format="coo")
    builder.rows(f"{key}.factor", {"weights": matrix, part: -eye}, 0.0, 0.0)
    level, count = 0, len(matrix)
    while count > 1 or level == 0:
        level += 1
        above = f"{key}.{level}"
        count = _add_pairs(builder, part, above, count)
        part = above
    return part


def _add_pairs(builder: Builder, part: str, above: str, count: int) -> int:
    """`above`[j] >= norm of (part[2j], part[2j + 1]), the last alone if count is odd."""
    pairs = (count + 1) // 2
    builder.columns(above, pairs, 0.0, np.inf)
    rows, eye = np.arange(pairs), sparse.identity(pairs, format="coo")
    first = sparse.coo_array((np.ones(pairs), (rows, 2 * rows)), shape=(pairs, count))
    whole = rows[2 * rows + 1 < count]
    second = sparse.coo_array((np.ones(len(whole)), (whole, 2 * whole + 1)), shape=(pairs, count))
    x, y = f"{above}.x0", f"{above}.y0"
    for name, pick in ((x, first), (y, second)):
        builder.columns(name, pairs, 0.0, np.inf)
        builder.rows(f"{name}.up", {name: eye, part: -pick}, 0.0, np.inf)
        builder.rows(f"{name}.down", {name: eye, part: pick}, 0.0, np.inf)
    for stage in range(1, STAGES + 1):
        angle = math.pi / 2 ** (stage + 1)
        cos, sin = math.cos(angle) * eye, math.sin(angle) * eye
        next_x, next_y = f"{above}.x{stage}", f"{above}.y{stage}"
        builder.columns(next_x, pairs, 0.0, np.inf)
        builder.columns(next_y, pairs, 0.0, np.inf)
        builder.rows(f"{next_x}.turn", {next_x: eye, x: -cos, y: -sin}, 0.0, 0.0)
        builder.rows(f"{next_y}.up", {next_y: eye, x: sin, y: -cos}, 0.0, np.inf)
        builder.rows(f"{next_y}.down", {next_y: eye, x: -sin, y: cos}, 0.0, np.inf)
        x, y = next_x, next_y
    builder.rows(f"{above}.length", {above: eye, x: -eye}, 0.0, np.inf)
    slope = math.tan(math.pi / 2 ** (STAGES + 1)) * eye
    builder.rows(f"{above}.fold", {x: slope, y: -eye}, 0.0, np.inf)
    return pairs
