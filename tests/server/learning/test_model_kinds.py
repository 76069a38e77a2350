"""Trees from elsewhere, members of several kinds, Venn-Abers, and intervals that close a model."""

import json
from typing import Any

import grpc
import numpy as np
import pytest
from positionsizing.v1 import learning_service_pb2 as pb
from sklearn.ensemble import HistGradientBoostingClassifier

from compute.learn.document import decode
from compute.learn.tree_import import of_scikit_learn
from tests.server.learning.test_learning import (
    LONG_S,
    NAMES,
    bets,
    go_live,
    moment,
    trained,
    training,
)
from tests.server.learning.test_model_edges import WEIGHTS, by_model
from tests.server.support.service_client import Client, new_id, refusal


def foreign(rows: pb.TrainingRows) -> HistGradientBoostingClassifier:
    """Trees that a user trained with a library of their own."""
    x = np.array([column.values for column in rows.features]).T
    return HistGradientBoostingClassifier(
        max_iter=20, max_depth=3, random_state=0, early_stopping=False
    ).fit(x, list(rows.won))


def imported(document: Any, **given: Any) -> pb.ImportedTrees:
    given.setdefault("trained_until_time", moment(599.5))
    return pb.ImportedTrees(document=json.dumps(document), **given)


async def test_trees_of_scikit_learn_are_tested_promoted_and_size(client: Client) -> None:
    theirs = foreign(bets())
    later = bets(400, seed=9, first_day=600)
    model = await trained(
        client,
        later,
        kind=pb.MODEL_KIND_BOOSTED_TREES,
        imported_trees=imported(of_scikit_learn(theirs)),
    )
    assert model.report.is_proven
    assert list(model.report.member_kinds) == [pb.MODEL_KIND_BOOSTED_TREES]
    (member,) = decode(model.document).members
    x = np.array([[0.3, -0.2], [1.5, 0.0], [-2.0, 1.0]])
    score, _ = member.score(x)
    assert np.abs(score - theirs.predict_proba(x)[:, 1]).max() <= 1e-16
    await go_live(client, model.model_id)
    decision = await client.size(by_model(await client.ready(**WEIGHTS), model.model_id))
    p = decision.predictions[0].win_probability
    assert p[3] > 0.6
    assert p[2] < 0.4
    assert min(decision.predictions[0].win_probability_error) > 0.0
    assert decision.sizes.lots[3] > decision.sizes.lots[2] == 0


async def test_trees_from_elsewhere_are_refused_by_path(client: Client) -> None:
    document = of_scikit_learn(foreign(bets(200)))

    async def wrong(**given: Any) -> dict[str, str]:
        given.setdefault("kind", pb.MODEL_KIND_BOOSTED_TREES)
        request = training(bets(100, first_day=600), **given)
        return (await refusal(client.learning.TrainModel(request, timeout=LONG_S))).fields

    until = "imported_trees.trained_until_time"
    assert await wrong(imported_trees=pb.ImportedTrees(document="{}")) == {until: "MISSING"}
    seen = imported(document, trained_until_time=moment(650.0))
    assert await wrong(imported_trees=seen) == {"rows.start_times[0]": "OVERLAPS_TRAINING"}
    assert await wrong(kind=pb.MODEL_KIND_NETWORK, imported_trees=imported(document)) == {
        "imported_trees": "NOT_APPLICABLE"
    }
    assert await wrong(imported_trees=imported({"trees": []})) == {
        "imported_trees.document": "BAD_FORMAT"
    }
    assert await wrong(imported_trees=imported(document, features=["trend"])) == {
        "imported_trees.document": "BAD_FORMAT"  # they read a second feature
    }
    named = imported(document, features=["trend", "luck"])
    assert await wrong(imported_trees=named) == {"imported_trees.features[1]": "UNKNOWN_FEATURE"}
    none = {"imported_trees": imported(document), "calibration": pb.CALIBRATION_KIND_NONE}
    assert await wrong(**none) == {"calibration": "NOT_APPLICABLE"}
    assert await wrong(ridge=1.0) == {"ridge": "NOT_APPLICABLE"}
    empty = pb.ImportedTrees(trained_until_time=moment(0.0))
    assert await wrong(imported_trees=empty) == {"imported_trees.document": "OUT_OF_RANGE"}


