"""Optimisation problems and their proofs between the contract and the domain."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from positionsizing.v1 import limits_pb2, sizing_pb2, types_pb2
from positionsizing.v1 import optimization_service_pb2 as pb
from positionsizing.v1.market_service_pb2 import MATRIX_KIND_COVARIANCE, MATRIX_KIND_SCENARIOS

from compute.joint.tail_cuts import normal_cap
from compute.limits.policy import LinearLimit
from compute.optimize.execution import Execution
from compute.optimize.explanation import named
from compute.optimize.infeasibility.conflict import Explanation
from compute.optimize.limits import bound_of
from compute.optimize.lots.whole_lots import LotRules, LotSolution
from compute.optimize.problem import (
    Costs,
    DrawdownRisk,
    Limits,
    Problem,
    Rows,
    Solution,
    Status,
)
from compute.optimize.proof.certificate import Certificate
from compute.optimize.sensitivity import Sides
from compute.optimize.sensitivity.perturbations import to_covariance, to_limit, to_mean
from compute.optimize.sensitivity.shadow_prices import ShadowPrice
from server.calls.errors import FieldViolation
from server.convert import objective as objective_convert
from server.convert.columns import Floats, floats, set_floats
from server.convert.limits import joint_violations, linear, tails
from server.convert.market import instrument_violations
from server.convert.matrix import MatrixData, kind_violations, matrix_violations
from server.convert.ranges import number_violations

SIZE_MAX = 2000
_OWN = re.compile(r"(lower|upper|trade_max)\[(.+)\]")
_LEVEL = 0.95

STATUSES = {
    Status.OPTIMAL: pb.OPTIMIZATION_STATUS_OPTIMAL,
    Status.INFEASIBLE: pb.OPTIMIZATION_STATUS_INFEASIBLE,
    Status.NONPOSITIVE_MEAN: pb.OPTIMIZATION_STATUS_NONPOSITIVE_MEAN,
    Status.UNBOUNDED: pb.OPTIMIZATION_STATUS_UNBOUNDED,
    Status.VANISHING: pb.OPTIMIZATION_STATUS_VANISHING,
    Status.RUIN: pb.OPTIMIZATION_STATUS_RUIN,
    Status.NOT_CONVERGED: pb.OPTIMIZATION_STATUS_NOT_CONVERGED,
}

_PREFIXES = {
    "group ": types_pb2.LIMIT_KIND_GROUP_GROSS_MAX,
    "portfolio gross": types_pb2.LIMIT_KIND_LEVERAGE_MAX,
    "portfolio net max": types_pb2.LIMIT_KIND_NET_MAX,
    "portfolio net min": types_pb2.LIMIT_KIND_NET_MIN,
    "shared": types_pb2.LIMIT_KIND_SHARED_GROSS_NOTIONAL_MAX,
    "cash": types_pb2.LIMIT_KIND_CASH,
    "risk budget": types_pb2.LIMIT_KIND_RISK_BUDGET,
    "turnover_max": types_pb2.LIMIT_KIND_TURNOVER_MAX,
    "upper": types_pb2.LIMIT_KIND_WEIGHT_MAX,
    "lower": types_pb2.LIMIT_KIND_WEIGHT_MAX,
    "trade_max": types_pb2.LIMIT_KIND_TRADE_NOTIONAL_MAX,
    "volatility_max": types_pb2.LIMIT_KIND_VOLATILITY_MAX,
    "var_max": types_pb2.LIMIT_KIND_VAR_MAX,
    "cvar_max": types_pb2.LIMIT_KIND_CVAR_MAX,
    "cdar_max": types_pb2.LIMIT_KIND_CDAR_MAX,
    "drawdown_risk": types_pb2.LIMIT_KIND_DRAWDOWN_RISK,
}


def limit_kind(name: str, problem: Problem | None = None) -> types_pb2.LimitKind.ValueType:
    """The contract's kind of a limit by its name in the problem.

    problem: where its rows are all linear limits of a caller, whatever they are called.
    """
    rows = None if problem is None else problem.limits.rows
    if rows is not None and name.removesuffix(" min").removesuffix(" max") in rows.names:
        return types_pb2.LIMIT_KIND_LINEAR
    for prefix, kind in _PREFIXES.items():
        if name.startswith(prefix):
            return kind
    return types_pb2.LIMIT_KIND_LINEAR


def certificate(
    message: sizing_pb2.Certificate,
    proof: Certificate,
    prices: Mapping[str, ShadowPrice],
    problem: Problem,
    ids: Sequence[str],
    kinds: Mapping[str, int] | None = None,
    bounds: Mapping[str, float | None] | None = None,
) -> None:
    """Fills the proof and the price of every limit that binds; `ids`: the problem's instruments.

    kinds: of the limits priced; None: all rows are linear limits of the caller. bounds: those
    that the problem has otherwise.
    """
    message.primal_residual = proof.primal_residual
    message.dual_residual = proof.dual_residual
    message.complementarity = proof.complementarity
    message.duality_gap = proof.gap
    message.duality_gap_relative = proof.gap_relative
    message.objective = proof.objective
    for name, price in prices.items():
        bound = (bounds or {}).get(name)
        message.shadow_prices.add(
            limit=named(name, ids),
            kind=types_pb2.LimitKind.ValueType(kinds[name]) if kinds else limit_kind(name, problem),
            bound=bound_of(problem.limits, name) if bound is None else bound,
            price_low=price.low + 0.0,
            price_high=price.high + 0.0,
        )


def infeasibility(message: pb.Infeasibility, why: Explanation, ids: list[str]) -> None:
    """Fills the conflict and the cheapest way out."""
    message.conflict.extend(why.conflict)
    message.members.extend(named(name, ids) for name in why.members)
    message.smallest = why.smallest
    places = sorted({place for group in why.assets.values() for place in group})
    message.instrument_ids.extend(ids[place] for place in places)
    for name, amount in why.relaxation.items():
        message.relaxation.add(limit=named(name, ids), amount=amount)


def violations(message: pb.OptimizationProblem, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a problem, by field path below `path`."""
    n = len(message.instrument_ids)
    yield from instrument_violations(message.instrument_ids, f"{path}.instrument_ids")
    if n > SIZE_MAX:
        text = f"has {n} instruments; at most {SIZE_MAX} are solved together"
        yield FieldViolation(f"{path}.instrument_ids", "TOO_MANY", text)
    yield from objective_convert.violations(message.objective, n, f"{path}.objective")
    yield from _diversification_violations(message, path)
    yield from number_violations(message, path)
    for name in _COLUMNS:
        length = len(getattr(message, name))
        if length not in (0, n):
            wrong = f"has {length} entries for {n} instruments"
            yield FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", wrong)
    yield from joint_violations(message.limits, f"{path}.limits")
    for name, stored, kind in (
        ("scenarios", message.scenario_matrix_id, MATRIX_KIND_SCENARIOS),
        ("covariance", message.covariance_matrix_id, MATRIX_KIND_COVARIANCE),
    ):
        if message.HasField(name):  # type: ignore[arg-type]
            given, where = getattr(message, name), f"{path}.{name}"
            if stored:
                yield FieldViolation(where, "AMBIGUOUS", "give the matrix or its id, not both")
            bad = [v for v in matrix_violations(given, where) if v.field != f"{where}.matrix_id"]
            yield from bad or kind_violations(given.kind, [kind], f"{where}.kind")


