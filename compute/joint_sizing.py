"""The joint method: the sizes of a batch decided together, as one convex problem.

    maximise   E U(W)   over the weights of the batch, with everything else held as it is

U is log wealth at the full Kelly fraction, and the power utility whose risk aversion is 1/c at the
fraction c (exact for lognormal wealth: MacLean, Thorp and Ziemba 2010). With scenarios the
expectation is exact; with a covariance alone it is the quadratic mean - (1/2c) w'Sw; bets and
histories become scenarios of their outcomes (`joint_data.py`). The sizing
parameters may name another objective, which is then taken as it is. The limits
become rows of the problem: a line may only be held on the side of its signal, so absolute weights
are linear. Lots, cash and the guard follow as in the closed form (`pipeline.py`).
"""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from compute.inputs import Inputs
from compute.joint_box import line_box
from compute.joint_cuts import JointCuts, Named, joint_cuts, limit_of, linear_name
from compute.joint_data import BookMatrix, returns_of
from compute.joint_margin import Divided, LineNeeds, divided, line_needs, only_reducing
from compute.joint_outcomes import SAMPLES_MAX
from compute.layout import Exposure
from compute.limits.book_guard import Rule
from compute.limits.book_measures import Measured
from compute.limits.policy import JointLimits, LimitKind
from compute.limits.projection import NO_LIMIT
from compute.limits.risk_budget import risk_budget_bound
from compute.market import Floats, Integers, MissingInputError
from compute.optimize import solve
from compute.optimize.diversification import (
    as_sharpe,
    has_least_gross,
    of_largest_gross,
    with_gross,
)
from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.explanation import UNEXPLAINED, conflict, priced
from compute.optimize.implied_bounds import ENDLESS
from compute.optimize.infeasibility.conflict import Explanation
from compute.optimize.presolve import open_sides
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
from compute.optimize.proof.certificate import Certificate, certify
from compute.optimize.sensitivity.shadow_prices import ShadowPrice
from compute.tail_cuts import Bounded, is_cut, normal_cap, solve_within
from compute.trading_costs import trading_costs

MARGIN_ROW = "cash"
_ON_SCENARIOS = frozenset(kind for kind in ObjectiveKind if kind.needs == "scenarios")
VAR_LEVEL = CVAR_LEVEL = CDAR_LEVEL = 0.95


