"""The joint method: the sizes of a batch decided together, as one convex problem.

    maximise   E U(W)   over the weights of the batch, with everything else held as it is

U is log wealth at the full Kelly fraction, and the power utility whose risk aversion is 1/c at the
fraction c (exact for lognormal wealth: MacLean, Thorp and Ziemba 2010). With scenarios the
expectation is exact; with a covariance alone it is the quadratic mean - (1/2c) w'Sw. The sizing
parameters may name another objective, which is then taken as it is. The limits
become rows of the problem: a line may only be held on the side of its signal, so absolute weights
are linear. Lots, cash and the guard follow as in the closed form (`decide.py`).
"""

from dataclasses import dataclass, replace

import numpy as np

from compute.book import Floats, Integers, MissingInputError
from compute.columns import Exposure, Source
from compute.decide import Sizing
from compute.inputs import Inputs
from compute.limits.policy import JointLimits
from compute.limits.projection import NO_LIMIT
from compute.limits.risk_budget import risk_budget_bound
from compute.optimize import solve
from compute.optimize.certificate import Certificate, certify
from compute.optimize.evaluate import objective_value
from compute.optimize.infeasible import Explanation, explain
from compute.optimize.problem import (
    Costs,
    DrawdownRisk,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Status,
)
from compute.optimize.problem import Limits as ProblemLimits
from compute.optimize.shadow import ShadowPrice, shadow_prices
from compute.optimize.time_limit import ENDLESS, TimeLimit
from compute.parameters import Shrinkage

_ON_SCENARIOS = frozenset(
    {
        ObjectiveKind.LOG_GROWTH,
        ObjectiveKind.CRRA,
        ObjectiveKind.MIN_CVAR,
        ObjectiveKind.MIN_CDAR,
        ObjectiveKind.MIN_MAX_DRAWDOWN,
    }
)
VAR_LEVEL = CVAR_LEVEL = CDAR_LEVEL = 0.95


@dataclass(frozen=True)
class JointAnswer:
    """A solved batch: signed weights per line (n,), and the proof.

    weights is None where there is none to use; then `explanation` says which limits conflict, or
    `status` why the solver gave up.
    """

    status: Status
    weights: Floats | None
    certificate: Certificate | None
    prices: dict[str, ShadowPrice]
    explanation: Explanation | None
    iterations: int
    problem: Problem
    instrument_ids: tuple[str, ...]
    """Of the problem's variables."""


@dataclass(frozen=True)
class BookMatrix:
    """A matrix and where the market's instruments are in it.

    values: scenarios (K, c) with probability (K,), or a covariance (c, c). place: (m,), the column
    of each instrument of the market, -1 where it has none.
    """

    values: Floats
    probability: Floats
    place: Integers


def solve_joint(
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    time_limit: TimeLimit = ENDLESS,
) -> JointAnswer:
    """Solves the batch of `inputs` together.

    The covariance is used without scenarios only.
    Raises `MissingInputError` where a line or a holding has neither, `StoppedError` at the time
    limit.
    """
    problem, lines, everything = joint_problem(inputs, scenarios, covariance)
    names = tuple(inputs.sheet.market.instrument_ids[place] for place in everything)
    solution = solve(problem, time_limit=time_limit)
    if solution.status is not Status.OPTIMAL:
        conflict = explain(problem, time_limit) if solution.status is Status.INFEASIBLE else None
        status, count = solution.status, solution.iterations
        return JointAnswer(status, None, None, {}, conflict, count, problem, names)
    certificate = certify(problem, solution, thorough=False, time_limit=time_limit)
    if not certificate.is_optimal:
        certificate = certify(problem, solution, time_limit=time_limit)
    prices = (
        shadow_prices(problem, solution.weights, time_limit=time_limit)
        if certificate.is_optimal
        else {}
    )
    weights = np.zeros(len(inputs.index))
    weights[lines] = solution.weights[: len(lines)]
    return JointAnswer(
        solution.status, weights, certificate, prices, None, solution.iterations, problem, names
    )


def joint_objective(inputs: Inputs, answer: JointAnswer, sizing: Sizing) -> float:
    """The objective at the final lots, costs taken off."""
    lines = np.flatnonzero(inputs.active)
    problem = answer.problem
    weights = np.array(problem.holdings)
    weights[: len(lines)] = sizing.weight[lines]
    return objective_value(problem, weights)


