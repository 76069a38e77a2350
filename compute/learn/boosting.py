"""Gradient boosting of trees by scikit-learn (extra `learn`), kept as numbers of our own.

scikit-learn is imported to train and for nothing else: what is served, stored and replayed are
`Trees`. At each fit they are compared with what scikit-learn says of the same rows.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np

from compute.learn import monotone
from compute.learn.rows import Rows
from compute.learn.scores import log_losses
from compute.learn.tree_import import joined, of_scikit_learn
from compute.learn.trees import Trees
from compute.market import Floats, Integers

PACKAGE = "sklearn"
GROUPS = 4
"""Fits that lack a stretch of time each, for the standard error."""
TREES_MAX = 100
DEPTH_MAX = 4
LEAVES_MAX = 16
LEARNING_RATE = 0.1
LEAF_SHARE, LEAF_MIN, LEAF_MAX = 0.05, 20, 500
"""Rows that a leaf needs: a share of all, between the two."""
ROUNDING = 1e-12


class PackageMissingError(RuntimeError):
    """The package that trains trees is not installed."""


def is_available() -> bool:
    """Whether scikit-learn is installed."""
    return find_spec(PACKAGE) is not None


Constrained = tuple[tuple[str, ...], tuple[str, ...]]
"""Features with which trees only rise, and only fall."""


def fit(
    rows: Rows,
    weight: Floats,
    early: Integers,
    late: Integers,
    constrained: Constrained = ((), ()),
) -> Trees:
    """Trees on rows by time, weighted, (n,); not calibrated.

    The number of trees is that with the least log loss on the rows `late` when taught on `early`,
    TREES_MAX where there are none. Raises `PackageMissingError`.
    """
    signs = [
        (name in constrained[0]) * monotone.RISING + (name in constrained[1]) * monotone.FALLING
        for name in rows.names
    ]
    count = _best_count(rows, weight, early, late, signs) if len(late) else TREES_MAX
    group = np.arange(len(rows)) * GROUPS // len(rows)
    fits = []
    for left_out in range(GROUPS):
        used = np.flatnonzero(group != left_out)
        if not 0.0 < rows.won[used].sum() < len(used):
            used = np.arange(len(rows))  # one class alone teaches nothing
        fitted = _fitted(rows, weight, used, count, signs)
        document = of_scikit_learn(fitted)
        own = joined([document], rows.names).logits(rows.features)[0]
        if np.abs(own - fitted.decision_function(rows.features)).max() > ROUNDING:
            raise PackageMissingError("this release of scikit-learn has trees of another form")
        fits.append(document)
    found = joined(fits, rows.names)
    monotone.check(found, *constrained)
    return found


def _best_count(
    rows: Rows, weight: Floats, early: Integers, late: Integers, signs: list[int]
) -> int:
    fitted = _fitted(rows, weight, early, TREES_MAX, signs)
    losses = [
        float(log_losses(np.clip(p[:, 1], 1e-12, 1.0 - 1e-12), rows.won[late]).mean())
        for p in fitted.staged_predict_proba(rows.features[late])
    ]
    return int(np.argmin(losses)) + 1


def _fitted(rows: Rows, weight: Floats, used: Integers, count: int, signs: list[int]) -> Any:
    if not is_available():
        raise PackageMissingError("scikit-learn is not installed")
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    leaf = int(np.clip(LEAF_SHARE * len(used), LEAF_MIN, LEAF_MAX))
    made = HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE,
        max_iter=count,
        max_depth=DEPTH_MAX,
        max_leaf_nodes=LEAVES_MAX,
        min_samples_leaf=leaf,
        monotonic_cst=signs if any(signs) else None,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(1):  # sums in one order, and one core beside the service
        return made.fit(rows.features[used], rows.won[used], weight[used])