@dataclass(frozen=True)
class JointAnswer:
    """A solved batch: signed weights per line (n,), and the proof.

    weights is None where there is none to use; then `explanation` says which limits conflict,
    `unbounded` which lines nothing bounds, or `status` why the solver gave up.
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
    note: str = ""
    """Why there are no prices where there might be some."""
    cuts: JointCuts | None = None
    named: dict[str, Named] = field(default_factory=dict)
    """The limit behind each of the prices."""
    unbounded: tuple[str, ...] = ()
    """Lines that nothing bounds, where the objective grows without end."""
    notes: tuple[str, ...] = ()
    """What to know about the problem, in words."""
    owner: Integers | None = None
    """The line or holding of each variable, where some lines are divided (`joint_margin.py`)."""


def solve_joint(
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    edges: Floats | None = None,
    execution: Execution = JUST_IN_TIME,
) -> JointAnswer:
    """Solves the batch of `inputs` together.

    The covariance is used without scenarios only. edges: rows of `layout.Line` where the batch has
    bets or histories (`has_bets`), whose outcomes become scenarios.
    Raises `MissingInputError` where a line or a holding has neither, `StoppedError` at the time
    limit.
    """
    time_limit, programs = execution.time_limit, execution.programs
    most = SAMPLES_MAX if programs is None else programs.shapes.scenarios[-1]
    stated, lines, everything, notes = joint_problem(inputs, scenarios, covariance, edges, most)
    owner, solver = np.arange(len(everything)), partial(solve, execution=execution)
    found = solve_within(stated, _tails(inputs, everything), solver)
    if found.solution.status is Status.INFEASIBLE and has_least_gross(stated):
        stated = of_largest_gross(stated, solver)
        found = solve_within(stated, _tails(inputs, everything), solver)
    if found.solution.status is Status.OPTIMAL and (
        exact := _exact_margin(inputs, stated, lines, found.solution.weights)
    ):
        owner = exact.owner
        found = solve_within(exact.problem, _tails(inputs, everything[owner]), solver)
    problem, solution, notes = found.problem, found.solution, (*notes, *found.notes)
    ids = inputs.limit_bounds.market.instrument_ids
    names = tuple(ids[place] for place in everything[owner])
    if solution.status is not Status.OPTIMAL:
        bare = JointAnswer(
            solution.status, None, None, {}, None, solution.iterations, problem, names
        )
        if solution.status is Status.INFEASIBLE:
            return replace(bare, explanation=conflict(problem, time_limit), note=UNEXPLAINED)
        sides = open_sides(problem) if solution.status is Status.UNBOUNDED else []
        lines_open = sorted({int(name.partition("[")[2][:-1]) for name in sides})
        return replace(bare, unbounded=tuple(names[place] for place in lines_open))
    certificate = certify(problem, solution, thorough=False, time_limit=time_limit)
    if not certificate.is_optimal:
        certificate = certify(problem, solution, time_limit=time_limit)
    prices, note = priced(problem, solution.weights, certificate, time_limit)
    box = line_box(inputs, lines)
    named = {name: limit_of(name, inputs.limit_bounds, box, owner) for name in prices}
    # A line's own side is no limit, and what isn't in the batch is not to be traded.
    prices = {name: price for name, price in prices.items() if named[name].kind}
    cuts = joint_cuts(inputs, problem, solution.weights, owner, lines, prices, named)
    weights = np.zeros(len(inputs.index))
    whole = np.bincount(owner, weights=solution.weights, minlength=len(everything))
    weights[lines] = whole[: len(lines)]
    return JointAnswer(
        solution.status,
        weights,
        certificate,
        prices,
        None,
        solution.iterations,
        problem,
        names,
        note,
        cuts,
        named,
        notes=notes,
        owner=owner,
    )


def _tails(inputs: Inputs, places: Integers) -> list[Bounded]:
    """The tails that are kept by cuts, as the guard measures them, of variables at `places`."""
    tails = {tail.name: tail for tail in inputs.limit_bounds.limits.joint.tails if is_cut(tail)}
    guard = inputs.book_guard
    if not tails or guard is None:
        return []

    def over_market(rule: Rule) -> Bounded:
        def measure(weights: Floats) -> Measured:
            whole = np.zeros_like(inputs.limit_bounds.before)
            np.add.at(whole, places, weights)
            value, slope = rule.measure(whole)
            return value, slope[places]

        return Bounded(tails[rule.name], measure)

    own = [rule for rule in guard.rules if rule.kind in (LimitKind.VAR_MAX, LimitKind.CVAR_MAX)]
    return [over_market(rule) for rule in own if rule.name in tails]


def _exact_margin(
    inputs: Inputs, problem: Problem, lines: Integers, weights: Floats
) -> Divided | None:
    """The problem with its margin row exact, where the relaxed optimum needs more than is free."""
    limits, k = problem.limits, len(lines)
    if limits.rows is None or MARGIN_ROW not in limits.rows.names:
        return None
    assert limits.lower is not None, "every line has bounds"
    assert limits.upper is not None, "every line has bounds"
    needs = line_needs(inputs, lines, limits.lower[:k], limits.upper[:k])
    if needs.of(weights[:k]) <= needs.free + 1e-9:
        return None
    return divided(problem, needs, MARGIN_ROW)


def joint_problem(
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    edges: Floats | None = None,
    scenarios_max: int = SAMPLES_MAX,
) -> tuple[Problem, Integers, Integers, tuple[str, ...]]:
    """The problem over the active lines and, fixed, everything else that is held.

    Returns it with the lines its first variables stand for, every variable's instrument, and what
    to know about it in words.
    """
    lines = np.flatnonzero(inputs.active)
    inside = inputs.index[lines]
    outside = np.setdiff1d(np.flatnonzero(inputs.limit_bounds.before), inside)
    everything = np.concatenate([inside, outside])
    before = inputs.limit_bounds.before[everything]
    box = line_box(inputs, lines)
    lower, upper = box.lower.weight, box.upper.weight
    needs: LineNeeds | None = line_needs(inputs, lines, lower, upper)
    if needs is not None and not needs.are_payable:
        # Nothing is free to grow with; what is forced, and fees, always may go.
        lower, upper = only_reducing(needs.before, lower, upper)
        needs = None
    fixed = inputs.limit_bounds.before[outside]
    financing = _financing(inputs, lines, everything)
    costs = _costs(inputs, lines, len(everything))
    found = returns_of(
        inputs, lines, everything, financing, (scenarios, covariance), edges, scenarios_max
    )
    problem = Problem(
        _objective(inputs, exact=found.scenarios is not None),
        scenarios=found.scenarios,
        scenario_probability=found.probability,
        mean=found.mean,
        covariance=found.covariance,
    )
    limits = _limits(inputs, lines, everything, needs)
    _refuse_unmeasured(limits, has_scenarios=problem.scenarios is not None)
    problem = replace(
        problem,
        limits=replace(
            limits,
            lower=np.concatenate([lower, fixed]),
            upper=np.concatenate([upper, fixed]),
        ),
        costs=costs,
        holdings=before,
        cash_return=inputs.parameters.risk_free_rate,
        financing=financing if found.views is None else financing - found.views,
    )
    side, named = _sides(inputs, lines, everything), inputs.parameters.joint_objective
    if named is not None and named.kind is ObjectiveKind.MAX_DIVERSIFICATION:
        held = float(np.abs(fixed).sum())
        problem = with_gross(as_sharpe(problem, side), side, max(named.gross_weight or 1.0, held))
    return problem, lines, everything, found.notes


def _costs(inputs: Inputs, lines: Integers, size: int) -> Costs:
    """Of what is traded, a period; what isn't in the batch is not traded."""
    found = trading_costs(inputs)
    linear, impact = np.zeros(size), np.zeros(size)
    linear[: len(lines)], impact[: len(lines)] = found.per_period[lines], found.impact[lines]
    return Costs(linear=linear if linear.any() else None, impact=impact if impact.any() else None)


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


