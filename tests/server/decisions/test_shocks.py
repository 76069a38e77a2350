"""What-ifs that change single instruments equal requests on changed inputs."""

import pytest
from positionsizing.v1 import limits_pb2, sizing_service_pb2

from tests.server.calls.test_rpcs import scope
from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, refusal, sizing_request

Shock = sizing_service_pb2.InstrumentShock


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
