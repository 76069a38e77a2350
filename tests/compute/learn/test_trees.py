"""Trees against the libraries that make them, bit for bit, and what is refused as no tree."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier

from compute.learn.calibration import Calibration
from compute.learn.document import ModelDocumentError, decode, encode
from compute.learn.models import ModelKind
from compute.learn.training import Plan, train
from compute.learn.tree_import import of_json, of_scikit_learn
from compute.learn.trees import TreeError, Trees
from tests.compute.learn.test_training import ALL, NAMES, rows_of

LEAF = {"feature": [-1], "threshold": [0], "left": [0], "right": [0], "missing_left": [0]}
STUMP = {
    "feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0],
    "missing_left": [1, 0, 0], "value": [0, -1.0, 1.0],
}  # fmt: skip


def read(trees: Any, base: Any = 0.0, features: tuple[str, ...] = ("a", "b")) -> Trees:
    return of_json(json.dumps({"base": base, "trees": trees}), features, is_xgboost=False)


@pytest.mark.parametrize(("depth", "leaves", "k"), [(None, 31, 5), (3, 8, 2), (None, 60, 9)])
def test_they_say_what_scikit_learn_says(depth: int | None, leaves: int, k: int) -> None:
    random = np.random.default_rng(k)
    x = random.normal(size=(1500, k))
    x[random.random(x.shape) < 0.05] = np.nan
    won = random.random(1500) < expit(np.nan_to_num(x[:, 0]) * np.nan_to_num(x[:, 1]))
    theirs = HistGradientBoostingClassifier(
        max_iter=40, max_depth=depth, max_leaf_nodes=leaves, random_state=0, early_stopping=False
    ).fit(x, won)
    names = tuple(f"f{i}" for i in range(k))
    ours = of_json(json.dumps(of_scikit_learn(theirs)), names, is_xgboost=False)
    new = random.normal(size=(1000, k))
    new[random.random(new.shape) < 0.05] = np.nan
    on = ours.nodes.threshold[ours.nodes.feature == 0]  # on the thresholds themselves as well
    new[: len(on), 0] = on[:1000]
    assert np.array_equal(ours.logits(new)[0], theirs.decision_function(new))
    score, error = ours.score(new)
    assert np.abs(score - theirs.predict_proba(new)[:, 1]).max() <= 1e-16
    assert (error == 0.0).all()
    for line in (0, 500, 999):  # whatever stands beside it
        assert ours.score(new[line : line + 1])[0][0] == score[line]


def xgboost_tree(random: np.random.Generator, depth: int, count: list[int]) -> dict[str, Any]:
    node = count[0]
    count[0] += 1
    if depth == 0 or random.random() < 0.2:
        return {"nodeid": node, "leaf": float(np.float32(random.normal()))}
    one, other = (xgboost_tree(random, depth - 1, count) for _ in range(2))
    children = [one, other] if random.random() < 0.5 else [other, one]
    return {
        "nodeid": node, "depth": 0, "split": f"f{random.integers(3)}",
        "split_condition": float(np.float32(random.normal())), "yes": one["nodeid"],
        "no": other["nodeid"], "missing": children[0]["nodeid"], "children": children,
    }  # fmt: skip


def walked(node: dict[str, Any], x: np.ndarray) -> float:
    """As XGBoost documents it: features and conditions are float32, below goes to `yes`."""
    while "leaf" not in node:
        value = np.float32(x[int(node["split"][1:])])
        is_below = value < np.float32(node["split_condition"])
        go = node["missing"] if np.isnan(value) else node["yes" if is_below else "no"]
        node = next(child for child in node["children"] if child["nodeid"] == go)
    return float(node["leaf"])


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_xgboost_goes_left_where_float32_says_so(seed: int) -> None:
    random = np.random.default_rng(seed)
    trees = [xgboost_tree(random, 4, [0]) for _ in range(5)]
    text = json.dumps({"base": 0.25, "trees": trees})
    ours = of_json(text, ("f0", "f1", "f2"), is_xgboost=True)
    x = random.normal(size=(60, 3))
    x[random.random(x.shape) < 0.1] = np.nan
    bounds = ours.nodes.threshold[ours.nodes.feature >= 0]
    for bound in bounds[:10]:  # where rounding to float32 decides
        near = [bound, np.nextafter(bound, np.inf), np.nextafter(bound, -np.inf)]
        near += [float(np.float32(bound)), float(np.nextafter(np.float32(bound), np.float32(9.0)))]
        x = np.concatenate([x, np.repeat(np.array(near)[:, None], 3, axis=1)])
    found = ours.logits(x)[0]
    for line in range(len(x)):
        assert found[line] == sum((walked(tree, x[line]) for tree in trees), 0.25)


def test_a_document_is_checked_node_by_node() -> None:
    def refused(trees: Any, match: str, base: Any = 0.0) -> None:
        with pytest.raises(TreeError, match=match):
            read(trees, base)

    def stump(**columns: Any) -> list[Any]:
        return [{**STUMP, **columns}]

    assert read(stump()).logits(np.array([[0.5, 0.0], [0.6, 0.0], [np.nan, 0.0]]))[0].tolist() == [
        -1.0, 1.0, -1.0,
    ]  # fmt: skip
    refused(stump(left=[0, 0, 0]), "tree 0, node 0, has a child that is not later")
    refused(stump(right=[1, 0, 0]), "exactly one")
    refused(stump(right=[9, 0, 0]), "node 0, has a child")
    refused(stump(feature=[2, -1, -1]), "reads feature 2 of 2")
    refused(stump(feature=[0.5, -1, -1]), "no column 'feature'")
    refused(stump(value=[0, "1", 0]), "no column 'value'")
    refused(stump(value=[0, 1]), "different lengths")
    refused([], "have 0 nodes")
    refused([3], "no object of columns")
    refused(stump(), "base must be", base=None)
    refused(stump(), "base must be", base=True)
    deep = {name: [] for name in STUMP}
    for level in range(64):  # 65 leaves
        for name, pair in {
            "feature": (0, -1), "threshold": (level, 0), "left": (2 * level + 1, 0),
            "right": (2 * level + 2, 0), "missing_left": (0, 0), "value": (0, 1.0),
        }.items():  # fmt: skip
            deep[name] += pair
    for name, last in (("feature", -1), ("value", 0.0), ("threshold", 0), ("left", 0)):
        deep[name].append(last)
    deep["right"].append(0)
    deep["missing_left"].append(0)
    refused([deep], "65 leaves")
    with pytest.raises(TreeError, match="no JSON"):
        of_json('{"base": NaN, "trees": []}', ("a",), is_xgboost=False)
    with pytest.raises(TreeError, match="no JSON"):
        of_json("cposix\nsystem\n", ("a",), is_xgboost=False)  # a pickle
    with pytest.raises(TreeError, match="is a list: write"):
        of_json('[{"nodeid": 0, "leaf": 0.1}]', ("a",), is_xgboost=True)  # get_dump alone
    with pytest.raises(TreeError, match="are texts"):
        of_json(json.dumps({"base": 0, "trees": ['{"leaf": 0.1}']}), ("a",), is_xgboost=True)
    node = {"split": "zz", "split_condition": 1.0, "children": [], "yes": 1, "no": 2}
    with pytest.raises(TreeError, match="which is no feature"):
        of_json(json.dumps({"base": 0, "trees": [node]}), ("a",), is_xgboost=True)


def test_trained_trees_find_what_a_line_does_not() -> None:
    """Won where both features are on one side: no weights of a logistic regression say that."""
    rows = rows_of(2000, strength=0.0)
    x = rows.features
    truth = expit(1.5 * np.sign(x[:, 0] * (x[:, 1] - 5.0)))
    random = np.random.default_rng(1)
    taught = rows.__class__(
        rows.names, x, rows.start, rows.end, (random.random(2000) < truth).astype(float),
        rows.payoff, rows.loss, rows.group,
    )  # fmt: skip
    assert not train(taught, Plan(ModelKind.LOGISTIC, ALL)).is_proven
    plan = Plan(ModelKind.BOOSTED_TREES, ALL, folds=2)
    found = train(taught, plan)
    assert found.is_proven
    p, error = found.model.predict(np.array([[1.0, 15.0, 0.0], [-1.0, 15.0, 0.0]]), np.full(2, 0.5))
    assert p[0] > 0.7
    assert p[1] < 0.3
    assert (error > 0.0).all()
    text = encode(found.model)
    assert encode(decode(text)) == text
    again = decode(text).predict(x[:40], np.full(40, 0.5))
    for ours, theirs in zip(found.model.predict(x[:40], np.full(40, 0.5)), again, strict=True):
        assert np.array_equal(ours, theirs)
    with pytest.raises(ModelDocumentError, match="child"):
        decode(text.replace('"left": [1, ', '"left": [0, ', 1))


def test_imported_trees_are_calibrated_and_tested_by_the_rows() -> None:
    rows = rows_of(1500)
    stump = {**STUMP, "threshold": [0.0, 0, 0], "value": [0, -5.0, 5.0]}  # far too sure
    trees = of_json(json.dumps({"base": 0.0, "trees": [stump]}), NAMES, is_xgboost=False)
    found = train(rows, Plan(ModelKind.BOOSTED_TREES, ALL, imported=trees))
    (member,) = found.model.members
    assert isinstance(member, Trees)
    assert member.nodes is trees.nodes
    assert member.calibrator.kind is Calibration.PLATT
    assert found.evidence is not None
    assert found.evidence.parts.miscalibration < 0.02
    p, error = found.model.predict(np.array([[1.0, 5.0, 0.0]]), np.full(1, 0.5))
    above = rows.won[rows.features[:, 0] > 0.0].mean()
    assert p[0] == pytest.approx(above, abs=0.03)
    assert error[0] > 0.0