def _diversification_violations(
    message: pb.OptimizationProblem, path: str
) -> Iterator[FieldViolation]:
    """What MAX_DIVERSIFICATION takes no account of, or only of long weights."""
    if message.objective.kind != pb.OBJECTIVE_KIND_MAX_DIVERSIFICATION:
        return
    for place, least in enumerate(message.weight_min):
        if least < 0.0:
            text = "is below 0: the diversification ratio is that of long weights here"
            yield FieldViolation(f"{path}.weight_min[{place}]", "NOT_APPLICABLE", text)
    for name in ("mean", "linear_cost", "impact_cost"):
        if len(getattr(message, name)):
            text = "plays no part in MAX_DIVERSIFICATION"
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", text)
    if message.limits.HasField("var_max"):
        text = "say it as a NORMAL tail in limits.tails: means play no part in MAX_DIVERSIFICATION"
        yield FieldViolation(f"{path}.limits.var_max", "NOT_APPLICABLE", text)


_COLUMNS = (
    "mean",
    "weight_min",
    "weight_max",
    "holdings",
    "trade_max",
    "linear_cost",
    "impact_cost",
)


def lot_violations(message: pb.LotRules, n: int, path: str) -> Iterator[FieldViolation]:
    """What is wrong with the rules of lots of n instruments."""
    yield from number_violations(message, path)
    for name in ("lot_weight", "trade_min", "position_min"):
        length = len(getattr(message, name))
        if length != n and (length or name == "lot_weight"):
            wrong = f"has {length} entries for {n} instruments"
            yield FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", wrong)


def lot_rules(message: pb.LotRules) -> LotRules:
    """The domain's rules of lots; the message has been checked."""
    return LotRules(
        lot_weight=floats(message.lot_weight),
        trade_min=_column(message.trade_min),
        position_min=_column(message.position_min),
        names_max=message.names_max if message.HasField("names_max") else None,
    )


def lot_solution(message: pb.LotSolution, found: LotSolution) -> None:
    """Fills the lots; nothing where none keep the limits."""
    if found.lots is None or found.weights is None:
        return
    message.lots.extend(found.lots.tolist())
    set_floats(message, "weights", found.weights)
    message.objective, message.cash_room = found.objective, found.cash_room
    message.shortfall, message.gap = found.shortfall, found.gap


