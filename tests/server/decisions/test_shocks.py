"""What-ifs that change single instruments equal requests on changed inputs."""

from typing import Any

import pytest
from positionsizing.v1 import limits_pb2, parameter_service_pb2, sizing_service_pb2

from tests.server.calls.test_rpcs import scope
from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, refusal, sizing_request

Shock = sizing_service_pb2.InstrumentShock

ONE_LINE = parameter_service_pb2.Schedule(
    rows=[
        parameter_service_pb2.ScheduleRow(
            name="always",
            from_time="00:00",
            to_time="24:00",
            time_zone="UTC",
            multiplier=0.3,
            instrument_ids=["I0"],
        )
    ]
)


def what_if(base: sizing_service_pb2.SizePositionsRequest, *shocks: Shock, **given: float):  # type: ignore[no-untyped-def]
    variation = sizing_service_pb2.Variation(name="shocked", shocks=shocks, **given)
    return sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])


async def test_a_shock_of_one_instrument_equals_a_request_with_it(client: Client) -> None:
    portfolio_id = await client.ready()
    base = sizing_request(portfolio_id, validate_only=True)
    shocks = [
        Shock(instrument_id=INSTRUMENTS[0], price_multiplier=0.5),
        Shock(instrument_id=INSTRUMENTS[1], edge_multiplier=0.0),
        Shock(instrument_id=INSTRUMENTS[2], edge_multiplier=0.5),
    ]
    answer = await client.sizing.WhatIf(what_if(base, *shocks))
    (found,) = answer.results
    base.signals.win_probability[1:3] = [0.5, 0.55]
    changed = await client.sizing.WhatIf(what_if(base, shocks[0]))
    assert list(found.sizes.lots) == list(changed.results[0].sizes.lots)
    assert found.sizes.lots[1] == 0
    # At half the price the same weight is twice the lots.
    assert abs(found.sizes.lots[0] - 2 * answer.base.sizes.lots[0]) <= 1
    assert found.sizes.lots[3] == answer.base.sizes.lots[3]


async def test_shocks_multiply_what_all_lines_are_multiplied_by(client: Client) -> None:
    portfolio_id = await client.ready()
    base = sizing_request(portfolio_id, validate_only=True)
    one = await client.sizing.WhatIf(
        what_if(
            base, Shock(instrument_id=INSTRUMENTS[0], price_multiplier=2.0), price_multiplier=0.5
        )
    )
    assert one.results[0].sizes.lots[0] == one.base.sizes.lots[0]
    assert abs(one.results[0].sizes.lots[1] - 2 * one.base.sizes.lots[1]) <= 1


@pytest.mark.parametrize(
    ("shocks", "path"),
    [
        ([{"instrument_id": "nobody"}], "variations[0].shocks[0].instrument_id"),
        ([{"instrument_id": ""}], "variations[0].shocks[0].instrument_id"),
        ([{"instrument_id": "I0"}] * 2, "variations[0].shocks[1].instrument_id"),
        (
            [{"instrument_id": "I0", "price_multiplier": 0.0}],
            "variations[0].shocks[0].price_multiplier",
        ),
        (
            [{"instrument_id": "I0", "edge_multiplier": float("nan")}],
            "variations[0].shocks[0].edge_multiplier",
        ),
    ],
)
async def test_a_wrong_shock_is_named(
    client: Client, shocks: list[dict[str, object]], path: str
) -> None:
    portfolio_id = await client.ready()
    base = sizing_request(portfolio_id, validate_only=True)
    asked = what_if(base, *(Shock(**shock) for shock in shocks))  # type: ignore[arg-type]
    refused = await refusal(client.sizing.WhatIf(asked))
    assert path in refused.fields


async def test_what_is_held_moves_with_its_price(client: Client) -> None:
    await client.put_market()
    portfolio_id = await client.put_portfolio(1e6, {"I7": 1000.0})
    await client.set_limits(scope(portfolio_id=portfolio_id), weight_max=0.1)
    base = sizing_request(portfolio_id, validate_only=True, limits=limits_pb2.Limits())
    asked = what_if(base, Shock(instrument_id="I7", price_multiplier=0.5))
    answer = await client.sizing.WhatIf(asked)
    lost = 0.5 * 1000.0 * PRICES[7]
    assert answer.results[0].summary.equity == pytest.approx(answer.base.summary.equity - lost)


@pytest.mark.parametrize(
    "floors",
    [
        {"equity_floor": 500_000.0},
        {"equity_floor": 500_000.0, "drawdown_multiplier": 3.0},
        {"drawdown_floor": 0.5},
        {"equity_floor": 500_000.0, "schedule": ONE_LINE},
    ],
)
@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"price_multiplier": 0.7}, 0.85),
        ({"shocks": [Shock(instrument_id="I7", price_multiplier=0.7)]}, 0.85),
        ({"price_multiplier": 1.4}, 1.2),
        ({"equity_multiplier": 0.6}, 0.6),
        ({"equity_multiplier": 0.4}, 0.4),
    ],
)
async def test_floors_are_held_against_the_equity_that_a_variation_comes_to(
    client: Client, floors: dict[str, Any], change: dict[str, Any], part: float
) -> None:
    """Half of 1,000,000 is held, half of it is cash; the stake is c min(1, k (1 - F / W)) f."""
    await client.put_market()
    held = 500_000.0 / PRICES[7]
    portfolio_id = await client.put_portfolio(500_000.0, {"I7": held})
    await client.set_limits(scope(portfolio_id=portfolio_id), weight_max=1.0)
    parameters = parameter_service_pb2.SizingParameters(**floors)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    signals = {"win_probability": [0.55], "payoff": [1.0], "loss_fraction": [1.0]}
    base = sizing_request(portfolio_id, ["I0"], signals, validate_only=True)
    variation = sizing_service_pb2.Variation(name="moved", **change)
    asked = sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])
    answer = await client.sizing.WhatIf(asked)

    equity = 1e6 * part
    highest = equity if "equity_multiplier" in change else max(1e6, equity)
    floor = floors.get("equity_floor", 0.5 * highest)
    times = floors.get("drawdown_multiplier", 1.0)
    least = 0.3 if "schedule" in floors else 1.0
    wanted = 0.5 * 0.1 * max(0.0, min(least, times * (1.0 - floor / equity)))
    (found,) = answer.results
    assert found.summary.equity == pytest.approx(equity)
    lot = found.sizes.price[0] * found.sizes.lot_size[0] / equity
    assert -(2.0**-40) <= wanted - found.sizes.weight[0] < lot  # weights are multiples of 2^-40
