"""Training end to end on arrays: what there is to learn is learned, and luck isn't taken for it."""

import numpy as np
import pytest
from scipy.special import expit

from compute.learn import multiplier
from compute.learn.document import ModelDocumentError, decode, digest, encode
from compute.learn.learners import Plan
from compute.learn.models import ModelKind
from compute.learn.rows import Rows
from compute.learn.splits import walk_forward
from compute.learn.training import TooFewRowsError, out_of_sample, train

DAY = 86_400_000_000_000
NAMES = ("a", "b", "c")
ALL = (NAMES,)
SPLIT = (("a",), ("b", "c"))


def rows_of(
    n: int = 3000, strength: float = 1.0, seed: int = 0, per_day: int = 4, span: int = 5
) -> Rows:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 3)) * np.array([1.0, 10.0, 0.01]) + np.array([0.0, 5.0, 0.0])
    truth = expit(strength * (0.8 * x[:, 0] - 0.05 * (x[:, 1] - 5.0)))
    start = (np.arange(n) // per_day) * DAY
    return Rows(
        NAMES, x, start, start + span * DAY, (random.random(n) < truth).astype(float),
        np.ones(n), np.ones(n), np.arange(n) % per_day, np.full(n, 0.55),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (ModelKind.LOGISTIC, ALL),
        (ModelKind.LOG_POOL, SPLIT),
        (ModelKind.WEALTH_MIXTURE, SPLIT),
    ],
)
def test_what_can_be_learned_beats_the_bars(
    kind: ModelKind, members: tuple[tuple[str, ...], ...]
) -> None:
    found = train(rows_of(), Plan(kind, members))
    assert found.is_proven
    assert found.evidence is not None
    # A mixture is of stakes: its probability is never below break-even.
    bound = 0.05 if kind is ModelKind.WEALTH_MIXTURE else 0.02
    assert found.evidence.parts.miscalibration < bound
    assert found.growth.low is not None
    assert found.growth.low > 0.0
    if len(members) > 1:
        assert found.regret is not None
        assert 0.0 <= found.regret <= np.log(2)
    x = np.array([[2.0, 5.0, 0.0], [-2.0, 5.0, 0.0]])
    p, error = found.model.predict(x, np.array([0.5, 0.5]))
    assert p[0] > 0.7
    assert p[1] < (0.5001 if kind is ModelKind.WEALTH_MIXTURE else 0.3)
    assert (error > 0.0).all()


def test_noise_proves_nothing() -> None:
    proven = [
        train(rows_of(800, strength=0.0, seed=seed), Plan(ModelKind.LOGISTIC, ALL)).is_proven
        for seed in range(8)
    ]
    assert sum(proven) <= 1


@pytest.mark.parametrize("future", [np.nan, 1e9])
def test_forecasts_do_not_change_with_what_comes_later(future: float) -> None:
    rows = rows_of(1200)
    plan = Plan(ModelKind.LOG_POOL, SPLIT)
    folds = walk_forward(rows, 4, 0)
    whole = out_of_sample(rows, plan, folds)
    for count in (1, 2, 3):
        cut = int(folds[count].test[0])
        features, won = rows.features.copy(), rows.won.copy()
        features[cut:], won[cut:] = future, 1.0 - won[cut:]
        # Outcomes that were not known by the last block tested are the future as well.
        late = rows.end >= rows.start[folds[count - 1].test[0]]
        won[late] = 1.0 - won[late]
        changed = Rows(
            rows.names, features, rows.start, rows.end, won, rows.payoff, rows.loss, rows.group
        )
        again = out_of_sample(changed, plan, folds[:count])
        here = np.isin(whole.places, again.places)
        assert (again.probability == whole.probability[here]).all()
        assert (again.climatology == whole.climatology[here]).all()


def test_the_order_in_which_rows_come_does_not_matter() -> None:
    rows = rows_of(600, per_day=1)
    shuffled = rows.take(np.random.default_rng(1).permutation(600))
    plan = Plan(ModelKind.LOGISTIC, ALL)
    assert encode(train(rows, plan).model) == encode(train(shuffled, plan).model)


def test_a_line_is_told_the_same_whatever_stands_beside_it() -> None:
    model = train(rows_of(900), Plan(ModelKind.LOG_POOL, SPLIT)).model
    x, implied = rows_of(100, seed=9).features, np.full(100, 0.5)
    whole = model.predict(x, implied)
    for line in (0, 17, 99):
        alone = model.predict(x[line : line + 1], implied[line : line + 1])
        assert (alone[0][0], alone[1][0]) == (whole[0][line], whole[1][line])


def test_nothing_is_said_beyond_what_was_seen() -> None:
    rows = rows_of(900)
    model = train(rows, Plan(ModelKind.LOGISTIC, ALL)).model
    edge = np.array([rows.features.max(axis=0), rows.features.max(axis=0) * 1e6])
    p, _ = model.predict(edge, np.full(2, 0.5))
    assert p[0] == p[1]


def test_too_few_rows_say_what_is_wanting() -> None:
    with pytest.raises(TooFewRowsError, match="too few"):
        train(rows_of(40), Plan(ModelKind.LOGISTIC, ALL))
    with pytest.raises(TooFewRowsError, match="embargo"):
        train(rows_of(400), Plan(ModelKind.LOGISTIC, ALL, embargo=1000 * DAY))


def test_a_multiplier_stakes_where_the_claims_are_right() -> None:
    found = train(rows_of(4000), Plan(ModelKind.SIZE_MULTIPLIER, ALL))
    assert found.is_proven
    m = found.model.multiplier(np.array([[2.0, 5.0, 0.0], [-2.0, 5.0, 0.0]]))
    assert m[0] > 0.9
    assert m[1] < 0.1


def test_the_gradient_of_growth_is_right() -> None:
    import jax

    random = np.random.default_rng(2)
    design, gain = random.normal(size=(50, 3)), random.uniform(-0.5, 0.5, 50)
    weight, ridge, beta = np.full(50, 0.02), np.float64(0.1), np.array([0.3, -0.2, 0.5])
    slope = jax.grad(multiplier.lost_growth)(beta, design, gain, weight, ridge)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-6
        ends = [
            float(multiplier.lost_growth(beta + s * step, design, gain, weight, ridge))
            for s in (1.0, -1.0)
        ]
        assert float(slope[i]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


def test_a_multiplier_without_claims_is_refused() -> None:
    rows = rows_of(400)
    bare = Rows(
        rows.names, rows.features, rows.start, rows.end, rows.won, rows.payoff, rows.loss,
        rows.group,
    )  # fmt: skip
    with pytest.raises(ValueError, match="claimed"):
        train(bare, Plan(ModelKind.SIZE_MULTIPLIER, ALL))


def test_a_document_comes_back_bit_for_bit() -> None:
    for plan in (Plan(ModelKind.LOGISTIC, ALL), Plan(ModelKind.SIZE_MULTIPLIER, ALL)):
        model = train(rows_of(1500), plan).model
        text = encode(model)
        again = decode(text)
        assert encode(again) == text
        x = rows_of(50, seed=4).features
        for name in ("predict", "multiplier"):
            given = (x, np.full(50, 0.5)) if name == "predict" else (x,)
            ours, theirs = getattr(model, name)(*given), getattr(again, name)(*given)
            assert np.array_equal(ours, theirs)
        assert digest(text) != digest(text.replace("1", "2", 1))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "kind": 1}'])
def test_what_is_no_model_is_told(text: str) -> None:
    with pytest.raises(ModelDocumentError):
        decode(text)
