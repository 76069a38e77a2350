"""Stored features over gRPC: known times in training and in sizing, typed refusals, replays."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import feature_service_pb2 as pb
from positionsizing.v1 import learning_service_pb2, sizing_pb2, sizing_service_pb2
from scipy.special import expit

from compute.learn.asof import NOWHERE, KnownTimes, as_of_join
from tests.server.learning.test_learning import BEGIN, LONG_S, go_live, moment, trained, training
from tests.server.learning.test_model_edges import WEIGHTS, by_model, columns
from tests.server.support.service_client import Client, new_id, refusal

NAMES = ("trend", "noise")
INSTRUMENTS = ("I0", "I1", "I2", "I3")


def stamp(time: datetime) -> Timestamp:
    out = Timestamp()
    out.FromDatetime(time)
    return out


def ago(seconds: float) -> Timestamp:
    return stamp(datetime.now(UTC) - timedelta(seconds=seconds))


async def declared(client: Client, **given: Any) -> pb.FeatureSet:
    given.setdefault("feature_set_id", new_id("set"))
    given.setdefault("features", NAMES)
    request = pb.PutFeatureSetRequest(feature_set=pb.FeatureSet(**given))
    return (await client.features.PutFeatureSet(request)).feature_set


def values(
    feature_set_id: str, instrument_ids: Any, as_of: Any, known: Any, **columns: Any
) -> pb.PutFeaturesRequest:
    return pb.PutFeaturesRequest(
        feature_set_id=feature_set_id,
        instrument_ids=instrument_ids,
        as_of_times=as_of,
        known_times=known,
        features=[sizing_pb2.FeatureColumn(name=n, values=v) for n, v in columns.items()],
    )


async def put_now(client: Client, set_id: str, age_s: float = 5.0, **changes: Any) -> None:
    """What is known of the test's instruments, true `age_s` ago."""
    given = {"trend": [1.5, 0.5, -1.0, 2.0], "noise": [0.1, 0.2, 0.3, 0.4], **changes}
    n = len(given["trend"])
    times = [ago(age_s)] * n
    await client.features.PutFeatures(values(set_id, INSTRUMENTS[:n], times, times, **given))


