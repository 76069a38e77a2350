"""Constraints of trees, sequential bootstrap and combinatorial validation over gRPC."""

import json
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import learning_service_pb2 as pb
from sklearn.ensemble import HistGradientBoostingClassifier

from compute.learn.document import decode
from compute.learn.tree_import import of_scikit_learn
from tests.server.learning.test_learning import LONG_S, bets, moment, trained, training
from tests.server.support.service_client import Client, refusal

TREES = pb.MODEL_KIND_BOOSTED_TREES


def imported(rows: pb.TrainingRows, **given: Any) -> pb.ImportedTrees:
    """Trees that a user trained with a library of their own."""
    x = np.array([column.values for column in rows.features]).T
    theirs = HistGradientBoostingClassifier(max_iter=20, max_depth=3, random_state=0, **given)
    document = json.dumps(of_scikit_learn(theirs.fit(x, list(rows.won))))
    return pb.ImportedTrees(document=document, trained_until_time=moment(599.5))


async def test_imported_trees_keep_the_constraints_that_they_declare(client: Client) -> None:
    rows, later = bets(600), bets(300, seed=9, first_day=600)
    model = await trained(
        client,
        later,
        kind=TREES,
        imported_trees=imported(rows, monotonic_cst=[1, 0]),
        rising_features=["trend"],
    )
    assert list(model.report.rising_features) == ["trend"]
    x = np.column_stack([np.linspace(-4.0, 4.0, 400), np.full(400, 0.3)])
    p, _ = decode(model.document).predict(x, np.full(400, 0.5))
    assert (np.diff(p) >= 0.0).all()

    async def wrong(**given: Any) -> dict[str, str]:
        request = training(later, **{"kind": TREES, "imported_trees": imported(rows), **given})
        return (await refusal(client.learning.TrainModel(request, timeout=LONG_S))).fields

    broken = {"imported_trees.document": "NOT_MONOTONE"}
    assert await wrong(rising_features=["trend"]) == broken
    assert await wrong(falling_features=["noise"]) == broken
    assert await wrong(rising_features=["luck"]) == {"rising_features[0]": "UNKNOWN_FEATURE"}
    twice = {"rising_features": ["trend"], "falling_features": ["trend"]}
    assert await wrong(**twice) == {"falling_features[0]": "DUPLICATE"}
    draws = {"bootstrap_draws": 3}
    assert await wrong(**draws) == {"bootstrap_draws": "NOT_APPLICABLE"}
    logistic = training(rows, rising_features=["trend"])
    refused = await refusal(client.learning.TrainModel(logistic, timeout=LONG_S))
    assert refused.fields == {"rising_features": "NOT_APPLICABLE"}


async def test_a_record_has_its_paths_and_its_log_loss_in_parts(client: Client) -> None:
    own = pb.CombinatorialValidation(groups=6, tested_groups=2)
    rows = bets(300)
    model = await trained(client, rows, combinatorial=own, bootstrap_draws=2)
    paths, score = model.report.paths, model.report.score
    assert (paths.splits, len(paths.growth), len(paths.log_loss)) == (15, 5, 5)
    assert min(paths.over_climatology) > 0.0
    assert paths.log_loss == pytest.approx([score.log_loss] * 5, abs=0.1)
    assert list(model.report.weights) == [0.5, 0.5]
    assert not model.report.HasField("regret")

    parts = score.miscalibration - score.discrimination + score.log_loss_uncertainty
    assert score.log_loss == pytest.approx(parts, abs=1e-12)
    won = np.mean(rows.won[300 - score.rows :])
    entropy = -(won * np.log(won) + (1.0 - won) * np.log(1.0 - won))
    assert score.log_loss_uncertainty == pytest.approx(entropy, abs=1e-12)

    async def wrong(**given: Any) -> dict[str, str]:
        request = training(rows, **given)
        return (await refusal(client.learning.TrainModel(request, timeout=LONG_S))).fields

    def choice(groups: int, tested: int) -> dict[str, Any]:
        return {"combinatorial": pb.CombinatorialValidation(groups=groups, tested_groups=tested)}

    where = "combinatorial.tested_groups"
    assert await wrong(**choice(4, 4)) == {where: "OUT_OF_RANGE"}
    assert await wrong(**choice(20, 10)) == {where: "OUT_OF_RANGE"}
    assert await wrong(**choice(1, 0)) == {
        "combinatorial.groups": "OUT_OF_RANGE",
        where: "OUT_OF_RANGE",
    }
    assert await wrong(bootstrap_draws=1) == {"bootstrap_draws": "OUT_OF_RANGE"}
    pool = {"kind": pb.MODEL_KIND_LOG_POOL, "bootstrap_draws": 2, "members": [
        pb.ModelMember(features=["trend"]), pb.ModelMember(features=["noise"])]}  # fmt: skip
    assert await wrong(**pool) == {"bootstrap_draws": "NOT_APPLICABLE"}
    alone = training(bets(60), **choice(6, 5))
    refused = await refusal(client.learning.TrainModel(alone, timeout=LONG_S))
    assert (refused.reason, refused.fields) == ("TOO_FEW_ROWS", {"rows": "TOO_FEW_ROWS"})
