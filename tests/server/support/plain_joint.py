"""A joint sizing request drawn at random, read plainly: its limits, and its optimum by cvxpy.

Nothing of the service's own arithmetic is used: a book is weights of equity, as the contract says.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import cvxpy as cp
import numpy as np
from positionsizing.v1 import limits_pb2, types_pb2
from positionsizing.v1 import market_service_pb2 as Kind
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.support.service_client import INSTRUMENTS

Floats = np.ndarray[Any, Any]
Joint = limits_pb2.JointLimits
TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11, "max_iter": 300}
OBJECTIVES = ("LOG_GROWTH", "MEAN_VARIANCE", "MIN_VARIANCE", "MIN_CVAR", "MAX_RETURN", "CRRA")
ON_SCENARIOS = ("MIN_CVAR", "CRRA")
WRITTEN = (0.2, 0.4, 1.0, 1e4, 1e6, 1e9)


@dataclass
class Book:
    """n lines of 6 instruments; what is held, wanted and limited, as fractions of equity.

    form: what the joint method gets: scenarios, scenarios and expected returns, or a covariance and
    expected returns. limits: as in `Limits`; what is absent is not limited.
    """

    lines: int
    side: Floats
    held: Floats
    form: str
    objective: str
    kelly: float
    rate: float
    cost: float
    expected: Floats
    returns: Floats
    limits: dict[str, Any] = field(default_factory=dict)
    joint: dict[str, Any] = field(default_factory=dict)

    @property
    def equity_cash(self) -> float:
        """Cash, of an equity of one."""
        return float(1.0 - self.held.sum())


def drawn(seed: int) -> Book:
    """The book of a seed: every part is there or not."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    short = rng.random() < 0.5
    side = np.where(short & (rng.random(n) < 0.4), -1.0, 1.0)
    held = np.zeros(6)
    has_held = rng.random() < 0.4
    if has_held:
        held = rng.uniform(0.0, 0.1, 6) * (rng.random(6) < 0.5)
        if short:
            held[:n] *= side
    form = str(rng.choice(["scenarios", "both", "covariance"]))
    names = [name for name in OBJECTIVES if form != "covariance" or name not in ON_SCENARIOS]
    objective = str(rng.choice(names)) if rng.random() < 0.5 else "LOG_GROWTH"
    returns = 0.02 * rng.standard_normal((40, 6)) + rng.normal(0.002, 0.003, 6)
    book = Book(
        lines=n,
        side=side,
        held=held,
        form=form,
        objective=objective,
        kelly=float(rng.choice([0.5, 1.0])),
        rate=float(rng.choice([0.0, 5e-4])),
        cost=float(rng.choice([0.0, 2e-4])),
        expected=np.abs(rng.normal(0.003, 0.003, n)),
        returns=returns,
    )

    def maybe(name: str, chance: float, *values: float) -> None:
        if rng.random() < chance:
            book.limits[name] = float(rng.choice(values))

    maybe("weight_max", 0.5, *WRITTEN)
    maybe("leverage_max", 0.4, 0.3, 0.6)
    maybe("net_weight_max", 0.3, 0.2, 0.5, 1e6)
    maybe("net_weight_min", 0.2, -0.2, 0.1, 0.4)
    if book.limits.get("net_weight_min", -1.0) > book.limits.get("net_weight_max", 1.0):
        del book.limits["net_weight_max"]  # refused when it is stored
    maybe("turnover_max", 0.3, 0.1, 0.5, 1e6)
    book.limits["allow_short"] = bool(short)
    if has_held:
        # What a sale frees, and when, is asked elsewhere: here cash is plenty.
        book.limits["leverage_max"] = min(book.limits.get("leverage_max", 0.4), 0.4)
    if rng.random() < 0.3:
        book.limits["group"] = (float(rng.choice([0.1, 0.3, 1e6])), ["I0", "I1", "I4"])
    if rng.random() < 0.3:
        book.joint["volatility_max"] = float(rng.choice([2e-3, 8e-3]))
    if rng.random() < 0.3 and form != "covariance":
        book.joint["cvar_max"] = float(rng.choice([4e-3, 2e-2]))
    if rng.random() < 0.4:
        row = rng.normal(size=n)
        bound = float(rng.choice([0.02, 0.2]))
        soft = float(rng.choice([1e-3, 1e-1])) if rng.random() < 0.3 else None
        book.joint["row"] = (row, bound, soft)
    return book


