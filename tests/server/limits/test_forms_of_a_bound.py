"""One bound stated as different limits: the same answer, also while trades are reserved."""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, market_service_pb2, risk_service_pb2, sizing_pb2

from tests.server.support.kelly_books import METHODS, VARIANCE, KellyBook
from tests.server.support.service_client import Client, new_id

EQUITY = 100_000.0
BASE = {"weight_max": 0.1, "allow_short": True, "allow_flip": True}
Joint = limits_pb2.JointLimits
Limited = Callable[[KellyBook, float], dict[str, Any]]
NEXT = ((0.4, 2), (-0.4, 2), (0.4, 0), (-0.4, 0), (0.4, 1))
"""Stakes and the instruments they are of, tried one by one."""


def _group(book: KellyBook, bound: float) -> dict[str, Any]:
    own = limits_pb2.GroupLimit(name="all", instrument_ids=book.names, gross_weight_max=bound)
    return {"groups": [own]}


GROSS: dict[str, Limited] = {
    "leverage": lambda book, bound: {"leverage_max": bound},
    "notional": lambda book, bound: {"gross_notional_max": EQUITY * bound},
    "group": _group,
    "shared": lambda book, bound: {"shared": {"gross_notional_max": EQUITY * bound}},
}
ONE: dict[str, Limited] = {
    "weight": lambda book, bound: {"weight_max": bound},
    "notional": lambda book, bound: {"notional_max": EQUITY * bound},
    "instrument": lambda book, bound: {
        "instruments": [
            limits_pb2.InstrumentLimit(instrument_id=name, quantity_max=EQUITY * bound / 100.0)
            for name in book.names
        ]
    },
    "group": lambda book, bound: {
        "groups": [
            limits_pb2.GroupLimit(name=name, instrument_ids=[name], gross_weight_max=bound)
            for name in book.names
        ]
    },
    "shared": lambda book, bound: {"shared": {"instrument_notional_max": EQUITY * bound}},
}


def _tail(measure: int, method: int, level: float, bound: float) -> dict[str, Any]:
    tail = limits_pb2.TailLimit(measure=measure, method=method, level=level, bound=bound)  # type: ignore[arg-type]
    return {"joint": Joint(tails=[tail])}


_VALUE = limits_pb2.TAIL_MEASURE_VALUE_AT_RISK
_SHORTFALL = limits_pb2.TAIL_MEASURE_EXPECTED_SHORTFALL
_NORMAL = risk_service_pb2.TAIL_METHOD_NORMAL
LEVEL = 0.95
Z = NormalDist().inv_cdf(LEVEL)
MEAN_TAIL = NormalDist().pdf(Z) / (1.0 - LEVEL)
DEVIATION = VARIANCE**0.5
VOLATILITY: dict[str, Limited] = {
    "volatility": lambda book, bound: {"joint": Joint(volatility_max=DEVIATION * bound)},
    "value at risk": lambda book, bound: {
        "joint": Joint(var_max=Z * DEVIATION * bound, var_level=LEVEL)
    },
    "normal value at risk": lambda book, bound: _tail(
        _VALUE, _NORMAL, LEVEL, Z * DEVIATION * bound
    ),
    "normal shortfall": lambda book, bound: _tail(
        _SHORTFALL, _NORMAL, LEVEL, MEAN_TAIL * DEVIATION * bound
    ),
}
SHORTFALL: dict[str, Limited] = {
    "cvar": lambda book, bound: {"joint": Joint(cvar_max=0.1 * bound, cvar_level=LEVEL)},
    "historical shortfall": lambda book, bound: _tail(
        _SHORTFALL, risk_service_pb2.TAIL_METHOD_HISTORICAL, LEVEL, 0.1 * bound
    ),
}


async def limited(book: KellyBook, given: dict[str, Any]) -> None:
    given = {"leverage_max": 1.0, **BASE, **given}
    if (shared := given.pop("shared", None)) is not None:
        await book.shared(**shared)
    await book.limited(**given)


def answer(decision: sizing_pb2.SizingDecision) -> tuple[Any, ...]:
    """What all forms have to have alike: what exceeds is told in each limit's own unit."""
    beyond = [round(item.value / item.bound, 9) for item in decision.limits_exceeded]
    lots = list(decision.sizes.trade_lots)
    return decision.status, lots, len(decision.fallback_chain), beyond


async def answers(
    book: KellyBook, form: Limited, loose: float, tight: float, **given: Any
) -> list[tuple[Any, ...]]:
    """10 % bought and 10 % sold by one decision, 5 % held of the third; then every next one.

    First with room for more, then with less than what is reserved takes at its worst.
    """
    await limited(book, {})
    first = await book.size(0.4, -0.4, **given)
    assert list(first.sizes.trade_lots) == [100, -100]
    out = []
    for bound in (loose, tight):
        await limited(book, form(book, bound))
        for stake, place in NEXT:
            decision = await book.size(stake, first=place, validate_only=True, **given)
            out.append(answer(decision))
    return out


async def with_scenarios(book: KellyBook) -> dict[str, Any]:
    """Sixty scenarios of all instruments, one of a loss of a tenth in each alone."""
    values = np.zeros((60, len(book.names)))
    for i in range(len(book.names)):
        values[i, i], values[30 + i, i] = -0.1, 0.1
    values += 0.001 * np.random.default_rng(1).standard_normal(values.shape)
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("scenarios"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=book.names,
    )
    matrix.as_of_time.GetCurrentTime()
    matrix.dense.values.extend(values.ravel().tolist())
    await book.client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return {"scenario_matrix_id": matrix.matrix_id}


CASES = {
    "gross": (GROSS, 0.3, 0.15, False),
    "one instrument": (ONE, 0.1, 0.04, False),
    "volatility": (VOLATILITY, 0.18, 0.12, False),
    "shortfall": (SHORTFALL, 0.12, 0.05, True),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
async def test_forms_of_a_bound_give_one_answer_while_trades_are_reserved(
    joint_client: Client, case: str, method: str
) -> None:
    forms, loose, tight, on_scenarios = CASES[case]
    found = {}
    for name, form in forms.items():
        book = KellyBook(joint_client, method)
        await book.opened(EQUITY - 5_000.0, [0.0, 0.0, 50.0])
        given = await with_scenarios(book) if on_scenarios else {}
        found[name] = await answers(book, form, loose, tight, **given)
    first = next(iter(found))
    apart = {
        f"{name}, number {number}": (own, other)
        for name, told in found.items()
        for number, (own, other) in enumerate(zip(told, found[first], strict=True))
        if own != other
    }
    assert not apart, first
    # The bound is met: lots differ between the loose and the tight one.
    lots = [each[1] for each in found[first]]
    assert lots[: len(NEXT)] != lots[len(NEXT) :]
