"""Monotone constraints: every tree against all its values on a grid, and what trainers promise."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from compute.learn.monotone import NotMonotoneError, check
from compute.learn.tree_import import of_json, of_scikit_learn
from compute.learn.trees import Trees

NAMES = ("a", "b", "c")
GRID = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])


def read(*trees: dict[str, Any]) -> Trees:
    text = json.dumps({"base": 0.0, "trees": trees})
    return of_json(text, NAMES, is_xgboost=False)


def random_tree(random: np.random.Generator) -> dict[str, Any]:
    """Columns of a tree of up to 12 leaves over three features, with few values."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("feature", "threshold", "left", "right", "missing_left", "value")
    }

    def grow(depth: int) -> int:
        place = len(columns["feature"])
        for name in columns:
            columns[name].append(0)
        if depth == 0 or random.random() < 0.3:
            columns["feature"][place] = -1
            columns["value"][place] = float(random.integers(0, 3))
            return place
        columns["feature"][place] = int(random.integers(3))
        columns["threshold"][place] = float(random.choice([-1.0, 0.0, 1.0]))
        columns["missing_left"][place] = int(random.integers(2))
        columns["left"][place], columns["right"][place] = grow(depth - 1), grow(depth - 1)
        return place

    grow(3)
    return columns


def rises_by_brute_force(trees: Trees, feature: int) -> bool:
    """Whether no value falls with the feature, whatever the others are, missing ones included."""
    other = [*GRID, np.nan]
    lines = np.stack(np.meshgrid(GRID, other, other, indexing="ij"), axis=-1)
    lines = np.moveaxis(lines.reshape(-1, 3), 0, 1)
    x = np.empty((lines.shape[1], 3))
    x[:, feature] = lines[0]
    x[:, [i for i in range(3) if i != feature]] = lines[1:].T
    values = trees.logits(x)[0].reshape(len(GRID), -1)
    return bool((np.diff(values, axis=0) >= 0.0).all())


def is_rising(trees: Trees, *, sign: int, name: str) -> bool:
    try:
        check(trees, *(((name,), ()) if sign > 0 else ((), (name,))))
    except NotMonotoneError:
        return False
    return True


@given(st.integers(0, 10**9))
@settings(max_examples=300, deadline=None)
def test_a_tree_is_what_its_values_on_a_grid_say(seed: int) -> None:
    tree = random_tree(np.random.default_rng(seed))
    negated = {**tree, "value": [-value for value in tree["value"]]}
    for feature, name in enumerate(NAMES):
        rising = rises_by_brute_force(read(tree), feature)
        assert is_rising(read(tree), sign=1, name=name) == rising
        assert is_rising(read(negated), sign=-1, name=name) == rising


def test_the_message_says_which_tree_and_where() -> None:
    stump = {
        "feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0],
        "missing_left": [1, 0, 0], "value": [0, 1.0, -1.0],
    }  # fmt: skip
    flat = {**stump, "value": [0, 1.0, 1.0]}
    check(read(flat, stump), (), ("a",))
    with pytest.raises(NotMonotoneError) as told:
        check(read(flat, stump), ("a",), ())
    assert str(told.value) == "tree 1 falls with 'a', from 1 to -1, as it comes to be above 0.5"
    check(read(stump), ("b", "c"), ())  # it doesn't read them


def test_what_scikit_learn_promises_is_kept_and_without_it_is_not() -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=(2000, 3))
    x[random.random(x.shape) < 0.05] = np.nan
    score = np.nan_to_num(x[:, 0]) - np.nan_to_num(x[:, 1]) ** 2
    won = random.random(2000) < 1.0 / (1.0 + np.exp(-score))

    def fitted(**given: Any) -> Trees:
        classifier = HistGradientBoostingClassifier(max_iter=30, random_state=0, **given)
        document = of_scikit_learn(classifier.fit(x, won))
        return of_json(json.dumps(document), NAMES, is_xgboost=False)

    check(fitted(monotonic_cst=[1, 0, -1]), ("a",), ("c",))
    for rising, falling in ((("a",), ()), ((), ("b",))):
        with pytest.raises(NotMonotoneError):
            check(fitted(), rising, falling)