def past(
    n: int = 600, seed: int = 0
) -> tuple[dict[str, np.ndarray], learning_service_pb2.TrainingRows]:
    """Features that become known an hour before each bet of a day, and the bets without them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    rows = learning_service_pb2.TrainingRows(
        start_times=[moment(day + 0.5) for day in range(n)],
        end_times=[moment(day + 0.9) for day in range(n)],
        won=(random.random(n) < expit(1.2 * x[:, 0])).tolist(),
        instrument_ids=[INSTRUMENTS[day % 4] for day in range(n)],
    )
    return {"trend": x[:, 0], "noise": x[:, 1]}, rows


async def put_past(
    client: Client, set_id: str, columns: dict[str, np.ndarray], lag_days: float = 0.45
) -> None:
    """Features of day d for its instrument, as of midnight, known `lag_days` later."""
    n = len(columns["trend"])
    order = np.random.default_rng(3).permutation(n)  # they come in no order
    days = [BEGIN + timedelta(days=int(day)) for day in order]
    request = values(
        set_id,
        [INSTRUMENTS[day % 4] for day in order],
        [stamp(day) for day in days],
        [stamp(day + timedelta(days=lag_days)) for day in days],
        **{name: column[order] for name, column in columns.items()},
    )
    assert (await client.features.PutFeatures(request)).added_rows == n


async def test_a_set_is_declared_once(client: Client) -> None:
    made = await declared(client, feature_version="v1", age_max={"seconds": 60})
    assert list(made.features) == list(NAMES)
    assert len(made.schema_hash) == 64
    again = await declared(
        client, feature_set_id=made.feature_set_id, feature_version="v1", age_max={"seconds": 60}
    )
    assert again == made
    for other in ({"feature_version": "v2"}, {"features": NAMES[:1]}, {"age_max": {"seconds": 9}}):
        taken = declared(client, feature_set_id=made.feature_set_id, **other)
        assert (await refusal(taken)).code is grpc.StatusCode.ALREADY_EXISTS
    listed = await client.features.ListFeatureSets(pb.ListFeatureSetsRequest())
    assert made in listed.feature_sets
    wrong = await refusal(declared(client, features=["a", "a b", "a"], age_max={"seconds": 0}))
    assert wrong.fields == {
        "feature_set.features[1]": "BAD_FORMAT",
        "feature_set.features[2]": "DUPLICATE",
        "feature_set.age_max": "OUT_OF_RANGE",
    }


async def test_what_is_known_depends_on_the_moment(client: Client) -> None:
    made = await declared(client, features=["x"], age_max={"seconds": 86_400})
    set_id = made.feature_set_id
    day = [stamp(BEGIN + timedelta(hours=hour)) for hour in range(100)]
    # True at 1 and known at 2; corrected at 10; true at 5 and known at 6.
    request = values(
        set_id, ["I0"] * 3, [day[1], day[1], day[5]], [day[2], day[10], day[6]], x=[1, 9, 2]
    )
    assert (await client.features.PutFeatures(request)).added_rows == 3
    assert (await client.features.PutFeatures(request)).added_rows == 0  # once is enough
    for hour, want in ((2, []), (3, [1.0]), (6, [1.0]), (7, [2.0]), (11, [2.0]), (40, [2.0])):
        asked = pb.GetFeaturesRequest(
            feature_set_id=set_id, instrument_ids=["I0", "I9"], moment=day[hour]
        )
        first, unknown = (await client.features.GetFeatures(asked)).known
        assert list(first.values) == want
        assert first.is_stale == (hour == 40)
        assert not unknown.HasField("as_of_time")
    other = values(set_id, ["I0", "I0"], [day[7], day[1]], [day[8], day[2]], x=[3.0, 1.5])
    refused = await refusal(client.features.PutFeatures(other))
    assert refused.reason == "FEATURES_DIFFER"
    asked = pb.GetFeaturesRequest(feature_set_id=set_id, instrument_ids=["I0"], moment=day[20])
    assert list((await client.features.GetFeatures(asked)).known[0].values) == [2.0]  # none came in


async def test_bad_values_are_told_by_path(client: Client) -> None:
    made = await declared(client)
    good: dict[str, Any] = {"trend": [1.0, 2.0], "noise": [0.0, 0.0]}

    async def wrong(
        names: Any = ("I0", "I1"), as_of: Any = None, known: Any = None, **given: Any
    ) -> dict[str, str]:
        times = [ago(50)] * 2 if as_of is None else as_of
        given = given or good
        hash_ = given.pop("schema_hash", "")
        request = values(made.feature_set_id, names, times, known or [], **given)
        request.schema_hash = hash_
        return (await refusal(client.features.PutFeatures(request))).fields

    assert await wrong(trend=[1.0, 2.0]) == {"features": "MISSING_FEATURE"}
    assert await wrong(**good, luck=[1.0, 1.0]) == {"features[2].name": "UNKNOWN_FEATURE"}
    assert await wrong(**good, schema_hash="0" * 64) == {"schema_hash": "WRONG_SCHEMA"}
    assert await wrong(trend=[1.0], noise=[0.0, 0.0]) == {"features[0].values": "LENGTH_MISMATCH"}
    assert await wrong(trend=[1.0, np.nan], noise=[0.0, 0.0]) == {
        "features[0].values[1]": "NOT_FINITE"
    }
    assert await wrong(as_of=[ago(50)]) == {"as_of_times": "LENGTH_MISMATCH"}
    assert await wrong(as_of=[ago(50), ago(-9e4)]) == {"as_of_times[1]": "OUT_OF_RANGE"}
    assert await wrong(known=[ago(60), ago(10)]) == {"known_times[0]": "OUT_OF_RANGE"}
    assert await wrong(names=["I0", ""]) == {"instrument_ids[0]": "EMPTY"}
    nobody = values("nobody", ["I0"], [ago(5)], [], trend=[1.0], noise=[1.0])
    refused = await refusal(client.features.PutFeatures(nobody))
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_a_model_learns_from_what_was_known_and_sizes_from_what_is(client: Client) -> None:
    """The same model as with the features in the rows; no feature travels with a signal."""
    made = await declared(client)
    set_id = made.feature_set_id
    columns_, rows = past()
    await put_past(client, set_id, columns_)
    model = await trained(client, rows, feature_set_id=set_id)
    assert model.feature_set_id == set_id
    assert model.feature_schema_hash == made.schema_hash
    _, whole = past()
    for name, column in columns_.items():
        whole.features.add(name=name, values=column)
    assert (await trained(client, whole)).hash == model.hash
    await go_live(client, model.model_id)
    await put_now(client, set_id)
    portfolio_id = await client.ready(**WEIGHTS)
    decision = await client.size(by_model(portfolio_id, model.model_id, signals={"features": []}))
    (said,) = decision.predictions
    assert said.win_probability[3] > said.win_probability[1] > said.win_probability[2]
    (read,) = decision.features
    assert (read.feature_set_id, list(read.lines)) == (set_id, [0, 1, 2, 3])
    assert {item.name: list(item.values) for item in read.features}["trend"] == [
        1.5,
        0.5,
        -1.0,
        2.0,
    ]
    sent = await client.size(by_model(await client.ready(**WEIGHTS), model.model_id))
    assert sent.predictions[0].win_probability == said.win_probability
    assert not sent.features
    # What becomes known afterwards changes no decision that was made.
    await put_now(client, set_id, age_s=1.0, trend=[-9.0] * 4)
    again = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert again.lots_equal
    assert again.replayed.features == decision.features
    # What signals say goes before what is stored.
    mixed = {"features": columns({"trend": [1.5, 0.5, -1.0, 2.0]})}
    part = await client.size(by_model(await client.ready(**WEIGHTS), model.model_id, signals=mixed))
    assert [item.name for item in part.features[0].features] == ["noise"]
    assert part.predictions[0].win_probability == said.win_probability


async def test_lines_without_a_young_value_are_refused_and_stay_so(client: Client) -> None:
    made = await declared(client, age_max={"seconds": 3600})
    columns_, rows = past()
    await put_past(client, made.feature_set_id, columns_)
    refused = await refusal(
        client.learning.TrainModel(
            training(rows, feature_set_id=made.feature_set_id), timeout=LONG_S
        )
    )
    assert set(refused.fields.values()) == {"STALE_FEATURES"}  # half a day old
    assert "rows.start_times[0]" in refused.fields
    loose = await declared(client)
    await put_past(client, loose.feature_set_id, columns_)
    model = await trained(
        client, rows, feature_set_id=loose.feature_set_id, feature_age_max={"seconds": 50_000}
    )
    await go_live(client, model.model_id)
    times = [ago(90_000), ago(50), ago(50)]
    given = {"trend": [1.5, 2.0, 2.0], "noise": [0.0] * 3}
    await client.features.PutFeatures(
        values(loose.feature_set_id, ["I0", "I1", "I3"], times, times, **given)
    )
    portfolio_id = await client.ready(**WEIGHTS)
    request = by_model(portfolio_id, model.model_id, signals={"features": []})
    decision = await client.size(request)
    # Of I2 only values of the past are known: too old as well.
    assert [(e.line, e.field, e.reason) for e in decision.line_errors] == [
        (0, "signals.instrument_ids[0]", "STALE_FEATURES"),
        (2, "signals.instrument_ids[2]", "STALE_FEATURES"),
    ]
    assert "trend" in decision.line_errors[0].message
    assert list(decision.predictions[0].lines) == [1, 3]
    assert decision.sizes.lots[0] == decision.sizes.lots[2] == 0
    assert decision.sizes.lots[1] > 0
    again = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert again.lots_equal
    assert again.replayed.line_errors == decision.line_errors
    strict = by_model(
        await client.ready(**WEIGHTS),
        model.model_id,
        signals={"features": []},
        all_or_nothing=True,
    )
    whole = await refusal(client.size(strict))
    assert set(whole.fields.values()) == {"STALE_FEATURES"}


async def test_nothing_known_is_told_by_the_bet_and_by_the_line(client: Client) -> None:
    made = await declared(client)
    columns_, rows = past()
    late = await refusal(
        client.learning.TrainModel(
            training(rows, feature_set_id=made.feature_set_id), timeout=LONG_S
        )
    )
    assert late.fields["rows.start_times[0]"] == "MISSING_FEATURE"
    await put_past(client, made.feature_set_id, columns_, lag_days=0.5)  # when the bet is taken
    early = await refusal(
        client.learning.TrainModel(
            training(rows, feature_set_id=made.feature_set_id), timeout=LONG_S
        )
    )
    assert early.fields == {f"rows.start_times[{i}]": "MISSING_FEATURE" for i in range(4)}
    bare = training(rows, feature_set_id=made.feature_set_id)
    del bare.rows.instrument_ids[:]
    refused = await refusal(client.learning.TrainModel(bare, timeout=LONG_S))
    assert refused.fields == {"rows.instrument_ids": "MISSING"}
    unknown = training(rows, feature_set_id=made.feature_set_id, stored_features=["trend", "luck"])
    refused = await refusal(client.learning.TrainModel(unknown, timeout=LONG_S))
    assert refused.fields == {"stored_features[1]": "UNKNOWN_FEATURE"}
    nowhere = training(rows, feature_set_id="nowhere")
    refused = await refusal(client.learning.TrainModel(nowhere, timeout=LONG_S))
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_a_model_is_scored_on_stored_features(client: Client) -> None:
    made = await declared(client)
    columns_, rows = past(700)
    await put_past(client, made.feature_set_id, columns_)

    def part(first: int, after: int) -> learning_service_pb2.TrainingRows:
        return learning_service_pb2.TrainingRows(
            start_times=rows.start_times[first:after],
            end_times=rows.end_times[first:after],
            won=rows.won[first:after],
            instrument_ids=rows.instrument_ids[first:after],
        )

    given = {"feature_set_id": made.feature_set_id, "stored_features": ["trend"]}
    model = await trained(client, part(0, 600), **given)
    assert list(model.features) == ["trend"]
    later = learning_service_pb2.ScoreModelRequest(
        request_id=training().request_id, model_id=model.model_id, rows=part(600, 700)
    )
    since = (await client.learning.ScoreModel(later)).score_since
    assert since.rows == 100
    assert since.climatology.growth.mean > 0.0


@pytest.mark.parametrize("seed", range(3))
async def test_the_index_and_the_join_see_the_same(client: Client, seed: int) -> None:
    """What serves is read by SQL, what trains by a function: one rule."""
    random = np.random.default_rng(seed)
    keys = {(int(g), int(a), int(a + lag)) for g, a, lag in random.integers(0, [3, 15, 7], (60, 3))}
    group, as_of, known = np.array(sorted(keys)).T
    set_id = (await declared(client, features=["x"])).feature_set_id

    def hours(column: np.ndarray) -> list[Timestamp]:
        return [stamp(BEGIN + timedelta(hours=int(hour))) for hour in column]

    names = [INSTRUMENTS[g] for g in group]
    request = values(set_id, names, hours(as_of), hours(known), x=np.arange(len(names)))
    await client.features.PutFeatures(request)
    for hour in range(24):
        place, _ = as_of_join(KnownTimes(group, as_of, known), np.arange(3), np.full(3, hour), None)
        asked = pb.GetFeaturesRequest(
            feature_set_id=set_id,
            instrument_ids=INSTRUMENTS[:3],
            moment=stamp(BEGIN + timedelta(hours=hour)),
        )
        answer = await client.features.GetFeatures(asked)
        found = [item.values[0] if len(item.values) else NOWHERE for item in answer.known]
        assert found == place.tolist()