def _financing(inputs: Inputs, lines: Integers, everything: Integers) -> Floats:
    """The risk-free rate of what can only be long, its negative of what can only be short.

    A position of either side has to beat the rate: the proceeds of a short sale earn nothing.
    """
    rate = inputs.parameters.risk_free_rate
    short = inputs.limit_bounds.before[everything] < 0.0
    short[: len(lines)] = inputs.signals.side[lines] < 0
    out: Floats = np.where(short, -rate, rate)
    return out


def _sides(inputs: Inputs, lines: Integers, everything: Integers) -> Floats:
    """The side each variable can only be on, (v,); 0 of lines that only shrink what is there."""
    held = inputs.limit_bounds.before[everything]
    sign = np.sign(held)
    own = np.where(inputs.signals.side[lines] > 0, 1.0, -1.0)
    # A line that may not be held on its signal's side only shrinks what is there.
    sign[: len(lines)] = np.where(held[: len(lines)] * own < 0, 0.0, own)
    return sign


def _limits(
    inputs: Inputs,
    lines: Integers,
    everything: Integers,
    needs: LineNeeds | None,
) -> ProblemLimits:
    """Groups, exposures, cash and the limits of the whole book."""
    limit_bounds, size = inputs.limit_bounds, len(everything)
    sign = _sides(inputs, lines, everything)
    names, rows, low, high = [], [], [], []

    def add(name: str, row: Floats, least: float, most: float) -> None:
        # A row without a name in it holds already: margins of 0 need no cash.
        bounded = least > -ENDLESS or most < ENDLESS
        if bounded and (row.any() or not least <= 0.0 <= most):
            names.append(name)
            rows.append(row)
            low.append(least if least > -ENDLESS else -np.inf)
            high.append(most if most < ENDLESS else np.inf)

    labels = [*(f"group {name}" for name in limit_bounds.group_names), "portfolio", "shared"]
    for column, label in enumerate(labels):
        member, bound = limit_bounds.members[column][everything], limit_bounds.bounds[:, column]
        add(f"{label} gross", member * sign, -NO_LIMIT, float(bound[Exposure.GROSS_MAX]))
        net = float(bound[Exposure.NET_MIN]), float(bound[Exposure.NET_MAX])
        add(f"{label} net", member, *net)
    if needs is not None:
        slope, height = needs.tangents()
        bound = np.concatenate([slope, np.zeros(size - len(lines))])
        add(MARGIN_ROW, bound, -NO_LIMIT, needs.free - float(height.sum()))
    budget, volatility = inputs.parameters.risk_budget, limit_bounds.market.volatility
    if budget is not None and volatility is not None:
        most = risk_budget_bound(limit_bounds, volatility, budget)
        add("risk budget", volatility[everything] * sign, -NO_LIMIT, most)
    joint = limit_bounds.limits.joint
    prices = [np.inf] * len(names)
    for row in joint.linear:
        place = limit_bounds.market.index
        coefficients = np.zeros(len(limit_bounds.market.price))
        for name, value in row.coefficients.items():
            if name in place:
                coefficients[place[name]] = value
        count = len(names)
        add(
            linear_name(row.name),
            coefficients[everything],
            -NO_LIMIT if row.lower is None else row.lower,
            NO_LIMIT if row.upper is None else row.upper,
        )
        prices += [np.inf if row.soft_price is None else row.soft_price] * (len(names) - count)
    matrix = np.array(rows).reshape(-1, size)
    return replace(
        _book_limits(joint),
        rows=Rows(matrix, np.array(low), np.array(high), tuple(names), np.array(prices))
        if names
        else None,
        turnover_max=limit_bounds.limits.turnover_max,
    )


def _refuse_unmeasured(limits: ProblemLimits, *, has_scenarios: bool) -> None:
    """Raises `MissingInputError` for a limit on scenarios where there are none."""
    if has_scenarios:
        return
    for name, bound in (
        ("cvar_max", limits.cvar_max),
        ("cdar_max", limits.cdar_max),
        ("wealth_floor", limits.drawdown_risk),
    ):
        if bound is not None:
            raise MissingInputError(
                "MISSING_MATRIX",
                f"the limit {name} is measured on scenarios: give scenario_matrix_id",
            )


def _book_limits(joint: JointLimits) -> ProblemLimits:
    risk = None
    if joint.wealth_floor is not None and joint.wealth_floor_probability is not None:
        risk = DrawdownRisk.from_probability(joint.wealth_floor, joint.wealth_floor_probability)
    return ProblemLimits(
        volatility_max=normal_cap(joint.volatility_max, joint.tails)[0],
        var_max=joint.var_max,
        var_tail=joint.var_level or VAR_LEVEL,
        cvar_max=joint.cvar_max,
        cvar_tail=joint.cvar_level or CVAR_LEVEL,
        cdar_max=joint.cdar_max,
        cdar_tail=joint.cdar_level or CDAR_LEVEL,
        drawdown_risk=risk,
    )
