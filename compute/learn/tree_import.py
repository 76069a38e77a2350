"""Trees of other libraries, exactly: each line goes where the library would send it.

    NODES    {"base": logit, "trees": [{"feature": [...], "threshold": [...], "left": [...],
             "right": [...], "missing_left": [...], "value": [...]}]}; places are counted within the
             tree, and a leaf has feature -1. `of_scikit_learn` makes it of a
             HistGradientBoostingClassifier, where that was trained.
    XGBOOST  {"base": logit, "trees": [...]}, the trees as `Booster.get_dump(dump_format="json")`
             has them: a line goes to `yes` where float32(x) < float32(split_condition).

A file is text, and what it says are numbers: nothing is unpickled, nobody's code is run.
"""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from compute.learn.trees import LEAF, NODES_MAX, Nodes, TreeError, Trees
from compute.market import Floats

_COLUMNS: dict[str, Any] = {
    "feature": np.int64,
    "threshold": np.float64,
    "left": np.int64,
    "right": np.int64,
    "missing_left": np.int64,
    "value": np.float64,
}
DEPTH_MAX = 64
Node = tuple[int, float, int, int, bool, float]
"""An entry of each column; children are counted within the tree."""


def of_json(text: str, features: tuple[str, ...], *, is_xgboost: bool) -> Trees:
    """The trees of a document over these features. Raises `TreeError`."""
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise TreeError("the document", f"is no JSON: {error}") from error
    if isinstance(document, list):
        raise TreeError("the document", 'is a list: write {"base": b, "trees": [...]}, b a logit')
    if not isinstance(document, dict) or not isinstance(document.get("trees"), list):
        raise TreeError("the document", 'has no list of "trees"')
    if any(isinstance(tree, str) for tree in document["trees"]):
        text = "are texts: get_dump gives each tree as JSON of its own, to be read before"
        raise TreeError("trees", text)
    base = document.get("base")
    if isinstance(base, bool) or not isinstance(base, int | float) or not abs(base) < 1e6:
        raise TreeError("base", "must be a finite number: the logit that the sum begins with")
    read = _xgboost_tree if is_xgboost else _plain_tree
    trees = [read(tree, f"tree {i}", features) for i, tree in enumerate(document["trees"])]
    nodes = _joined(trees)
    nodes.check(len(features))
    return Trees(features, nodes, np.array([float(base)]), np.zeros(len(trees), dtype=np.int64))


def of_scikit_learn(fitted: Any) -> dict[str, Any]:
    """The document, of the form NODES, of a fitted binary HistGradientBoostingClassifier.

    It reads private attributes (`_predictors`), whose form scikit-learn doesn't promise: compare
    `Trees.logits` with `decision_function` on your own rows, as this service does where it trains.
    Raises `TreeError` for what it can't say: categories, and more than two classes.
    """
    trees = []
    for iteration in fitted._predictors:
        if len(iteration) != 1:
            raise TreeError("the classifier", "has more than two classes")
        nodes = iteration[0].nodes
        if nodes["is_categorical"].any():
            raise TreeError("the classifier", "has categorical features")
        is_leaf = nodes["is_leaf"].astype(bool)
        largest = np.finfo(np.float64).max  # an infinite threshold: all but the missing go left
        trees.append(
            {
                "feature": np.where(is_leaf, LEAF, nodes["feature_idx"].astype(np.int64)).tolist(),
                "threshold": np.minimum(
                    np.where(is_leaf, 0.0, nodes["num_threshold"]), largest
                ).tolist(),
                "left": nodes["left"].astype(np.int64).tolist(),
                "right": nodes["right"].astype(np.int64).tolist(),
                "missing_left": nodes["missing_go_to_left"].astype(int).tolist(),
                "value": np.where(is_leaf, nodes["value"], 0.0).tolist(),
            }
        )
    return {"base": float(np.ravel(fitted._baseline_prediction)[0]), "trees": trees}


