"""Networks: against a plain evaluation, deterministic, and able to learn what lines can't."""

import numpy as np
import pytest
from scipy.special import expit

from compute.learn import network
from compute.learn.document import decode, encode
from compute.learn.models import ModelKind
from compute.learn.rows import Rows
from compute.learn.training import Plan, train
from tests.compute.learn.test_training import ALL, rows_of


def crossed(n: int = 2000, seed: int = 1) -> Rows:
    """Won where two features have one sign."""
    rows = rows_of(n, strength=0.0)
    x = rows.features
    truth = expit(2.0 * x[:, 0] * (x[:, 1] - 5.0) / 10.0)
    won = (np.random.default_rng(seed).random(n) < truth).astype(float)
    return Rows(
        rows.names, x, rows.start, rows.end, won, rows.payoff, rows.loss, rows.group, rows.claimed
    )


def fitted(rows: Rows, cut: int = 1500) -> network.Network:
    every = np.arange(len(rows))
    return network.fit(rows, np.ones(len(rows)), every[:cut], every[cut + 40 :])


def test_the_score_is_the_plain_formula_line_by_line() -> None:
    rows = crossed()
    found = fitted(rows)
    scaled = found.scaling.apply(rows.features)
    logits = []
    for first, second, last in zip(found.first, found.second, found.last, strict=True):
        hidden = np.tanh(np.einsum("ni,ij->nj", scaled, first[:-1]) + first[-1])
        hidden = np.tanh(np.einsum("ni,ij->nj", hidden, second[:-1]) + second[-1])
        logits.append(np.einsum("ni,i->n", hidden, last[:-1]) + last[-1])
    score, error = found.score(rows.features)
    assert score == pytest.approx(expit(np.mean(logits, axis=0)), abs=1e-14)
    g = len(logits)
    assert error == pytest.approx(np.std(logits, axis=0) * np.sqrt(g - 1.0), abs=1e-12)
    for line in (0, 1, 63, 64, 1000):
        assert found.score(rows.features[line : line + 1])[0][0] == score[line]
    order = np.random.default_rng(3).permutation(len(rows))
    assert np.array_equal(found.score(rows.features[order])[0], score[order])


def test_the_gradient_steps_are_those_of_differences() -> None:
    """One step of AdamW from the seeded start: its direction is the sign of the slope."""
    import jax

    random = np.random.default_rng(4)
    x, y = random.normal(size=(64, 3)), (random.random(64) < 0.5).astype(float)
    share, none = np.full(64, 1 / 64), np.zeros(64)
    start = network._start(jax.random.key(0), 3)
    after, _ = network._fitted(x, y, share, none, np.int64(1), np.int64(0))

    def loss(bias: float) -> float:
        weights = (*start[:-1], np.float64(bias))
        logit = np.asarray(network._logit(weights, x))
        return float((np.logaddexp(0.0, logit) - y * logit).mean())

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert float(after[-1]) == pytest.approx(-np.sign(slope) * network.LEARNING_RATE, rel=1e-4)


def test_the_same_rows_make_the_same_network() -> None:
    rows = crossed(600)
    one, other = fitted(rows, 400), fitted(rows, 400)
    assert np.array_equal(one.first, other.first)
    assert np.array_equal(one.last, other.last)


def test_what_two_features_say_together_is_learned_and_judged() -> None:
    rows = crossed(3000)
    assert not train(rows, Plan(ModelKind.LOGISTIC, ALL, folds=2)).is_proven
    found = train(rows, Plan(ModelKind.NETWORK, ALL, folds=2))
    assert found.is_proven
    x = np.array([[1.5, 20.0, 0.0], [-1.5, 20.0, 0.0]])
    p, error = found.model.predict(x, np.full(2, 0.5))
    assert p[0] > 0.7
    assert p[1] < 0.3
    assert (error > 0.0).all()
    text = encode(found.model)
    assert encode(decode(text)) == text
    assert np.array_equal(decode(text).predict(x, x[:, 0])[0], p)


def test_an_ensemble_may_have_members_of_each_kind() -> None:
    rows = crossed(1200)
    plan = Plan(
        ModelKind.LOG_POOL,
        (rows.names, rows.names, ("a",)),
        folds=2,
        learners=(ModelKind.BOOSTED_TREES, ModelKind.NETWORK, ModelKind.LOGISTIC),
    )
    found = train(rows, plan)
    assert [type(member).__name__ for member in found.model.members] == [
        "Trees", "Network", "Logistic",
    ]  # fmt: skip
    assert found.model.weights.sum() == pytest.approx(1.0)
    assert encode(decode(encode(found.model))) == encode(found.model)
    assert found.regret is not None
    assert 0.0 <= found.regret <= np.log(3.0)