def sensitivity(
    problem: Problem,
    solution: Solution,
    asked: pb.SensitivityParameter,
    ids: list[str],
    execution: Execution,
) -> Sides:
    """How the weights move with one number. ValueError where it is not one of the problem's."""

    def place(name: str) -> int:
        if name not in ids:
            raise ValueError(f"{name!r} is not an instrument of the problem")
        return ids.index(name)

    match asked.WhichOneof("parameter"):
        case "mean":
            return to_mean(problem, solution, place(asked.mean), execution)
        case "covariance":
            pair = asked.covariance
            return to_covariance(
                problem, solution, place(pair.first), place(pair.second), execution
            )
        case "limit":
            if own := _OWN.fullmatch(asked.limit):
                return to_limit(problem, solution, own[1], place(own[2]), execution)
            return to_limit(problem, solution, asked.limit, execution=execution)
    raise ValueError("say which number: mean, limit or covariance")


def problem(
    message: pb.OptimizationProblem,
    scenarios: MatrixData | None,
    covariance: MatrixData | None,
    stress: Sequence[LinearLimit] = (),
) -> Problem:
    """The domain's problem; the message has been checked (`violations`).

    stress: what its limits on stress scenarios have become.

    Raises `KeyError` with the instrument that a matrix doesn't have.
    """
    ids = list(message.instrument_ids)
    n = len(ids)
    returns = probability = chosen = None
    if scenarios is not None:
        returns = scenarios.values[:, _places(scenarios, ids)]
        probability = scenarios.probability
    if covariance is not None:
        place = _places(covariance, ids)
        chosen = covariance.values[np.ix_(place, place)]
    return Problem(
        objective=objective_convert.objective(message.objective),
        limits=_limits(message, n, ids, stress),
        costs=Costs(_column(message.linear_cost), _column(message.impact_cost)),
        mean=_column(message.mean),
        covariance=chosen,
        scenarios=returns,
        scenario_probability=probability,
        holdings=_column(message.holdings),
        cash_return=message.cash_return,
    )


def _limits(
    message: pb.OptimizationProblem, n: int, ids: list[str], stress: Sequence[LinearLimit]
) -> Limits:
    joint = message.limits
    lower, upper = _column(message.weight_min), _column(message.weight_max)
    risk = None
    if joint.HasField("wealth_floor") and joint.HasField("wealth_floor_probability"):
        risk = DrawdownRisk.from_probability(joint.wealth_floor, joint.wealth_floor_probability)
    return Limits(
        lower=np.zeros(n) if lower is None else lower,
        upper=np.ones(n) if upper is None else upper,
        budget_min=_given(message, "budget_min"),
        budget_max=message.budget_max if message.HasField("budget_max") else 1.0,
        rows=_rows([*linear(joint), *stress], ids),
        gross_max=_given(message, "gross_max"),
        turnover_max=_given(message, "turnover_max"),
        trade_max=_column(message.trade_max),
        volatility_max=normal_cap(_given(joint, "volatility_max"), tails(joint))[0],
        var_max=_given(joint, "var_max"),
        var_tail=joint.var_level if joint.HasField("var_level") else _LEVEL,
        cvar_max=_given(joint, "cvar_max"),
        cvar_tail=joint.cvar_level if joint.HasField("cvar_level") else _LEVEL,
        cdar_max=_given(joint, "cdar_max"),
        cdar_tail=joint.cdar_level if joint.HasField("cdar_level") else _LEVEL,
        drawdown_max=_given(message, "drawdown_max"),
        drawdown_risk=risk,
    )


def _rows(limits: Sequence[LinearLimit], ids: list[str]) -> Rows | None:
    if not limits:
        return None
    place = {name: i for i, name in enumerate(ids)}
    matrix = np.zeros((len(limits), len(ids)))
    for row, limit in enumerate(limits):
        for name, value in limit.coefficients.items():
            matrix[row, place[name]] = value
    return Rows(
        matrix,
        np.array([-np.inf if x.lower is None else x.lower for x in limits]),
        np.array([np.inf if x.upper is None else x.upper for x in limits]),
        tuple(x.name for x in limits),
        np.array([np.inf if x.soft_price is None else x.soft_price for x in limits]),
    )


def _given(message: pb.OptimizationProblem | limits_pb2.JointLimits, name: str) -> float | None:
    return float(getattr(message, name)) if message.HasField(name) else None  # type: ignore[arg-type]


def _column(values: object) -> Floats | None:
    column = floats(values)
    return column if len(column) else None


def _places(matrix: MatrixData, ids: list[str]) -> list[int]:
    place = {name: i for i, name in enumerate(matrix.instrument_ids)}
    return [place[name] for name in ids]
