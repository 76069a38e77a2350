"""A least value that a book falls short of is told as such: by decisions, breaches and events."""

from typing import Any

import pytest
from positionsizing.v1 import limits_pb2, portfolio_service_pb2, types_pb2

from server.app import App
from tests.server.limits.test_breach_events import breach_events
from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client


def _row(name: str, **ends: float) -> dict[str, Any]:
    row = limits_pb2.LinearLimit(name="l", instrument_ids=[name], coefficients=[1.0], **ends)
    return {"joint": limits_pb2.JointLimits(linear=[row])}


def _group(name: str, **ends: float) -> dict[str, Any]:
    return {"groups": [limits_pb2.GroupLimit(name="g", instrument_ids=[name], **ends)]}


# The first instrument is 30 % long, the second 30 % short; no trade is allowed.
LEAST = {
    "net": lambda names: {"net_weight_min": 0.1},
    "group": lambda names: _group(names[1], net_weight_min=-0.2),
    "linear": lambda names: _row(names[0], lower=0.4),
    "buffer": lambda names: {"cash_buffer": 0.9},
    "no shorts": lambda names: {"allow_short": False},
}
MOST = {
    "net": lambda names: {"net_weight_max": -0.1, "net_weight_min": -0.5},
    "group": lambda names: _group(names[0], net_weight_max=0.2),
    "linear": lambda names: _row(names[1], upper=-0.4),
    "gross": lambda names: {"leverage_max": 0.5},
    "weight": lambda names: {"instruments": [_own(names[0])]},
}


def _own(name: str) -> limits_pb2.InstrumentLimit:
    return limits_pb2.InstrumentLimit(instrument_id=name, weight_max=0.2)


@pytest.mark.parametrize("method", METHODS)
async def test_least_and_largest_values_are_told_apart(joint_client: Client, method: str) -> None:
    book = await KellyBook(joint_client, method, 2).opened(1e5, [300.0, -300.0])
    for cases, is_lower in ((LEAST, True), (MOST, False)):
        for name, limits in cases.items():
            await book.limited(**{"allow_short": True, "turnover_max": 0.0, **limits(book.names)})
            decision = await book.size(0.3, -0.3, validate_only=True)
            told = decision.limits_exceeded
            assert told, name
            assert [limit.is_lower_bound for limit in told] == [is_lower] * len(told), name
            for limit in told:
                assert (limit.value < limit.bound) == is_lower
            if name == "linear":
                continue  # which GetBreaches doesn't look at
            found = await joint_client.portfolio.GetBreaches(
                portfolio_service_pb2.GetBreachesRequest(portfolio_id=book.portfolio_id)
            )
            assert [b.is_lower_bound for b in found.breaches] == [is_lower], name


async def test_events_say_what_reservations_alone_are_beyond(client: Client, app: App) -> None:
    """30 % long and 24 % short are reserved, where a net of 10 % either way may be."""
    book = await KellyBook(client, "closed", 3).opened(1e5, [])
    await book.limited(net_weight_max=0.1, net_weight_min=-0.1, allow_short=True)
    await book.size(0.3, -0.24)
    await book.size(0.01, first=2)
    assert app.config.dsn is not None
    events = await breach_events(app.config.dsn.get_secret_value(), book.portfolio_id)
    most, least = types_pb2.LIMIT_KIND_NET_MAX, types_pb2.LIMIT_KIND_NET_MIN
    told = {event.kind: (event.is_lower_bound, event.only_reserved) for event in events}
    assert told == {most: (False, True), least: (True, True)}
    held = await KellyBook(client, "closed", 2).opened(1e5, [300.0])
    await held.limited(net_weight_max=0.1)
    (event,) = await breach_events(app.config.dsn.get_secret_value(), held.portfolio_id)
    assert (event.kind, event.is_lower_bound, event.only_reserved) == (most, False, False)