def objective_of(book: Book) -> pb.Objective | None:
    """What the parameters name; None: growth at the Kelly fraction."""
    if book.objective == "LOG_GROWTH":
        return None
    kind = pb.ObjectiveKind.Value(f"OBJECTIVE_KIND_{book.objective}")
    aversion = {"MEAN_VARIANCE": 20.0, "CRRA": 3.0}.get(book.objective)
    return pb.Objective(kind=kind, risk_aversion=aversion)


def limits_of(book: Book) -> limits_pb2.Limits:
    """The limits as a message."""
    given = {name: value for name, value in book.limits.items() if name != "group"}
    message = limits_pb2.Limits(**{"cash_buffer": 0.0, **given})
    if "group" in book.limits:
        most, members = book.limits["group"]
        message.groups.add(name="some", instrument_ids=members, gross_weight_max=most)
    for name in ("volatility_max", "cvar_max"):
        if name in book.joint:
            setattr(message.joint, name, book.joint[name])
    if "row" in book.joint:
        row, bound, soft = book.joint["row"]
        message.joint.linear.add(
            name="row",
            instrument_ids=INSTRUMENTS[: book.lines],
            coefficients=row,
            upper=bound,
            soft_price=soft,
        )
    return message


def mean_of(book: Book) -> Floats:
    """Expected returns over the rate of holding each line's instrument, by its side, (n,)."""
    n = book.lines
    if book.form == "scenarios":
        return book.returns[:, :n].mean(axis=0) - book.side * book.rate
    return book.side * (book.expected - book.rate)


def scenarios_of(book: Book) -> Floats:
    """Scenarios of all instruments, those of lines with an expected return moved to it, (T, 6)."""
    out = book.returns.copy()
    if book.form == "both":
        n = book.lines
        out[:, :n] += book.side * book.expected - out[:, :n].mean(axis=0)
    return out


def covariance_of(book: Book) -> Floats:
    """Of the returns, unbiased."""
    out: Floats = np.cov(book.returns.T)
    return out


def excess_scenarios(book: Book) -> Floats:
    """Scenarios less what each position has to beat."""
    side = np.where(book.held < 0.0, -1.0, 1.0)
    side[: book.lines] = book.side
    out: Floats = scenarios_of(book) - book.rate * side
    return out


def utility(book: Book, weights: Any, log: Any, square: Any, worst: Any) -> tuple[Any, bool]:
    """The objective of weights (6,), and whether it is maximised; by the functions given."""
    n, cost = book.lines, 0.0
    if book.cost:
        traded = weights[:n] - book.held[:n]
        cost = book.cost * (cp.norm1(traded) if isinstance(weights, cp.Expression) else 0.0)
        if not isinstance(weights, cp.Expression):
            cost = book.cost * float(np.abs(traded).sum())
    mean = np.zeros(6)
    mean[:n] = mean_of(book)
    if book.form != "covariance":
        mean[n:] = excess_scenarios(book)[:, n:].mean(axis=0)
    else:
        mean[n:] = -book.rate * np.where(book.held[n:] < 0.0, -1.0, 1.0)
    name = book.objective
    if name == "LOG_GROWTH" and book.form == "covariance":
        return mean @ weights - 0.5 / book.kelly * square(weights) - cost, True
    if name == "LOG_GROWTH":
        rho = 1.0 / book.kelly
        return log(1.0 + book.rate + excess_scenarios(book) @ weights, rho) - cost, True
    if name == "CRRA":
        return log(1.0 + book.rate + excess_scenarios(book) @ weights, 3.0) - cost, True
    if name == "MEAN_VARIANCE":
        return mean @ weights - 10.0 * square(weights) - cost, True
    if name == "MAX_RETURN":
        return mean @ weights - cost, True
    if name == "MIN_VARIANCE":
        return square(weights) + cost, False
    return worst(-book.returns @ weights) + cost, False


