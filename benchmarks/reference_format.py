"""Problems with certified optima, one `.npz` each, read into `Problem`.

Fields: `problem` (its name), `R` [T, N] simple returns, `mu`, `Sigma`; constraints `c_lo`, `c_hi`,
`c_smin`, `c_smax`, `c_sec` with `c_seclo` and `c_sechi`, `c_w0`, `c_tau` (turnover), `c_gross`;
parameters `gamma`, `cost`, `lam`, `beta`, `L_cdar`; the answer `obj_opt`, `w_opt` and `expect`.
What is missing, empty, infinite or NaN is not limited, except that risk parity is long-only and
fully invested.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compute.optimize.problem import (
    Array,
    Costs,
    DrawdownRisk,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
)

Kind = ObjectiveKind
Fields = Mapping[str, Any]

# In order: the first prefix that fits a lower-case problem name wins.
_NAMES: tuple[tuple[tuple[str, ...], Kind], ...] = (
    (("p1", "sharpe", "max_sharpe"), Kind.MAX_SHARPE),
    (("p2", "mvcost", "mv_utility_costs", "p8", "mv"), Kind.MEAN_VARIANCE),
    (("p3", "p4", "kelly", "rck", "risk_constrained"), Kind.LOG_GROWTH),
    (("p5", "cvar", "min_cvar"), Kind.MIN_CVAR),
    (("p6", "erc", "risk_parity"), Kind.RISK_BUDGET),
    (("p7_maxret", "maxret"), Kind.MAX_RETURN),
    (("p7_min_mdd", "mdd", "min_mdd"), Kind.MIN_MAX_DRAWDOWN),
    (("p7", "cdar", "min_cdar"), Kind.MIN_CDAR),
)


@dataclass(frozen=True)
class Reference:
    """One problem: where it is from, what is expected and the best objective known."""

    file: str
    name: str
    kind: str
    problem: Problem
    expect: str
    objective: float | None
    weights: Array | None


def load(path: Path) -> Reference:
    """Read one `.npz`; ValueError or KeyError says which field is missing or unknown."""
    return parse(path, _read(path))


def load_all(path: Path) -> list[Reference]:
    """Every problem of a file: one, or all that share the returns of `returns_*.npz`."""
    fields = _read(path)
    if "problem" in fields or "returns" not in fields:
        return [parse(path, fields)]
    listed = next(iter(path.parent.glob(f"{path.stem.removeprefix('returns_')}_objectives.json")))
    return _shared_returns(path, fields, json.loads(listed.read_text()))


def _read(path: Path) -> Fields:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _shared_returns(
    path: Path, fields: Fields, objectives: Mapping[str, Sequence[float]]
) -> list[Reference]:
    """The usual problems over one set of returns: objectives are {name: [value, gap]}."""
    size, upper = fields["returns"].shape[1], float(fields["u"])
    common = {"R": fields["returns"], "c_w0": fields["w0"], "c_lo": np.zeros(size)}
    common |= {"c_hi": np.full(size, upper), "c_smax": 1.0}
    sectors = {"c_sec": fields["sector"], "c_sechi": np.full(int(fields["sector"].max()) + 1, 0.35)}
    own: dict[str, Fields] = {
        "P1": {"c_smin": 1.0},
        "P2": {"c_smin": 0.0, "gamma": 5.0, "cost": 2e-4, **sectors},
        "P3": {"c_smin": 0.0},
        "P4": {"c_smin": 0.0},
        "P5": {"c_smin": 1.0, "beta": 0.95},
        "P7": {"c_smin": 1.0, "beta": 0.95, "L_cdar": fields["L_cdar"]},
        "P8": {"c_smin": 0.0, "gamma": 5.0, **sectors},
    }
    found = []
    for name, (value, *_) in objectives.items():
        problem = {"P7": "P7_maxret_cdar"}.get(name, name)
        label = path.with_name(f"{name}_{path.stem.removeprefix('returns_')}{path.suffix}")
        extra = {"problem": problem, "obj_opt": value}
        found.append(parse(label, {**common, **own[name], **extra}))
    return found


def parse(path: Path, fields: Fields) -> Reference:
    """The `Reference` of the raw fields of one file."""
    short = _text(fields["problem"]).lower()
    kind = _kind(short)
    scenarios = _array(fields, "R")
    mean, covariance = _array(fields, "mu"), _array(fields, "Sigma")
    if scenarios is not None and mean is None:
        mean = scenarios.mean(0)
    if scenarios is not None and covariance is None and len(scenarios) > 1:
        covariance = np.atleast_2d(np.cov(scenarios, rowvar=False))
    if mean is None and covariance is None:
        raise KeyError("the file has neither R nor mu and Sigma")
    size = len(mean) if mean is not None else len(covariance)  # type: ignore[arg-type]
    problem = Problem(
        objective=_objective(kind, fields),
        limits=_limits(kind, short, fields, size),
        costs=_costs(short, fields, size),
        mean=mean,
        covariance=covariance,
        scenarios=scenarios,
        holdings=_array(fields, "c_w0", size),
    )
    objective = _scalar(fields, "obj_opt")
    expect = _text(fields["expect"]) if "expect" in fields else "optimal"
    known = _array(fields, "w_opt")
    return Reference(path.name, path.stem, short, problem, expect, objective, known)


def _kind(short: str) -> Kind:
    for prefixes, kind in _NAMES:
        if short.startswith(prefixes):
            return kind
    raise ValueError(f"unknown problem {short!r}")


def _objective(kind: Kind, fields: Fields) -> Objective:
    aversion, tail = _scalar(fields, "gamma"), _scalar(fields, "beta")
    return Objective(
        kind,
        risk_aversion=5.0 if aversion is None else aversion,
        tail=0.95 if tail is None else tail,
    )


def _limits(kind: Kind, short: str, fields: Fields, size: int) -> Limits:
    lower, upper = _bound(fields, "c_lo", -np.inf, size), _bound(fields, "c_hi", np.inf, size)
    budget_min, budget_max = _finite(fields, "c_smin"), _finite(fields, "c_smax")
    if kind is Kind.RISK_BUDGET:
        lower = np.zeros(size) if lower is None else lower
        budget_min = 1.0 if "c_smin" not in fields else budget_min
        budget_max = 1.0 if "c_smax" not in fields else budget_max
    beta = _scalar(fields, "beta")
    return Limits(
        lower=lower,
        upper=upper,
        budget_min=budget_min,
        budget_max=budget_max,
        rows=_sectors(fields, size),
        gross_max=_finite(fields, "c_gross"),
        turnover_max=_finite(fields, "c_tau"),
        cdar_max=_finite(fields, "L_cdar") if kind is Kind.MAX_RETURN else None,
        cdar_tail=0.95 if beta is None else beta,
        drawdown_risk=_drawdown_risk(short, fields),
    )


def _drawdown_risk(short: str, fields: Fields) -> DrawdownRisk | None:
    if not short.startswith(("p4", "rck", "risk_constrained")):
        return None
    exponent = _scalar(fields, "lam")
    return DrawdownRisk(math.log(0.05) / math.log(0.9) if exponent is None else exponent)


def _costs(short: str, fields: Fields, size: int) -> Costs:
    if not short.startswith(("p2", "mvcost", "mv_utility_costs")):
        return Costs()
    cost = _array(fields, "cost", size)
    return Costs(linear=np.full(size, 2e-4) if cost is None else cost)


def _sectors(fields: Fields, size: int) -> Rows | None:
    sector = _array(fields, "c_sec")
    if sector is None or sector.size != size:
        return None
    lows, highs = _bound(fields, "c_seclo", -np.inf), _bound(fields, "c_sechi", np.inf)
    lows = np.empty(0) if lows is None else np.atleast_1d(lows)
    highs = np.empty(0) if highs is None else np.atleast_1d(highs)
    count = max(lows.size, highs.size)
    if count == 0:
        return None
    row_min, row_max = np.full(count, -np.inf), np.full(count, np.inf)
    row_min[: lows.size], row_max[: highs.size] = lows, highs
    matrix = (sector[None, :] == np.arange(count)[:, None]).astype(np.float64)
    return Rows(matrix, row_min, row_max, tuple(f"sector {k}" for k in range(count)))


def _array(fields: Fields, name: str, size: int | None = None) -> Array | None:
    if name not in fields:
        return None
    values = np.asarray(fields[name], dtype=np.float64)
    if size is not None:
        return None if values.size == 0 else np.broadcast_to(values, (size,)).copy()
    return values


def _bound(fields: Fields, name: str, absent: float, size: int | None = None) -> Array | None:
    """The same with NaN read as no bound."""
    values = _array(fields, name, size)
    return None if values is None else np.where(np.isnan(values), absent, values)


def _text(value: Any) -> str:
    """The one string of a field, whatever its type and shape."""
    text = np.asarray(value).reshape(-1)[0]
    return (text.decode() if isinstance(text, bytes) else str(text)).strip()


def _scalar(fields: Fields, name: str) -> float | None:
    if name not in fields or np.asarray(fields[name]).size != 1:
        return None
    value = float(np.asarray(fields[name], dtype=np.float64).reshape(()))
    return None if math.isnan(value) else value


def _finite(fields: Fields, name: str) -> float | None:
    value = _scalar(fields, name)
    return None if value is None or math.isinf(value) else value