def joined(documents: Sequence[dict[str, Any]], features: tuple[str, ...]) -> Trees:
    """Several documents of the form NODES as the groups of one member."""
    trees = [_plain_tree(tree, "tree", ()) for item in documents for tree in item["trees"]]
    group = np.repeat(np.arange(len(documents)), [len(item["trees"]) for item in documents])
    base = np.array([item["base"] for item in documents])
    return Trees(features, _joined(trees), base, group)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _plain_tree(tree: Any, where: str, features: tuple[str, ...]) -> list[Node]:
    del features
    if not isinstance(tree, dict):
        raise TreeError(where, "is no object of columns")
    columns = []
    for name, kind in _COLUMNS.items():
        try:
            column = np.array(tree[name])
            whole = column.astype(kind)
            if column.ndim != 1 or (whole != column).any():
                raise ValueError
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise TreeError(where, f"has no column {name!r} of numbers") from error
        columns.append(whole.tolist())
    if len({len(column) for column in columns}) != 1 or not columns[0]:
        raise TreeError(where, "has columns of different lengths, or none")
    return list(zip(*columns, strict=True))


def _xgboost_tree(tree: Any, where: str, features: tuple[str, ...]) -> list[Node]:
    """The nodes of a nested tree, in an order in which parents come first."""
    places = {name: place for place, name in enumerate(features)}
    places |= {f"f{place}": place for place in range(len(features)) if f"f{place}" not in places}
    found: list[Node | None] = []

    def walk(node: Any, depth: int) -> int:
        place = len(found)
        found.append(None)
        if not isinstance(node, dict) or depth > DEPTH_MAX or place >= NODES_MAX:
            raise TreeError(f"{where}, node {place}", "is no node, or too deep")
        if "leaf" in node:
            found[place] = (LEAF, 0.0, 0, 0, False, _number(node, "leaf", where))
            return place
        name = node.get("split")
        if name not in places:
            raise TreeError(f"{where}, node {place}", f"splits by {name!r}, which is no feature")
        children = node.get("children")
        if not isinstance(children, list) or len(children) != 2:
            raise TreeError(f"{where}, node {place}", "doesn't have two children")
        by_id = {child.get("nodeid"): child for child in children if isinstance(child, dict)}
        if {node.get("yes"), node.get("no")} != set(by_id) or len(by_id) != 2:
            raise TreeError(f"{where}, node {place}", "names other children than it has")
        bound = _at_most(_number(node, "split_condition", where))
        left, right = (walk(by_id[node[side]], depth + 1) for side in ("yes", "no"))
        found[place] = (places[name], bound, left, right, node.get("missing") == node["yes"], 0.0)
        return place

    walk(tree, 0)
    return [node for node in found if node is not None]


def _number(node: dict[str, Any], name: str, where: str) -> float:
    value = node.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TreeError(where, f"has a {name!r} that is no number")
    return float(value)


def _at_most(condition: float) -> float:
    """The largest float64 x with float32(x) < float32(condition).

    Where float32 rounds to the number before the condition: up to the middle of both, with it where
    ties go down, to the even of the two.
    """
    with np.errstate(over="ignore"):
        bound = np.float32(condition)
        before = np.nextafter(bound, np.float32(-np.inf))
    middle = 0.5 * (float(before) + float(bound))
    is_below = np.float32(middle) < bound
    return float(middle if is_below else np.nextafter(middle, -np.inf))


def _joined(trees: Sequence[list[Node]]) -> Nodes:
    """All trees behind each other, children counted over all of them."""
    starts = np.cumsum([0, *(len(tree) for tree in trees)])[: len(trees)]
    columns: list[Floats] = [
        np.array([entry for tree in trees for entry in [node[i] for node in tree]])
        for i in range(len(_COLUMNS))
    ]
    shift = np.repeat(starts, [len(tree) for tree in trees])
    feature, threshold, left, right, missing_left, value = columns
    return Nodes(
        root=starts.astype(np.int64),
        feature=feature.astype(np.int64),
        threshold=threshold.astype(np.float64),
        left=left.astype(np.int64) + shift,
        right=right.astype(np.int64) + shift,
        missing_left=missing_left.astype(np.int64),
        value=value.astype(np.float64),
    )