def value(book: Book, weights: Floats) -> tuple[float, bool]:
    """The objective in plain arithmetic, with the price of a soft row."""

    def log(wealth: Floats, rho: float) -> float:
        if wealth.min() <= 0.0:
            return float("-inf")
        if rho == 1.0:
            return float(np.log(wealth).mean())
        return float(np.expm1((1.0 - rho) * np.log(wealth)).mean() / (1.0 - rho))

    def worst(losses: Floats) -> float:
        return float(np.sort(losses)[-2:].mean())  # 5 % of 40

    covariance = covariance_of(book)
    found, maximised = utility(book, weights, log, lambda w: float(w @ covariance @ w), worst)
    if "row" in book.joint and book.joint["row"][2] is not None:
        row, bound, soft = book.joint["row"]
        price = soft * max(float(row @ weights[: book.lines]) - bound, 0.0)
        found = found - price if maximised else found + price
    return float(found), maximised


def excesses(book: Book, weights: Floats) -> dict[str, float]:
    """By how much weights (6,) pass each limit that the book has."""
    limits, n = book.limits, book.lines
    mine, traded = weights[:n], weights[:n] - book.held[:n]
    out = {
        "side": float(np.max(-mine * book.side)),
        "cash": float(np.abs(mine).sum()) - book.equity_cash if not book.held.any() else -1.0,
    }
    gross, net = float(np.abs(weights).sum()), float(weights.sum())
    for name, used in (
        ("weight_max", float(np.abs(mine).max())),
        ("leverage_max", gross),
        ("net_weight_max", net),
        ("turnover_max", float(np.abs(traded).sum())),
    ):
        if name in limits:
            out[name] = used - limits[name]
    if "net_weight_min" in limits:
        out["net_weight_min"] = limits["net_weight_min"] - net
    if "group" in limits:
        members = [INSTRUMENTS.index(name) for name in limits["group"][1]]
        out["group"] = float(np.abs(weights[members]).sum()) - limits["group"][0]
    if "volatility_max" in book.joint:
        risk = float(np.sqrt(weights @ covariance_of(book) @ weights))
        out["volatility_max"] = risk - book.joint["volatility_max"]
    if "cvar_max" in book.joint:
        losses = np.sort(-book.returns @ weights)
        out["cvar_max"] = float(losses[-2:].mean()) - book.joint["cvar_max"]
    if "row" in book.joint and book.joint["row"][2] is None:
        row, bound, _ = book.joint["row"]
        out["row"] = float(row @ mine) - bound
    return out


