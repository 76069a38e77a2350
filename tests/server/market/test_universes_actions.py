"""Splits and volatility models where instruments are in feeds of several universes."""

from datetime import UTC, datetime, timedelta
from math import log, sqrt
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import condition_service_pb2 as condition_pb
from positionsizing.v1 import corporate_action_pb2 as action_pb
from positionsizing.v1 import market_service_pb2 as market_pb
from positionsizing.v1 import parameter_service_pb2 as parameter_pb
from positionsizing.v1 import volatility_service_pb2 as pb

from tests.server.support.desks import Desk
from tests.server.support.service_client import Client, new_id, refusal

DAYS = 30


def split(name: str, new_units: float = 2.0, **given: Any) -> market_pb.ApplyCorporateActionRequest:
    action = action_pb.CorporateAction(
        instrument_id=name, split=action_pb.Split(new_units=new_units, old_units=1.0), **given
    )
    return market_pb.ApplyCorporateActionRequest(request_id=str(uuid4()), action=action)


async def newest(client: Client, universe_id: str) -> market_pb.MarketSnapshot:
    request = market_pb.GetMarketSnapshotRequest(universe_id=universe_id)
    return (await client.market.GetMarketSnapshot(request)).snapshot


async def test_a_split_is_in_the_newest_of_each_universe_that_has_the_instrument(
    client: Client,
) -> None:
    equities = await Desk(client).open(100.0)
    mixed = await Desk(client, equities.name, new_id("N")).open(99.0, 7.0)
    crypto = await Desk(client).open(20.0)
    before = crypto.snapshot_id
    answer = await client.market.ApplyCorporateAction(split(equities.name))
    effects = {item.portfolio_id: item.quantity_after for item in answer.effects}
    assert effects == {equities.id: 1000.0, mixed.id: 1000.0}
    assert len(answer.market_snapshot_ids) == 2
    assert answer.market_snapshot_id == answer.market_snapshot_ids[0]
    assert list((await newest(client, equities.universe_id)).price) == [50.0]
    assert list((await newest(client, mixed.universe_id)).price) == [49.5, 7.0]
    assert (await newest(client, crypto.universe_id)).snapshot_id == before
    for desk, equity in ((equities, 100_000.0), (mixed, 99_500.0), (crypto, 60_000.0)):
        assert (await desk.size(validate_only=True)).summary.equity == equity


async def test_what_is_held_outside_its_universe_splits_as_well(client: Client) -> None:
    """A portfolio whose own feed doesn't have the instrument takes the first that has."""
    equities = await Desk(client).open(100.0)
    other = Desk(client)
    await other.tell(5.0)
    await equities.move(other.universe_id)
    answer = await client.market.ApplyCorporateAction(split(equities.name))
    (effect,) = answer.effects
    assert (effect.portfolio_id, effect.quantity_after) == (equities.id, 1000.0)


async def test_a_split_that_one_feed_shows_and_another_does_not_needs_its_time(
    client: Client,
) -> None:
    equities = await Desk(client).open(100.0)
    late = await Desk(client, equities.name).open(100.0)
    time = datetime.now(UTC) - timedelta(minutes=2)
    assert (await equities.tell(25.0, confirm=False)).price_jumps
    refused = await refusal(client.market.ApplyCorporateAction(split(equities.name, 4.0)))
    assert refused.fields == {"action.effective_time": "MISSING"}
    assert late.universe_id in refused.message
    # The prices of both are from after it: the caller says so.
    effective = Timestamp()
    effective.FromDatetime(time)
    await late.tell(25.0, confirm=False)
    answer = await client.market.ApplyCorporateAction(
        split(equities.name, 4.0, effective_time=effective)
    )
    assert not answer.market_snapshot_ids
    assert {item.quantity_after for item in answer.effects} == {2000.0}
    for desk in (equities, late):
        assert (await desk.size(validate_only=True)).summary.equity == 100_000.0


async def test_multipliers_that_differ_between_feeds_are_refused(client: Client) -> None:
    kind = {"contract_kind": [market_pb.CONTRACT_KIND_FUTURE]}
    first = Desk(client)
    second = Desk(client, first.name)
    await first.tell(100.0, multiplier=[10.0], **kind)
    await second.tell(100.0, multiplier=[5.0], **kind)
    action = action_pb.CorporateAction(
        instrument_id=first.name,
        multiplier_change=action_pb.MultiplierChange(
            multiplier=2.0, fraction_policy=action_pb.FRACTION_POLICY_KEEP
        ),
    )
    request = market_pb.ApplyCorporateActionRequest(request_id=str(uuid4()), action=action)
    refused = await refusal(client.market.ApplyCorporateAction(request))
    assert refused.reason == "MULTIPLIERS_DIFFER"


async def put_model(client: Client, universe_id: str, **given: Any) -> str:
    fields = {"band": 0.0, "half_life": 10.0, "observations_min": 5, **given}
    model = pb.VolatilityModel(model_id=new_id("model"), universe_id=universe_id, **fields)
    start = Timestamp()
    start.FromDatetime(datetime.now(UTC) - timedelta(days=DAYS + 2))
    request = pb.PutVolatilityModelRequest(model=model, start_time=start)
    await client.volatility.PutVolatilityModel(request)
    return model.model_id


