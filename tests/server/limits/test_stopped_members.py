"""Books beyond a limit of which some members can't move as far as they should: others go on.

What stops a member is what may be traded of it in a day. The nearest that the book can come to its
limit within that, turnover and what the signals ask for is a linear program over the weights, by
SciPy; the decision comes as near as that, but for its lots.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, market_service_pb2
from scipy.optimize import linprog

from compute.market import Floats
from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client

LOT = 1e-3
"""Units; of 100,000 at a price of 100, a millionth of equity."""

# They bind so little that capital stops nothing.
FUTURES = {
    "contract_kind": [market_service_pb2.CONTRACT_KIND_FUTURE] * 5,
    "initial_margin_long": [1e-3] * 5,
    "initial_margin_short": [1e-3] * 5,
}


def _linear(names: tuple[str, ...], **ends: float) -> dict[str, Any]:
    row = limits_pb2.LinearLimit(
        name="l", instrument_ids=names, coefficients=[1.0] * len(names), **ends
    )
    return {"joint": limits_pb2.JointLimits(linear=[row])}


def _group(names: tuple[str, ...], **bounds: float) -> dict[str, Any]:
    return {"groups": [limits_pb2.GroupLimit(name="g", instrument_ids=names, **bounds)]}


@dataclass(frozen=True)
class Case:
    """A limit whose value in weights is sign x sum of members' (absolute) weights."""

    sign: float
    is_gross: bool
    members: int
    stated: Any


# Of five instruments; a group has the first four.
CASES = {
    "leverage": Case(1.0, True, 5, lambda names, bound: {"leverage_max": bound}),
    "gross notional": Case(1.0, True, 5, lambda names, b: {"gross_notional_max": 1e5 * b}),
    "net": Case(1.0, False, 5, lambda names, bound: {"net_weight_max": bound}),
    "least net": Case(-1.0, False, 5, lambda names, bound: {"net_weight_min": -bound}),
    "group gross": Case(1.0, True, 4, lambda names, b: _group(names[:4], gross_weight_max=b)),
    "group net": Case(1.0, False, 4, lambda names, b: _group(names[:4], net_weight_max=b)),
    "least group net": Case(-1.0, False, 4, lambda names, b: _group(names[:4], net_weight_min=-b)),
    "linear": Case(1.0, False, 4, lambda names, b: _linear(names[:4], upper=b)),
    "least linear": Case(-1.0, False, 4, lambda names, b: _linear(names[:4], lower=-b)),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", CASES)
async def test_others_sell_what_a_member_may_not(
    joint_client: Client, method: str, limit: str
) -> None:
    """Three positions of 30 % where 60 % may be; of the first 1 % may be sold in a day."""
    case = CASES[limit]
    side = case.sign
    book = await KellyBook(joint_client, method, 5).opened(
        1e5 - side * 9e4, [side * 300.0] * 3, average_daily_volume=[100.0, *[1e5] * 4]
    )
    limits = case.stated(book.names, 0.6)
    await book.limited(allow_short=True, adv_trade_max=0.1, **limits)
    decision = await book.size(*[side * 0.4] * 3, validate_only=True)
    assert decision.sizes.trade_lots[0] == -side * 10
    assert sum(decision.sizes.trade_lots) == -side * 300
    assert not decision.limits_exceeded
    # Where turnover is short, it all goes into what brings the book nearer, in whole lots of each.
    await book.limited(allow_short=True, adv_trade_max=0.1, turnover_max=0.2, **limits)
    decision = await book.size(*[side * 0.4] * 3, side * 0.3, validate_only=True)
    assert -200 <= side * sum(decision.sizes.trade_lots) <= -197
    assert len(decision.limits_exceeded) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", CASES)
async def test_a_book_comes_as_near_as_a_linear_program(
    joint_client: Client, method: str, limit: str
) -> None:
    """Random books, volumes and turnovers; longs and shorts where the limit counts net."""
    case, rng = CASES[limit], np.random.default_rng(sum(limit.encode()))
    for _ in range(6):
        sides = np.full(5, case.sign)
        if not case.is_gross:
            sides[rng.random(5) < 0.3] *= -1.0
        held = sides * rng.uniform(0.05, 0.4, 5) * (rng.random(5) < 0.85)
        held = np.round(held * 1e6) / 1e6
        most = np.where(rng.random(5) < 0.5, rng.uniform(0.0, 0.1, 5), 10.0)
        wanted = sides * rng.uniform(0.0, 0.5, 5)
        turnover = float(rng.choice([0.05, 0.3, 10.0]))
        part = float(rng.choice([0.0, 0.5, 0.9]))
        bound = part * abs(_value(case, held))
        book = await KellyBook(joint_client, method, 5).opened(
            1e5,
            (held * 1e3).tolist(),
            average_daily_volume=(most * 1e4).tolist(),
            lot_size=[LOT] * 5,
            **FUTURES,
        )
        await book.limited(
            allow_short=True,
            adv_trade_max=0.1,
            turnover_max=turnover,
            **case.stated(book.names, bound),
        )
        decision = await book.size(*wanted, validate_only=True)
        after = held + np.array(decision.sizes.trade_lots) * LOT / 1e3
        least = _least_excess(case, held, wanted, most, turnover, bound)
        excess = max(_value(case, after) - bound, 0.0)
        assert excess <= least + 5 * LOT / 1e3 + 1e-9, (held, wanted, most, turnover, bound, after)


def _value(case: Case, weights: Floats) -> float:
    counted = weights[: case.members]
    return float(np.abs(counted).sum() if case.is_gross else case.sign * counted.sum())


def _least_excess(
    case: Case, held: Floats, wanted: Floats, most: Floats, turnover: float, bound: float
) -> float:
    """The least excess within turnover, what may be traded, and between 0, held and wanted.

    Over bought and sold (n,) each, and the excess.
    """
    low = np.minimum(np.minimum(held, wanted), 0.0)
    high = np.maximum(np.maximum(held, wanted), 0.0)
    row = np.zeros(5)
    row[: case.members] = np.sign(held + wanted)[: case.members] if case.is_gross else case.sign
    found = linprog(
        [*np.zeros(10), 1.0],
        A_ub=[[*row, *-row, -1.0], [*np.ones(10), 0.0]],
        b_ub=[bound - float(row @ held), turnover],
        bounds=[
            *((0.0, min(h - b, m)) for h, b, m in zip(high, held, most, strict=True)),
            *((0.0, min(b - s, m)) for s, b, m in zip(low, held, most, strict=True)),
            (0.0, None),
        ],
    )
    assert found.success, found.message
    return float(found.fun)