def best(book: Book) -> tuple[str, float]:
    """How cvxpy ends (optimal, infeasible, ...), and the objective there."""
    n, limits = book.lines, book.limits
    mine = cp.Variable(n)
    weights = cp.hstack([mine, book.held[n:]])
    root = np.linalg.cholesky(covariance_of(book)).T

    def log(wealth: Any, rho: float) -> Any:
        if rho == 1.0:
            return cp.sum(cp.log(wealth)) / 40
        return (cp.sum(cp.power(wealth, 1.0 - rho)) / 40 - 1.0) / (1.0 - rho)

    found, maximised = utility(
        book,
        weights,
        log,
        lambda w: cp.sum_squares(root @ w),
        lambda losses: cp.sum_largest(losses, 2) / 2,
    )
    sides: list[Any] = [cp.multiply(book.side, mine) >= 0.0]
    if not book.held.any():
        sides.append(cp.norm1(mine) <= 1.0)
    for name, used in (
        ("weight_max", cp.max(cp.abs(mine))),
        ("leverage_max", cp.norm1(weights)),
        ("net_weight_max", cp.sum(weights)),
        ("turnover_max", cp.norm1(mine - book.held[:n])),
    ):
        if name in limits and limits[name] < 1e3:
            sides.append(used <= limits[name])
    if "net_weight_min" in limits:
        sides.append(cp.sum(weights) >= limits["net_weight_min"])
    if "group" in limits and limits["group"][0] < 1e3:
        members = [INSTRUMENTS.index(name) for name in limits["group"][1]]
        sides.append(cp.norm1(weights[members]) <= limits["group"][0])
    if "volatility_max" in book.joint:
        sides.append(100 * cp.norm(root @ weights) <= 100 * book.joint["volatility_max"])
    if "cvar_max" in book.joint:
        losses = cp.sum_largest(-book.returns @ weights, 2) / 2
        sides.append(100 * losses <= 100 * book.joint["cvar_max"])
    if "row" in book.joint:
        row, bound, soft = book.joint["row"]
        if soft is None:
            sides.append(row @ mine <= bound)
        else:
            price = soft * cp.pos(row @ mine - bound)
            found = found - price if maximised else found + price
    sense = cp.Maximize if maximised else cp.Minimize
    model = cp.Problem(sense(1e3 * found), sides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.solve(solver=cp.CLARABEL, **TIGHT)
        except (cp.SolverError, ValueError):
            return "failed", float("nan")
    if mine.value is None:
        return str(model.status), float("nan")
    at = np.concatenate([mine.value, book.held[n:]])
    return str(model.status), value(book, at)[0]


def side_numbers(book: Book) -> list[int]:
    """Sides as the contract numbers them."""
    return [types_pb2.SIDE_LONG if s > 0 else types_pb2.SIDE_SHORT for s in book.side]


def of_scenarios(book: Book) -> Book:
    """The same book for OptimizePortfolio, whose scenarios are all that is known of the returns."""
    form = "covariance" if book.form == "covariance" else "scenarios"
    return replace(book, form=form, returns=scenarios_of(book), rate=0.0)


def problem_of(book: Book) -> pb.OptimizationProblem:
    """A book without a risk-free rate as a problem: its lines have a side, the rest is fixed."""
    n, limits, no_bound = book.lines, book.limits, 1e9
    cap = min(limits.get("weight_max", no_bound), no_bound)
    low, high = np.array(book.held), np.array(book.held)
    low[:n], high[:n] = np.where(book.side < 0.0, -cap, 0.0), np.where(book.side < 0.0, 0.0, cap)
    objective = objective_of(book)
    if objective is None:
        kind = "MEAN_VARIANCE" if book.form == "covariance" else "CRRA"
        objective = pb.Objective(
            kind=pb.ObjectiveKind.Value(f"OBJECTIVE_KIND_{kind}"), risk_aversion=1.0 / book.kelly
        )
    gross = [limits["leverage_max"]] if "leverage_max" in limits else []
    gross += [] if book.held.any() else [1.0]
    problem = pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:6],
        objective=objective,
        weight_min=low,
        weight_max=high,
        holdings=book.held,
        budget_max=limits.get("net_weight_max", no_bound),
        budget_min=limits.get("net_weight_min"),
        gross_max=min(gross) if gross else None,
        turnover_max=limits.get("turnover_max"),
        linear_cost=[book.cost] * 6,
        limits=limits_of(book).joint,
    )
    if "group" in limits:
        most, members = limits["group"]
        sign = np.where(book.held < 0.0, -1.0, 1.0)
        sign[:n] = book.side
        coefficients = [sign[INSTRUMENTS.index(name)] for name in members]
        problem.limits.linear.add(
            name="group", instrument_ids=members, coefficients=coefficients, upper=most
        )
    if book.form == "covariance":
        problem.mean.extend([*mean_of(book), *[0.0] * (6 - n)])
        problem.covariance.kind = Kind.MATRIX_KIND_COVARIANCE
        matrix, values = problem.covariance, covariance_of(book)
    else:
        problem.scenarios.kind = Kind.MATRIX_KIND_SCENARIOS
        matrix, values = problem.scenarios, book.returns
    matrix.instrument_ids.extend(INSTRUMENTS[:6])
    matrix.dense.values.extend(values.ravel())
    return problem