async def said(client: Client, model_id: str) -> dict[str, float]:
    answer = await client.volatility.GetVolatility(pb.GetVolatilityRequest(model_id=model_id))
    return dict(zip(answer.instrument_ids, answer.volatility, strict=True))


def ago(days: float) -> Timestamp:
    """Before yesterday noon: models take an observation a day (UTC), whatever time it is now."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    time = Timestamp()
    time.FromDatetime(noon - timedelta(days=1 + days))
    return time


async def test_a_volatility_model_is_moved_by_the_feed_of_its_universe_alone(
    client: Client,
) -> None:
    """Up and down by 1 % a day in one feed, by 10 % in the other, of the same name."""
    calm = Desk(client)
    wild = Desk(client, calm.name)
    models = [await put_model(client, desk.universe_id) for desk in (calm, wild)]
    for day in range(DAYS):
        up = day % 2
        await calm.tell(100.0 * 1.01**up, time=ago(DAYS - day))
        await wild.tell(100.0 * 1.1**up, time=ago(DAYS - day))
    expected = [sqrt(252.0) * log(1.01), sqrt(252.0) * log(1.1)]
    for model_id, volatility in zip(models, expected, strict=True):
        assert await said(client, model_id) == {calm.name: pytest.approx(volatility, rel=1e-9)}
        rebuilt = await client.volatility.RebuildVolatility(
            pb.RebuildVolatilityRequest(model_id=model_id, validate_only=True)
        )
        assert rebuilt.different_count == 0
    listed = (await client.volatility.ListVolatilityModels(pb.ListVolatilityModelsRequest())).models
    universes = {item.model.model_id: item.model.universe_id for item in listed}
    assert [universes[name] for name in models] == [calm.universe_id, wild.universe_id]


async def test_a_model_put_after_its_feed_is_made_of_that_feed(client: Client) -> None:
    calm = Desk(client)
    wild = Desk(client, calm.name)
    for day in range(DAYS):
        await calm.tell(100.0 * 1.01 ** (day % 2), time=ago(DAYS - day))
        await wild.tell(100.0 * 1.1 ** (day % 2), time=ago(DAYS - day))
    model_id = await put_model(client, calm.universe_id)
    expected = sqrt(252.0) * log(1.01)
    assert await said(client, model_id) == {calm.name: pytest.approx(expected, rel=1e-9)}
    desk = await Desk(client, calm.name, universe_id=calm.universe_id).open(101.0)
    await client.parameter.SetParameters(
        parameter_pb.SetParametersRequest(
            portfolio_id=desk.id,
            parameters=parameter_pb.SizingParameters(volatility_model=model_id),
        )
    )
    await wild.tell(500.0)
    decision = await desk.size()
    assert decision.versions.market_snapshot_id == desk.snapshot_id


async def test_a_split_that_only_one_feed_shows_moves_the_models_of_the_other(
    client: Client,
) -> None:
    shown = Desk(client)
    hidden = Desk(client, shown.name)
    models = [await put_model(client, desk.universe_id) for desk in (shown, hidden)]
    for day in range(DAYS):
        for desk in (shown, hidden):
            await desk.tell(100.0 * 1.01 ** (day % 2), time=ago(DAYS - day))
    effective = ago(0.5)
    await shown.tell(50.0, time=ago(0.4))
    await client.market.ApplyCorporateAction(split(shown.name, effective_time=effective))
    assert list((await newest(client, hidden.universe_id)).price) == [50.5]
    await hidden.tell(50.0)
    calm = sqrt(252.0) * log(1.01)
    assert (await said(client, models[1]))[shown.name] == pytest.approx(calm, rel=1e-6)
    assert (await said(client, models[0]))[shown.name] > 5.0 * calm, "it came as a return there"


async def test_a_regime_condition_is_told_by_the_feed_of_its_model(client: Client) -> None:
    equities = Desk(client)
    other = Desk(client, equities.name)
    condition_id = new_id("regime")
    regimes = pb.RegimeSwitching(
        regimes=[pb.Regime(deviation=0.01), pb.Regime(deviation=0.05)],
        transition=[0.9, 0.1, 0.1, 0.9],
        condition_id=condition_id,
        condition_instrument_id=equities.name,
    )
    model = pb.VolatilityModel(
        model_id=new_id("model"), universe_id=equities.universe_id, regimes=regimes
    )
    await client.volatility.PutVolatilityModel(pb.PutVolatilityModelRequest(model=model))

    async def observed() -> list[str]:
        request = condition_pb.ListConditionsRequest()
        found = (await client.condition.ListConditions(request)).conditions
        return [item.condition_id for item in found if item.condition_id == condition_id]

    for day in range(3):
        await other.tell(100.0 + day, time=ago(5 - day))
    assert await observed() == []
    for day in range(3):
        await equities.tell(100.0 + day, time=ago(5 - day))
    assert await observed() == [condition_id]


@pytest.mark.parametrize("universe_id", ["no universe", "é"])
async def test_the_universe_of_a_model_is_checked(client: Client, universe_id: str) -> None:
    refused = await refusal(put_model(client, universe_id))
    assert refused.fields == {"model.universe_id": "BAD_FORMAT"}