async def test_members_of_an_ensemble_are_of_any_kind(client: Client) -> None:
    kinds = [pb.MODEL_KIND_LOGISTIC, pb.MODEL_KIND_BOOSTED_TREES, pb.MODEL_KIND_NETWORK]
    members = [pb.ModelMember(features=NAMES, kind=kind) for kind in kinds]
    model = await trained(client, kind=pb.MODEL_KIND_LOG_POOL, members=members, folds=2)
    assert list(model.report.member_kinds) == kinds
    assert model.report.is_proven
    assert sum(model.report.weights) == pytest.approx(1.0)
    members[1].kind = pb.MODEL_KIND_LOG_POOL
    request = training(kind=pb.MODEL_KIND_LOG_POOL, members=members)
    refused = await refusal(client.learning.TrainModel(request, timeout=LONG_S))
    assert refused.fields == {"members[1].kind": "NOT_APPLICABLE"}


async def test_the_record_says_what_intervals_held(client: Client) -> None:
    kind = pb.CALIBRATION_KIND_VENN_ABERS
    model = await trained(client, bets(1500), calibration=kind)
    assert list(model.report.calibrations) == [kind]
    assert model.report.is_proven
    seen = model.report.score.intervals
    assert seen.windows == model.report.tested_rows  # one bet a day, over before the next
    assert 0.0 <= seen.covered <= 1.0
    assert seen.conformal_covered == pytest.approx(0.9, abs=0.05)
    assert seen.HasField("margin")


def surely_lost(days: int, first_day: int) -> pb.TrainingRows:
    """Bets that a model of `trend` is ever surer of, and that lose."""
    rows = bets(days, first_day=first_day)
    rows.features[0].values[:] = np.linspace(0.0, 3.0, days)
    rows.won[:] = [False] * days
    return rows


async def test_a_model_whose_intervals_miss_too_often_sizes_nothing(client: Client) -> None:
    """Fails closed while nothing is known, and opens again when it knows what it says."""
    closing = await trained(client, refuse_unbounded=True)
    plain = await trained(client)
    portfolio_id = await client.ready(**WEIGHTS)
    for model in (closing, plain):
        assert model.refuse_unbounded == (model is closing)
        await go_live(client, model.model_id)
        for rows in (bets(60, seed=5, first_day=600), surely_lost(8, 700)):
            answer = await client.learning.ScoreModel(
                pb.ScoreModelRequest(
                    request_id=training().request_id, model_id=model.model_id, rows=rows
                )
            )
        assert answer.score_since.intervals.miss_rate <= 0.0
        assert not answer.score_since.intervals.HasField("margin")
    refused = await refusal(client.size(by_model(portfolio_id, closing.model_id)))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION, "INTERVALS_UNBOUNDED",
    )  # fmt: skip
    assert await client.counts(portfolio_id) == (0, 0)
    assert (await client.size(by_model(portfolio_id, plain.model_id))).predictions
    await client.learning.ScoreModel(
        pb.ScoreModelRequest(
            request_id=training().request_id,
            model_id=closing.model_id,
            rows=bets(40, seed=6, first_day=750),
        )
    )
    found = await client.learning.GetModel(pb.GetModelRequest(model_id=closing.model_id))
    assert found.score_since.intervals.miss_rate > 0.0
    other = await client.ready(**WEIGHTS)
    assert (await client.size(by_model(other, closing.model_id))).predictions


async def test_a_multiplier_has_no_intervals_to_refuse_by(client: Client) -> None:
    request = training(
        bets(100, win_probability=[0.6] * 100),
        kind=pb.MODEL_KIND_SIZE_MULTIPLIER,
        model_id=new_id("model"),
        refuse_unbounded=True,
    )
    refused = await refusal(client.learning.TrainModel(request, timeout=LONG_S))
    assert refused.fields == {"refuse_unbounded": "NOT_APPLICABLE"}
