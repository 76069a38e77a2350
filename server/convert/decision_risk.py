"""Risk of the book before and after a decision, from the matrices the decision had at hand.

Scenarios count before a covariance, as in limits (`ReturnData`); the covariance does where they
lack an instrument of the book.
"""

import math

import numpy as np
from positionsizing.v1 import sizing_pb2

from compute.limits.book_guard import ReturnMatrix
from compute.limits.book_measures import ScenarioReturns
from compute.risk.contributions import diversification_ratio, effective_bets_principal
from compute.risk.measures import historical_tail, normal_tail
from compute.waterfall.pipeline import Sizing
from server.convert.columns import Floats, Integers
from server.sizing.prepared_request import PreparedRequest

LEVEL = 0.99
BETS_MAX = 100
"""Effective bets take the cube of the number of instruments: more is left to RiskService."""


def fill(head: sizing_pb2.SizingDecision, problem: PreparedRequest, sizing: Sizing) -> None:
    """Puts the risk into a decision, where there is a matrix that has the whole book."""
    inputs, returns = problem.inputs, problem.inputs.returns
    before = inputs.limit_bounds.before
    after = before.copy()
    after[inputs.index[inputs.active]] = sizing.weight[inputs.active]
    held = np.flatnonzero((before != 0.0) | (after != 0.0))
    for matrix, numbers in (
        (returns.scenarios, _of_scenarios),
        (returns.covariance, _of_covariance),
    ):
        if matrix is None:
            continue
        columns = matrix.columns(inputs.limit_bounds.market.index)[held]
        if not (columns < 0).any():
            numbers(head.risk.before, before[held], matrix, columns)
            numbers(head.risk.after, after[held], matrix, columns)
            return


def _of_covariance(
    out: sizing_pb2.RiskNumbers, weights: Floats, matrix: ReturnMatrix, columns: Integers
) -> None:
    covariance = matrix.part(columns)
    deviation = math.sqrt(max(float(weights @ covariance @ weights), 0.0))
    tail = normal_tail(LEVEL, 0.0, deviation)
    _put(out, deviation, (tail.value_at_risk, tail.expected_shortfall), weights, covariance)


def _of_scenarios(
    out: sizing_pb2.RiskNumbers, weights: Floats, matrix: ReturnMatrix, columns: Integers
) -> None:
    returns, probability = matrix.values[:, columns], matrix.probability
    losses = -(returns @ weights)
    tail = historical_tail(losses, probability, LEVEL)
    deviation = 0.0
    if len(probability) > 1:
        deviation, _ = ScenarioReturns(returns, probability).volatility(weights)
    covariance = None
    if len(columns) <= BETS_MAX:
        centred = returns - probability @ returns
        covariance = (centred * probability[:, None]).T @ centred
    _put(out, deviation, (tail.value_at_risk, tail.expected_shortfall), weights, covariance)


def _put(
    out: sizing_pb2.RiskNumbers,
    deviation: float,
    tail: tuple[float, float],
    weights: Floats,
    covariance: Floats | None,
) -> None:
    out.volatility = deviation
    out.value_at_risk, out.expected_shortfall = tail
    if covariance is None or not deviation > 0.0:
        return
    out.diversification_ratio = diversification_ratio(weights, covariance)
    if len(weights) <= BETS_MAX:
        out.effective_bets = effective_bets_principal(weights, covariance)