def joint_problem(
    inputs: Inputs, scenarios: BookMatrix | None, covariance: BookMatrix | None
) -> tuple[Problem, Integers, Integers]:
    """The problem over the active lines and, fixed, everything else that is held.

    Returns it with the lines its first variables stand for, and every variable's instrument.
    """
    lines = np.flatnonzero(inputs.active)
    inside = inputs.index[lines]
    outside = np.setdiff1d(np.flatnonzero(inputs.sheet.before), inside)
    everything = np.concatenate([inside, outside])
    before = inputs.sheet.before[everything]
    lower, upper = _box(inputs, lines)
    fixed = inputs.sheet.before[outside]
    costs = np.full(len(everything), inputs.parameters.cost_rate)
    if inputs.sheet.market.spread is not None:
        costs += 0.5 * inputs.sheet.market.spread[everything]
    objective = _objective(inputs, exact=scenarios is not None)
    if scenarios is not None:
        _require(scenarios, inputs, everything, "scenario")
        returns = _shifted(scenarios, inputs, lines, everything)
        problem = Problem(objective, scenarios=returns, scenario_probability=scenarios.probability)
    elif covariance is not None:
        _require(covariance, inputs, everything, "covariance")
        place = covariance.place[everything]
        chosen = covariance.values[np.ix_(place, place)]
        mean = np.zeros(len(everything))
        mean[: len(lines)] = _means(inputs, lines)
        problem = Problem(objective, mean=mean, covariance=chosen)
    else:
        raise MissingInputError(
            "MISSING_MATRIX", "the joint method needs scenario_matrix_id or covariance_matrix_id"
        )
    limits = _limits(inputs, lines, everything)
    return (
        replace(
            problem,
            limits=replace(
                limits,
                lower=np.concatenate([lower, fixed]),
                upper=np.concatenate([upper, fixed]),
            ),
            costs=Costs(linear=costs if costs.any() else None),
            holdings=before,
            cash_return=inputs.parameters.risk_free_rate,
        ),
        lines,
        everything,
    )


def _objective(inputs: Inputs, *, exact: bool) -> Objective:
    """The one that the parameters name, or growth at the Kelly fraction."""
    named, c = inputs.parameters.joint_objective, inputs.parameters.fraction
    if named is None or named.kind is ObjectiveKind.LOG_GROWTH:
        if not exact:
            return Objective(ObjectiveKind.MEAN_VARIANCE, risk_aversion=1.0 / c)
        if c < 1.0:
            return Objective(ObjectiveKind.CRRA, risk_aversion=1.0 / c)
        return Objective(ObjectiveKind.LOG_GROWTH)
    parts = {term.kind for _, term in named.terms} or {named.kind}
    if not exact and parts & _ON_SCENARIOS:
        raise MissingInputError(
            "MISSING_MATRIX", "the joint objective is one over scenarios: give scenario_matrix_id"
        )
    return named


def _require(matrix: BookMatrix, inputs: Inputs, places: Integers, what: str) -> None:
    missing = places[matrix.place[places] < 0]
    if len(missing):
        name = inputs.sheet.market.instrument_ids[int(missing[0])]
        raise MissingInputError(
            "MISSING_MATRIX_ENTRY", f"{name!r} is sized or held, but not in the {what} matrix"
        )


def _box(inputs: Inputs, lines: Integers) -> tuple[Floats, Floats]:
    """Bounds of each line: its side, its instrument's limits, what may be traded at once."""
    sheet, index, side = inputs.sheet, inputs.index[lines], inputs.signals.side[lines]
    before, buy, sell = sheet.before[index], sheet.buy_max[index], sheet.sell_max[index]
    lower = np.maximum(sheet.weight_min[index], sheet.adv_weight_min[index])
    upper = np.minimum(sheet.weight_max[index], sheet.adv_weight_max[index])
    short = bool(sheet.limits.allow_short)
    lower = np.where((side > 0) | (not short), np.maximum(lower, 0.0), lower)
    upper = np.where(side < 0, np.minimum(upper, 0.0), upper)
    if not sheet.limits.allow_flip:
        lower = np.where(before > 0, np.maximum(lower, 0.0), lower)
        upper = np.where(before < 0, np.minimum(upper, 0.0), upper)
    if inputs.reducing:
        lower = np.maximum(lower, np.minimum(before, 0.0))
        upper = np.minimum(upper, np.maximum(before, 0.0))
    # What can't be reached in one trade is approached as far as one trade goes.
    nearest = np.clip(before, lower, upper)
    goal = before + np.clip(nearest - before, -sell, buy)
    low = np.maximum(lower, before - sell)
    high = np.minimum(upper, before + buy)
    reachable = low <= high
    return np.where(reachable, low, goal), np.where(reachable, high, goal)


def _means(inputs: Inputs, lines: Integers) -> Floats:
    """Expected returns of holding the instrument, shrunk as the stake would be, (k,)."""
    signals, parameters = inputs.signals, inputs.parameters
    if (
        signals.expected_return is None
        or not (inputs.signals.source[lines] == Source.RETURN_VOLATILITY).all()
    ):
        raise MissingInputError(
            "JOINT_NEEDS_RETURNS",
            "the joint method sizes expected returns or scenarios, not two-outcome bets",
        )
    excess = signals.expected_return[lines] - parameters.risk_free_rate
    factor = np.ones(len(lines))
    if parameters.confidence_shrinkage is not Shrinkage.NONE:
        if signals.expected_return_error is not None:
            error = signals.expected_return_error[lines]
            total = excess**2 + error**2
            factor = np.where(total > 0, excess**2 / np.where(total > 0, total, 1.0), 1.0)
        if signals.confidence is not None:
            factor = factor * signals.confidence[lines]
    means: Floats = inputs.signals.side[lines] * factor * excess + parameters.risk_free_rate
    return means


