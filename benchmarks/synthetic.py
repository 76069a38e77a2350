"""A synthetic universe of any size in the reference format, for sizes that are not kept here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reference_format import Reference, parse
from compute.optimize import measures
from compute.optimize.problem import Array

PERIODS = 1000
SECTORS = 5


def fat_tailed(rng: np.random.Generator, periods: int, size: int) -> Array:
    """Daily returns [periods, size]: three factors and own risk, Student t with 5 degrees."""
    loading = np.c_[rng.normal(1.0, 0.3, size), rng.normal(0.0, 0.5, (size, 2))]
    factor = rng.standard_t(5, (periods, 3)) * np.array([0.008, 0.004, 0.003])
    own = rng.standard_t(5, (periods, size)) * rng.uniform(0.005, 0.02, size)
    returns: Array = factor @ loading.T + own + rng.uniform(2e-4, 1.2e-3, size)
    return np.maximum(returns, -0.5)


def universe(size: int, seed: int = 7) -> list[Reference]:
    """Every reference problem over 1,000 fat-tailed daily returns of `size` assets.

    Volatilities of 1 to 3 % a day, means of 2 to 12 basis points (`fat_tailed`); bounds and limits
    as in the supplied files.
    """
    rng = np.random.default_rng(seed)
    returns = fat_tailed(rng, PERIODS, size)
    equal = np.full(PERIODS, 1.0 / PERIODS)
    cap = measures.cdar(returns.mean(1), equal, 0.95)[0]
    common: dict[str, Any] = {"R": returns, "c_w0": rng.dirichlet(np.ones(size))}
    common |= {"c_lo": np.zeros(size), "c_hi": np.full(size, max(0.1, 4.0 / size)), "c_smax": 1.0}
    sectors = {"c_sec": np.arange(size) % SECTORS, "c_sechi": np.full(SECTORS, 0.35)}
    invested = {"c_smin": 1.0, "beta": 0.95}
    cash = {"c_smin": 0.0}
    own_fields: dict[str, dict[str, Any]] = {
        "P1": invested,
        "P2": cash | sectors | {"gamma": 5.0, "cost": 2e-4},
        "P3": cash,
        "P3L": {"c_smin": 0.0, "c_smax": 3.0, "c_hi": np.ones(size)},
        # Prob(wealth ever below 95 %) <= 5 %: tight enough to bind on these means.
        "P4": cash | {"lam": math.log(0.05) / math.log(0.95)},
        "P5": invested,
        "P6": {"c_smin": 1.0, "c_hi": np.ones(size)},
        "P7_maxret_cdar": invested | {"L_cdar": cap},
        "P7_min_cdar": invested,
        "P7_min_mdd": invested,
        "P8": cash | sectors | {"gamma": 5.0},
    }
    return [
        parse(Path(f"{code}_S{size}.npz"), {**common, **fields, "problem": code})
        for code, fields in own_fields.items()
    ]
