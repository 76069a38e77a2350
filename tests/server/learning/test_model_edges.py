"""Sizes decided by models: the same as with their probabilities given, recorded, and replayed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    explanation_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1 import learning_service_pb2 as pb

from tests.server.learning.test_learning import NAMES, bets, go_live, promotion, trained
from tests.server.support.service_client import Client, refusal, sizing_request

WEIGHTS = {"weight_max": 1.0, "leverage_max": 4.0}
FEATURES = {"trend": [1.5, 0.5, -1.0, 2.0], "noise": [0.1, 0.2, 0.3, 0.4]}


def columns(features: dict[str, list[float]] = FEATURES) -> list[sizing_pb2.FeatureColumn]:
    return [sizing_pb2.FeatureColumn(name=name, values=v) for name, v in features.items()]


def by_model(
    portfolio_id: str, model_id: str = "", **given: Any
) -> sizing_service_pb2.SizePositionsRequest:
    signals = given.pop("signals", {})
    return sizing_request(
        portfolio_id,
        signals={
            "win_probability": [],
            "edge_source": [sizing_pb2.EDGE_SOURCE_MODEL] * 4,
            "model_id": model_id,
            "features": columns(),
            **signals,
        },
        **given,
    )  # fmt: skip


_KEPT: dict[str, pb.Model] = {}


async def kept(client: Client) -> pb.Model:
    """A live model that tests share, and leave live."""
    if "edge" not in _KEPT:
        _KEPT["edge"] = await live(client)
    return _KEPT["edge"]


async def kept_size(client: Client) -> pb.Model:
    """A live size model that tests share: nearly all of the stake where `trend` is high."""
    if "size" not in _KEPT:
        rows = bets(win_probability=[0.6] * 600)
        kind = pb.MODEL_KIND_SIZE_MULTIPLIER
        _KEPT["size"] = await live(client, rows=rows, kind=kind)
    return _KEPT["size"]


async def live(client: Client, **given: Any) -> pb.Model:
    model = await trained(client, **given)
    await go_live(client, model.model_id)
    return model


async def set_parameters(client: Client, portfolio_id: str, **given: Any) -> None:
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(**given),
        )
    )


@pytest.mark.parametrize(
    "kind", ["LOGISTIC", "BOOSTED_TREES", "NETWORK", "LOG_POOL", "WEALTH_MIXTURE"]
)
async def test_a_model_sizes_and_is_replayed_when_it_is_retired(client: Client, kind: str) -> None:
    is_one = kind in ("LOGISTIC", "BOOSTED_TREES", "NETWORK")
    members = [] if is_one else [pb.ModelMember(features=[name]) for name in NAMES]
    model = await live(client, kind=f"MODEL_KIND_{kind}", members=members)
    portfolio_id = await client.ready(**WEIGHTS)
    decision = await client.size(by_model(portfolio_id, model.model_id))
    (said,) = decision.predictions
    assert (said.model_id, said.model_hash) == (model.model_id, model.hash)
    assert list(said.lines) == [0, 1, 2, 3]
    p, error = np.array(said.win_probability), np.array(said.win_probability_error)
    assert p[0] > p[1] > 0.5
    assert p[3] > (0.6 if kind == "BOOSTED_TREES" else p[0])  # trees are steps: they needn't rise
    assert p[2] <= 0.5
    assert (error > 0.0).all()
    lots = list(decision.sizes.lots)
    assert lots[0] > lots[1] > lots[2] == 0

    # The same numbers given by the caller get the same lots.
    other = await client.ready(**WEIGHTS)
    given = {"win_probability": p, "win_probability_error": error}
    plain = await client.size(sizing_request(other, signals=given))
    assert list(plain.sizes.lots) == lots
    assert list(plain.sizes.weight_low) == list(decision.sizes.weight_low)

    await client.learning.PromoteModel(promotion(model.model_id, pb.MODEL_STAGE_RETIRED))
    refused = await refusal(client.size(by_model(portfolio_id, model.model_id)))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION, "MODEL_NOT_LIVE",
    )  # fmt: skip
    again = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert again.lots_equal
    assert again.weight_difference_max == 0.0
    assert again.replayed.predictions == decision.predictions


async def test_parameters_may_name_the_model(client: Client) -> None:
    model = await kept(client)
    portfolio_id = await client.ready(**WEIGHTS)
    unnamed = await refusal(client.size(by_model(portfolio_id)))
    assert unnamed.fields == {"signals.model_id": "MISSING"}
    await set_parameters(client, portfolio_id, edge_model_id=model.model_id)
    decision = await client.size(by_model(portfolio_id))
    assert decision.predictions[0].model_id == model.model_id
    found = await client.parameter.GetParameters(
        parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id)
    )
    assert found.parameters.edge_model_id == model.model_id


async def test_only_live_models_decide(client: Client) -> None:
    model = await trained(client)
    portfolio_id = await client.ready(**WEIGHTS)
    for stage in (None, pb.MODEL_STAGE_SHADOW):
        if stage is not None:
            await client.learning.PromoteModel(promotion(model.model_id, stage))
        refused = await refusal(client.size(by_model(portfolio_id, model.model_id)))
        assert refused.reason == "MODEL_NOT_LIVE"
    nobody = await refusal(client.size(by_model(portfolio_id, "nobody")))
    assert nobody.code is grpc.StatusCode.NOT_FOUND
    assert await client.counts(portfolio_id) == (0, 0)


async def test_lines_of_a_model_stand_beside_others(client: Client) -> None:
    model = await kept(client)
    portfolio_id = await client.ready(**WEIGHTS)
    mixed = {
        "win_probability": [0.6] * 4,
        "win_probability_error": [0.01] * 4,
        "edge_source": [1, 6, 1, 6],
    }
    decision = await client.size(by_model(portfolio_id, model.model_id, signals=mixed))
    assert list(decision.predictions[0].lines) == [1, 3]
    alone = await client.size(
        sizing_request(
            await client.ready(**WEIGHTS),
            signals={"win_probability": [0.6] * 4, "win_probability_error": [0.01] * 4},
        )
    )
    for line in (0, 2):
        assert decision.sizes.weight[line] == alone.sizes.weight[line]


async def test_a_model_decides_in_the_joint_method(joint_client: Client) -> None:
    model = await live(joint_client)
    portfolio_id = await joint_client.ready(**WEIGHTS)
    joint = {"method": types_pb2.SIZING_METHOD_JOINT}
    decision = await joint_client.size(by_model(portfolio_id, model.model_id, **joint))
    given = {
        "win_probability": decision.predictions[0].win_probability,
        "win_probability_error": decision.predictions[0].win_probability_error,
    }
    other = await joint_client.ready(**WEIGHTS)
    plain = await joint_client.size(sizing_request(other, signals=given, **joint))
    assert list(plain.sizes.lots) == list(decision.sizes.lots)
    assert decision.sizes.lots[0] > 0


async def test_whatif_and_several_portfolios_ask_the_model(client: Client) -> None:
    model = await kept(client)
    portfolios = [await client.ready(**WEIGHTS) for _ in range(2)]
    base = by_model(portfolios[0], model.model_id)
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(
            base=base, variations=[sizing_service_pb2.Variation(name="same")]
        )
    )
    assert answer.results[0].sizes.lots == answer.base.sizes.lots
    parts = [by_model(item, model.model_id, request_id="") for item in portfolios]
    both = await client.sizing.SizePortfolios(
        sizing_service_pb2.SizePortfoliosRequest(request_id=base.request_id, requests=parts)
    )
    for decision in both.decisions:
        assert decision.predictions[0].win_probability == answer.base.predictions[0].win_probability
        assert decision.sizes.lots == answer.base.sizes.lots


def ago(seconds: float) -> Timestamp:
    out = Timestamp()
    out.FromDatetime(datetime.now(UTC) - timedelta(seconds=seconds))
    return out


async def test_bad_features_are_told_by_path(client: Client) -> None:
    model = await live(client, feature_version="v2", feature_age_max={"seconds": 60})
    portfolio_id = await client.ready(**WEIGHTS)

    async def wrong(**signals: Any) -> dict[str, str]:
        signals.setdefault("as_of_time", ago(5))
        request = by_model(portfolio_id, model.model_id, signals=signals)
        refused = await refusal(client.size(request))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        return refused.fields

    def features(**changes: Any) -> dict[str, Any]:
        return {"features": columns({**FEATURES, **changes})}

    assert await wrong(**features(luck=[1.0] * 4)) == {
        "signals.features[2].name": "UNKNOWN_FEATURE"
    }
    only = {"features": columns({"trend": FEATURES["trend"]})}
    assert await wrong(**only) == {"signals.features": "MISSING_FEATURE"}
    assert await wrong(features=[]) == {"signals.features": "MISSING_FEATURE"}
    assert await wrong(**features(noise=[1.0])) == {"signals.features[1].values": "LENGTH_MISMATCH"}
    twice = {"features": [*columns(), *columns({"trend": [0.0] * 4})]}
    assert await wrong(**twice) == {"signals.features[2].name": "DUPLICATE"}
    assert await wrong(feature_schema_hash="0" * 64) == {
        "signals.feature_schema_hash": "WRONG_SCHEMA"
    }
    assert await wrong(as_of_time=None) == {"signals.as_of_time": "MISSING"}
    assert await wrong(as_of_time=ago(120)) == {"signals.as_of_time": "STALE_FEATURES"}
    assert await wrong(payoff=[]) == {f"signals.payoff[{i}]": "MISSING" for i in range(4)}
    assert await wrong(model_id="a b") == {"signals.model_id": "BAD_FORMAT"}
    nan = await wrong(**features(noise=[float("nan")] * 4))
    assert nan == {f"signals.features[1].values[{i}]": "NOT_FINITE" for i in range(4)}

    # A feature that one line lacks refuses that line alone; the replay refuses it again.
    request = by_model(
        portfolio_id,
        model.model_id,
        signals={
            **features(noise=[0.0, float("nan"), 1e12, 0.0]),
            "as_of_time": ago(5),
            "feature_schema_hash": model.feature_schema_hash,
        },
    )
    decision = await client.size(request)
    assert [(e.line, e.field, e.reason) for e in decision.line_errors] == [
        (1, "signals.features[1].values[1]", "NOT_FINITE"),
        (2, "signals.features[1].values[2]", "OUT_OF_RANGE"),
    ]
    assert list(decision.sizes.lots)[1:3] == [0, 0]
    assert decision.sizes.lots[0] > 0
    again = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert again.lots_equal
    assert again.replayed.line_errors == decision.line_errors


@pytest.mark.parametrize("source", ["bet", "moments", "history"])
async def test_a_size_model_multiplies_stakes_by_line(client: Client, source: str) -> None:
    model = await kept_size(client)
    signals: dict[str, Any] = {"features": columns()}
    none = {"win_probability": [], "payoff": []}
    if source == "moments":
        signals |= none | {"expected_return": [0.01] * 4, "volatility": [0.2] * 4}
    elif source == "history":
        outcomes = [0.02, -0.01] * 28 + [0.02] * 5
        signals |= none | {"history_outcome": outcomes * 4, "history_length": [len(outcomes)] * 4}
    whole_id, portfolio_id = await client.ready(**WEIGHTS), await client.ready(**WEIGHTS)
    bare = {name: value for name, value in signals.items() if name != "features"}
    whole = await client.size(sizing_request(whole_id, signals=bare))
    await set_parameters(client, portfolio_id, size_model_id=model.model_id)
    decision = await client.size(sizing_request(portfolio_id, signals=signals))
    (adjustment,) = decision.adjustments
    assert adjustment.source == sizing_pb2.ADJUSTMENT_SOURCE_SIZE_MODEL
    assert adjustment.name == model.model_id
    assert model.hash[:12] in adjustment.explanation
    m = np.array(adjustment.line_multipliers)
    assert m[3] > m[0] > 0.9
    assert m[2] < 0.2
    assert adjustment.multiplier == m.min()
    place = [item.stage for item in whole.waterfall.stages].index(
        types_pb2.SIZING_STAGE_KELLY_FRACTION
    )
    before = np.array(whole.waterfall.stages[place].weight)
    stages = {item.stage: np.array(item.weight) for item in decision.waterfall.stages}
    assert stages[types_pb2.SIZING_STAGE_KELLY_FRACTION] == pytest.approx(m * before, rel=1e-6)
    again = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert again.lots_equal
    assert again.replayed.adjustments == decision.adjustments


async def test_a_size_model_fails_closed(client: Client) -> None:
    model, edges = await kept_size(client), await kept(client)
    portfolio_id = await client.ready(**WEIGHTS)
    await set_parameters(client, portfolio_id, size_model_id=model.model_id)
    missing = await refusal(client.size(sizing_request(portfolio_id)))
    assert missing.fields == {"signals.features": "MISSING_FEATURE"}
    wrong = await refusal(client.size(by_model(portfolio_id, model.model_id)))
    assert wrong.reason == "WRONG_MODEL_KIND"
    nan = {"features": columns({**FEATURES, "noise": [0.0, float("nan"), 0.0, 0.0]})}
    decision = await client.size(sizing_request(portfolio_id, signals=nan))
    assert [item.line for item in decision.line_errors] == [1]
    assert decision.sizes.lots[1] == 0
    # An edge model and a size model together read the same features.
    both = await client.size(by_model(await client.ready(**WEIGHTS), edges.model_id))
    await set_parameters(client, portfolio_id, size_model_id=edges.model_id)
    refused = await refusal(
        client.size(sizing_request(portfolio_id, signals={"features": columns()}))
    )
    assert refused.reason == "WRONG_MODEL_KIND"
    assert both.predictions


async def test_two_decisions_differ_by_what_the_model_said(client: Client) -> None:
    model = await kept(client)
    ids = []
    for trend in ([1.5, 0.5, -1.0, 2.0], [0.2, 2.5, -1.0, 2.0]):
        signals = {"features": columns({**FEATURES, "trend": trend})}
        request = by_model(await client.ready(**WEIGHTS), model.model_id, signals=signals)
        ids.append((await client.size(request)).decision_id)
    answer = await client.explanation.CompareDecisions(
        explanation_service_pb2.CompareDecisionsRequest(
            first_decision_id=ids[0], second_decision_id=ids[1]
        )
    )
    assert answer.replays_equal
    told = {item.input for item in answer.differences}
    assert {"model's probability of I0", "model's probability of I1"} <= told
    assert answer.quantity_first[0] != answer.quantity_second[0]


async def test_models_are_not_asked_where_nothing_is_decided(client: Client) -> None:
    model = await kept(client)
    base = by_model(await client.ready(**WEIGHTS), model.model_id)
    parameters = parameter_service_pb2.SizingParameters(edge_model_id=model.model_id)
    variation = sizing_service_pb2.Variation(parameters=parameters)
    request = sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])
    refused = await refusal(client.sizing.WhatIf(request))
    assert refused.fields == {"variations[0].parameters.edge_model_id": "NOT_APPLICABLE"}
    # Features that no model reads are no error, but they are numbers.
    plain = {"features": columns({"unread": [0.0, float("inf"), 0.0, 0.0]})}
    decision = await client.size(sizing_request(await client.ready(**WEIGHTS), signals=plain))
    assert [item.field for item in decision.line_errors] == ["signals.features[0].values[1]"]
    assert not decision.predictions
