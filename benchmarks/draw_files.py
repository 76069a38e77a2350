"""Problems drawn at random in the format of `reference_format`, as strangers would write them.

Any constraint may come with any problem, in any of the ways in which a file can say it (missing,
empty, infinite, NaN, 0-d, single precision, integers). Nothing is feasible by construction: whether
a portfolio exists is asked of an independent linear program (`conflicts`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conflicts import exists
from benchmarks.draw import Drawn
from benchmarks.reference_format import parse
from benchmarks.synthetic import fat_tailed
from compute.optimize.problem import Array

Rng = np.random.Generator
Fields = dict[str, Any]

NAMES = ("sharpe", "mvcost", "mv", "kelly", "rck", "cvar", "erc", "cdar", "mdd", "maxret_cdar")
SIZES = ((1, 3), (4, 20), (21, 60))
PERIODS = (2, 20, 60, 250, 500)
MARKETS = (
    "duplicated",
    "constant column",
    "zero column",
    "negative means",
    "tiny returns",
    "huge returns",
    "few periods",
    "one period",
    "singular covariance",
    "moments only",
    "monthly",
)
CONSTRAINTS = (
    "box",
    "shorts",
    "budget",
    "equal budget",
    "sectors",
    "turnover",
    "gross",
    "leverage",
)
ODD = ("tight", "single precision", "fixed", "cost vector", "unheld", "infinite")
_NEEDS_R = ("kelly", "rck", "cvar", "cdar", "mdd", "maxret_cdar")
_NEEDS_COVARIANCE = ("sharpe", "mvcost", "mv", "erc")


def draw_file(seed: int) -> Drawn:
    """The problem of a seed, read through `reference_format.parse`."""
    rng = np.random.default_rng(seed)
    name = NAMES[seed % len(NAMES)]
    low, high = SIZES[rng.integers(len(SIZES))]
    size = int(rng.integers(low, high + 1))
    market = {str(x) for x in rng.choice(MARKETS, rng.choice([0, 1, 2]), replace=False)}
    market -= {"one period"} if name in _NEEDS_COVARIANCE else set()
    market -= {"moments only"} if name in _NEEDS_R else set()
    market -= {"constant column", "zero column"} if name == "erc" else set()
    asked = {str(x) for x in rng.choice(CONSTRAINTS, rng.integers(1, 6), replace=False)}
    odd = {str(x) for x in rng.choice(ODD, rng.choice([0, 1, 2]), replace=False)}
    fields: Fields = {"problem": np.array(name)}
    fields |= _market(rng, name, size, market)
    if name != "erc" or rng.random() < 0.3:
        fields |= _constraints(rng, size, asked, odd, erc=name == "erc")
    else:
        asked, odd = set(), odd & {"single precision"}
    fields |= _parameters(rng, name, size, fields, odd)
    if "single precision" in odd:
        fields = {k: np.float32(v) if _real(v) else v for k, v in fields.items()}
    problem = parse(Path(f"{name}_{seed}.npz"), fields).problem
    features = (name, *sorted(market), *sorted(asked), *sorted(odd))
    return Drawn(seed, problem, features, exists(problem), explained=True)


def _real(value: Any) -> bool:
    return bool(np.asarray(value).dtype.kind == "f")


def _market(rng: Rng, name: str, size: int, market: set[str]) -> Fields:
    periods = int(rng.choice(PERIODS))
    if "few periods" in market:
        periods = max(size // 2, 2)
    if "one period" in market:
        periods = 1
    returns = fat_tailed(rng, periods, size)
    if "monthly" in market:
        returns = np.maximum(returns * 4.5, -0.9)
    if "duplicated" in market:
        returns[:, rng.integers(0, size, max(size // 3, 1))] = returns[:, :1]
    if "constant column" in market:
        returns[:, rng.integers(size)] = rng.choice([-1e-4, 1e-5, 5e-4])
    if "zero column" in market:
        returns[:, rng.integers(size)] = 0.0
    if "negative means" in market:
        returns -= returns.mean(0) + rng.uniform(1e-4, 2e-3, size)
    if "tiny returns" in market:
        returns *= 1e-5
    if "huge returns" in market and name not in ("kelly", "rck"):
        returns *= 1e4
    if periods < 2 and name in _NEEDS_COVARIANCE:
        returns = np.vstack([returns, -0.5 * returns])
    fields: Fields = {"R": returns}
    if "singular covariance" in market:
        loading = returns[: max(min(size, periods) // 3, 1)]
        root = loading.T @ loading / len(loading)
        if name == "erc":
            root += 1e-6 * np.trace(root) * np.eye(size)
        fields |= {"mu": returns.mean(0), "Sigma": root}
    if name == "erc":
        fields = _positive(fields)
    if "moments only" in market:
        sigma = np.atleast_2d(np.cov(fields["R"], rowvar=False))
        fields = {"mu": returns.mean(0), "Sigma": fields.get("Sigma", sigma)}
    return fields


def _positive(fields: Fields) -> Fields:
    """Risk shares need a variance for every name; constant histories get a little."""
    if "Sigma" in fields:
        return fields
    returns = fields["R"]
    flat = returns.std(0) == 0.0
    returns[0, flat] += 1e-3
    if len(returns) > returns.shape[1]:
        return fields
    # With so few periods long positions may cancel all risk, and none can share it.
    sigma = np.atleast_2d(np.cov(returns, rowvar=False))
    return fields | {"Sigma": sigma + 1e-6 * np.trace(sigma) * np.eye(len(sigma))}


def _constraints(rng: Rng, size: int, asked: set[str], odd: set[str], *, erc: bool) -> Fields:
    """Bounds around nothing in particular: some conflict, some do not matter, some are tight."""
    anchor = rng.dirichlet(np.full(size, rng.choice([0.3, 3.0])))
    if "shorts" in asked:
        anchor *= rng.choice([-1.0, 1.0], size, p=[0.3, 0.7])
    if "leverage" in asked:
        anchor *= 3.0
    room = 0.0 if "tight" in odd else float(rng.choice([0.02, 0.3, 1.0]))
    room += float(rng.choice([0.0, 0.0, 0.0, 1e-9, -1e-7, -1e-3]))
    fields: Fields = {
        "c_lo": np.zeros(size),
        "c_smax": np.float64(3.0 if "leverage" in asked else 1.0),
    }
    if "box" in asked:
        fields["c_hi"] = np.maximum(anchor, 0.0) + room * rng.uniform(0.0, 1.0, size)
    elif "infinite" not in odd:
        fields["c_hi"] = np.full(size, rng.choice([0.1, 0.4, 1.0, 4.0 / size]))
    if "shorts" in asked:
        fields["c_lo"] = np.minimum(anchor, 0.0) - room * rng.uniform(0.0, 1.0, size)
    if "fixed" in odd:
        some = rng.integers(0, size, max(size // 4, 1))
        high = fields.setdefault("c_hi", np.ones(size))
        fields["c_lo"][some] = high[some] = anchor[some]
    total = float(anchor.sum())
    if "budget" in asked:
        fields |= {"c_smin": np.float64(total - room), "c_smax": np.float64(total + room)}
    if "equal budget" in asked:
        fields |= {"c_smin": np.float64(total), "c_smax": np.float64(total)}
    if erc:  # equal shares of risk leave no choice: only what does not cut them off
        fields = {"c_lo": np.zeros(size), "c_smin": 1.0, "c_smax": 1.0, "c_hi": np.ones(size)}
        return fields | {"c_gross": np.float64(1.5), "c_w0": anchor} | _nothing(rng, odd)
    held = anchor + rng.normal(0.0, 0.5 / size, size) * rng.integers(0, 2, size)
    if "unheld" not in odd:
        fields["c_w0"] = held
    if "turnover" in asked:
        away = np.abs(anchor - (0.0 if "unheld" in odd else held)).sum()
        fields["c_tau"] = np.float64(away + room * rng.choice([0.3, 1.0]))
    if "gross" in asked:
        fields["c_gross"] = np.float64(np.abs(anchor).sum() + room)
    if "sectors" in asked:
        fields |= _sectors(rng, anchor, room)
    return fields | _nothing(rng, odd)


def _nothing(rng: Rng, odd: set[str]) -> Fields:
    """The ways to say that a limit is absent."""
    if "infinite" not in odd:
        return {}
    none = [np.array(np.inf), np.float64(np.nan), np.zeros(0)]
    return {"c_tau": none[rng.integers(2)], "c_gross": none[0], "c_seclo": none[2]}


def _sectors(rng: Rng, anchor: Array, room: float) -> Fields:
    count = int(rng.integers(1, 6))
    sector = rng.integers(0, count, len(anchor))
    value = np.array([anchor[sector == k].sum() for k in range(count)])
    low, high = value - room, value + 0.3 * room
    if rng.random() < 0.2:
        low = high = value
    drop = rng.integers(3)
    found: Fields = {"c_sec": sector if rng.random() < 0.5 else sector.astype(float)}
    if drop != 0:
        found["c_seclo"] = np.where(rng.random(count) < 0.3, -np.inf, low)
    if drop != 1:
        found["c_sechi"] = np.where(rng.random(count) < 0.3, np.inf, high)
    return found


def _parameters(rng: Rng, name: str, size: int, fields: Fields, odd: set[str]) -> Fields:
    found: Fields = {}
    if name in ("mv", "mvcost"):
        found["gamma"] = np.float64(rng.choice([0.0, 1.0, 5.0, 50.0]))
    if name == "mvcost":
        found["cost"] = np.float64(rng.choice([0.0, 2e-4, 5e-3]))
        if "cost vector" in odd:
            found["cost"] = rng.uniform(0.0, 1e-3, size)
    if name == "rck":
        found["lam"] = np.float64(math.log(0.05) / math.log(rng.choice([0.7, 0.9, 0.97])))
    if name in ("cvar", "cdar", "maxret_cdar"):
        found["beta"] = np.float64(rng.choice([0.5, 0.9, 0.95, 0.99]))
    if name == "maxret_cdar":
        scale = float(np.abs(fields["R"]).mean())
        found["L_cdar"] = np.float64(scale * rng.choice([0.1, 1.0, 4.0, 12.0]))
    return found