def _shifted(
    scenarios: BookMatrix,
    inputs: Inputs,
    lines: Integers,
    everything: Integers,
) -> Floats:
    """Scenarios of the problem's variables, centred on the signals' means where they have any."""
    returns = scenarios.values[:, scenarios.place[everything]]
    moments = inputs.signals.source[lines] == Source.RETURN_VOLATILITY
    if moments.any():
        chosen = lines[moments]
        columns = np.flatnonzero(moments)
        returns[:, columns] += _means(inputs, chosen) - scenarios.probability @ returns[:, columns]
    if (~moments & (inputs.signals.source[lines] != Source.SCENARIOS)).any():
        raise MissingInputError(
            "JOINT_NEEDS_RETURNS",
            "the joint method sizes expected returns or scenarios, not two-outcome bets",
        )
    return returns


def _limits(
    inputs: Inputs,
    lines: Integers,
    everything: Integers,
) -> ProblemLimits:
    """Groups, exposures, cash and the limits of the whole book."""
    sheet, size = inputs.sheet, len(everything)
    sign = np.zeros(size)
    sign[: len(lines)] = np.where(inputs.signals.side[lines] > 0, 1.0, -1.0)
    held = sheet.before[everything]
    # A line that may not be held on its signal's side only shrinks what is there.
    sign[: len(lines)] = np.where(
        held[: len(lines)] * sign[: len(lines)] < 0, 0.0, sign[: len(lines)]
    )
    sign[len(lines) :] = np.sign(held[len(lines) :])
    names, rows, low, high = [], [], [], []

    def add(name: str, row: Floats, least: float, most: float) -> None:
        if least > -NO_LIMIT / 2 or most < NO_LIMIT / 2:
            names.append(name)
            rows.append(row)
            low.append(least if least > -NO_LIMIT / 2 else -np.inf)
            high.append(most if most < NO_LIMIT / 2 else np.inf)

    labels = [*(f"group {name}" for name in sheet.group_names), "portfolio", "shared"]
    for column, label in enumerate(labels):
        member, bound = sheet.members[column][everything], sheet.bounds[:, column]
        add(f"{label} gross", member * sign, -NO_LIMIT, float(bound[Exposure.GROSS_MAX]))
        net = float(bound[Exposure.NET_MIN]), float(bound[Exposure.NET_MAX])
        add(f"{label} net", member, *net)
    # Cash for what is added on each line's side; exact for increases, and `decide.py` applies the
    # cash limit again to whatever a simultaneous reduction seems to free here.
    margin = sheet.limits.short_margin_rate
    rate = np.where(sign > 0, 1.0, 1.0 if margin is None else margin)
    rate = (rate + (sheet.limits.fee_rate or 0.0)) * sign
    rate[len(lines) :] = 0.0
    add("cash", rate, -NO_LIMIT, sheet.cash + float(rate @ held))
    budget, volatility = inputs.parameters.risk_budget, sheet.market.volatility
    if budget is not None and volatility is not None:
        most = risk_budget_bound(sheet, volatility, budget)
        add("risk budget", volatility[everything] * sign, -NO_LIMIT, most)
    joint = sheet.limits.joint
    for row in joint.linear:
        place = sheet.market.index
        coefficients = np.zeros(len(sheet.market.price))
        for name, value in row.coefficients.items():
            if name in place:
                coefficients[place[name]] = value
        add(
            row.name,
            coefficients[everything],
            -NO_LIMIT if row.lower is None else row.lower,
            NO_LIMIT if row.upper is None else row.upper,
        )
    matrix = np.array(rows).reshape(-1, size)
    return replace(
        _book_limits(joint),
        rows=Rows(matrix, np.array(low), np.array(high), tuple(names)) if names else None,
        turnover_max=sheet.limits.turnover_max,
    )


def _book_limits(joint: JointLimits) -> ProblemLimits:
    risk = None
    if joint.wealth_floor is not None and joint.wealth_floor_probability is not None:
        risk = DrawdownRisk.from_probability(joint.wealth_floor, joint.wealth_floor_probability)
    return ProblemLimits(
        volatility_max=joint.volatility_max,
        var_max=joint.var_max,
        var_tail=joint.var_level or VAR_LEVEL,
        cvar_max=joint.cvar_max,
        cvar_tail=joint.cvar_level or CVAR_LEVEL,
        cdar_max=joint.cdar_max,
        cdar_tail=joint.cdar_level or CDAR_LEVEL,
        drawdown_risk=risk,
    )
