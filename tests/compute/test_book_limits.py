"""Limits of the whole book on final lots of the closed form: random books, and each kind once."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator

from compute.inputs import Inputs
from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.limits.bounds import prepare
from compute.limits.policy import JointLimits, LimitKind, Limits, LinearLimit
from compute.market import MissingInputError, Positions
from compute.money.contracts import contracts
from compute.shapes import KernelRegistry
from compute.sizing import size
from compute.waterfall.layout import Stage
from compute.waterfall.pipeline import Sizing
from tests.compute.plain_book_limits import book_breaches, risks
from tests.compute.plain_limits import breaches
from tests.compute.random_books import Case, case
from tests.compute.test_pipeline_properties import simple


def matrix(values: np.ndarray, n: int) -> ReturnMatrix:
    """Scenarios, equally likely, or a covariance, of the first n instruments."""
    return ReturnMatrix(
        tuple(f"I{i}" for i in range(n)), values, np.full(len(values), 1 / len(values))
    )


def sized(item: Case, returns: ReturnData, kernels: KernelRegistry) -> Sizing:
    """The decision on a case. Raises `MissingInputError` where it is refused."""
    limit_bounds = prepare(item.market, item.positions, item.limits, item.shared)
    known = np.ones(len(item.index), dtype=bool)
    inputs = Inputs(
        item.signals,
        item.index,
        item.active,
        known,
        limit_bounds,
        item.parameters,
        item.reducing,
        returns=returns,
    )
    return size(inputs, kernels)


def traded(item: Case, made: Sizing) -> np.ndarray:
    """Units traded of each instrument of the market."""
    trade = np.zeros(len(item.market.price))
    trade[item.index] = made.trade_lots * item.market.lot_size[item.index]
    return trade


def joint_limits(rng: Generator, names: tuple[str, ...], *, tail: bool) -> JointLimits:
    """Some limits of the book, absent as well as present."""

    def maybe(low: float, high: float) -> float | None:
        return float(np.exp(rng.uniform(np.log(low), np.log(high)))) if rng.random() < 0.4 else None

    rows = []
    for number in range(int(rng.integers(0, 3))):
        lower, upper = np.sort(rng.normal(0.0, 0.2, 2))
        rows.append(
            LinearLimit(
                f"row {number}",
                {str(name): float(rng.normal()) for name in names if rng.random() < 0.7},
                lower=float(lower) if rng.random() < 0.5 else None,
                upper=float(upper) if rng.random() < 0.7 else None,
                soft_price=1.0 if rng.random() < 0.1 else None,
            )
        )
    floor = tail and rng.random() < 0.3
    return JointLimits(
        volatility_max=maybe(1e-3, 0.1),
        var_max=maybe(1e-3, 0.1),
        var_level=0.99 if rng.random() < 0.3 else None,
        cvar_max=maybe(1e-3, 0.1) if tail else None,
        cvar_level=0.8 if rng.random() < 0.3 else None,
        cdar_max=maybe(1e-2, 0.5) if tail else None,
        wealth_floor=0.8 if floor else None,
        wealth_floor_probability=0.1 if floor else None,
        linear=tuple(rows),
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_book_gets_lots_beyond_a_limit_of_the_book(seed: int, kernels: KernelRegistry) -> None:
    rng = np.random.default_rng([3, seed])
    moved = traded_some = 0
    for _ in range(120):
        item = case(rng)
        n, tail = len(item.market.price), rng.random() < 0.7
        scenarios = 0.03 * rng.standard_normal((40, n)) + 0.001 if tail else None
        root = 0.03 * rng.standard_normal((n, n))
        covariance = root @ root.T if not tail or rng.random() < 0.2 else None
        joint = joint_limits(rng, item.market.instrument_ids, tail=tail)
        item = replace(item, limits=replace(item.limits, joint=joint))
        returns = ReturnData(
            None if scenarios is None else matrix(scenarios, n),
            None if covariance is None else matrix(covariance, n),
        )
        try:
            made = sized(item, returns, kernels)
        except MissingInputError:
            continue
        plain = breaches(
            item.market,
            item.positions,
            item.limits,
            item.shared,
            item.index.tolist(),
            made.trade_lots.tolist(),
            reducing=item.reducing,
        )
        of_book = book_breaches(
            item.market,
            item.positions,
            joint,
            traded(item, made),
            scenarios,
            covariance if scenarios is None else None,
            item.parameters.risk_free_rate,
            item.parameters.risk_budget,
        )
        assert [*plain, *of_book] == []
        moved += int((made.stages[Stage.BOOK_LIMIT] != made.stages[Stage.RECONCILE]).any())
        traded_some += int(made.trade_lots.any())
    assert moved > 10
    assert traded_some > 30


def of_book(**joint: object) -> Limits:
    """Limits of the book alone."""
    return Limits(joint=JointLimits(**joint), allow_short=True)  # type: ignore[arg-type]


COVARIANCE = 0.02**2 * np.array([[1.0, 0.8], [0.8, 1.0]])


def by_covariance(values: np.ndarray = COVARIANCE) -> ReturnData:
    """A covariance of as many instruments as it has rows."""
    return ReturnData(covariance=matrix(values, len(values)))


def test_a_cap_on_volatility_is_used_up_and_named(kernels: KernelRegistry) -> None:
    made = sized(simple(2, of_book(volatility_max=0.004)), by_covariance(), kernels)
    volatility = np.sqrt(made.weight @ COVARIANCE @ made.weight)
    assert 0.999 * 0.004 < volatility <= 0.004
    assert made.binding.kind.tolist() == [LimitKind.VOLATILITY_MAX] * 2
    assert made.binding.bound.tolist() == [0.004] * 2
    assert made.binding.without == pytest.approx([0.2, 0.2])


def test_increases_go_before_positions(kernels: KernelRegistry) -> None:
    """What is held already stays whole where less buying keeps the cap."""
    item = simple(2, of_book(volatility_max=0.005), held=[2000.0, 0.0], cash=8e5)
    made = sized(item, by_covariance(np.diag([4e-4, 4e-4])), kernels)
    assert made.weight[0] == pytest.approx(0.2)
    assert made.weight[1] == pytest.approx(0.15, rel=1e-3)


def test_a_book_beyond_comes_inside(kernels: KernelRegistry) -> None:
    item = simple(2, of_book(volatility_max=0.002), held=[4000.0, 4000.0], cash=2e5)
    made = sized(item, by_covariance(), kernels)
    volatility = np.sqrt(made.weight @ COVARIANCE @ made.weight)
    assert 0.999 * 0.002 < volatility <= 0.002
    assert (made.trade_lots < 0).all()


def test_holdings_outside_the_batch_count(kernels: KernelRegistry) -> None:
    """They can't be sold here: the line that is sized makes as little worse as it can."""
    item = simple(2, of_book(volatility_max=0.002), held=[0.0, 4000.0], cash=6e5)
    item = replace(
        item,
        index=np.array([0]),
        active=np.ones(1, dtype=bool),
        signals=replace(
            item.signals,
            side=np.ones(1),
            source=item.signals.source[:1],
            win_probability=item.signals.win_probability[:1],  # type: ignore[index]
            payoff=np.ones(1),
        ),
    )
    assert sized(item, by_covariance(), kernels).trade_lots.tolist() == [0]


def test_a_linear_limit_is_kept_by_the_smallest_change(kernels: KernelRegistry) -> None:
    equal = LinearLimit("equal", {"I0": 1.0, "I1": -1.0}, lower=0.0, upper=0.0)
    item = simple(2, of_book(linear=(equal,)))
    signals = replace(item.signals, win_probability=np.array([0.6, 0.55]))
    made = sized(replace(item, signals=signals), ReturnData(), kernels)
    assert made.trade_lots[0] == made.trade_lots[1]
    assert made.weight == pytest.approx([0.1, 0.1], rel=1e-3)
    assert made.binding.kind[0] == LimitKind.LINEAR


def test_lots_of_unlike_size_meet_where_a_row_needs_them(kernels: KernelRegistry) -> None:
    equal = LinearLimit("equal", {"I0": 1.0, "I1": -1.0}, lower=0.0, upper=0.0)
    item = simple(2, of_book(linear=(equal,)))
    item = replace(item, market=replace(item.market, price=np.array([37.0, 21.0])))
    made = sized(item, ReturnData(), kernels)
    assert 37 * made.trade_lots[0] == 21 * made.trade_lots[1] > 0.9 * 0.2e6


def test_a_hedge_rounded_down_takes_the_long_with_it(kernels: KernelRegistry) -> None:
    """Lots of the hedge are a fifth of it: what the rounding leaves open is not bought."""
    item = simple(2, of_book(volatility_max=0.0026))
    item = replace(
        item,
        market=replace(item.market, lot_size=np.array([1.0, 390.0])),
        signals=replace(item.signals, side=np.array([1.0, -1.0])),
    )
    made = sized(item, by_covariance(), kernels)
    volatility = np.sqrt(made.weight @ COVARIANCE @ made.weight)
    assert volatility <= 0.0026
    assert made.weight[1] <= -0.15
    assert made.weight[0] > 0.15


@pytest.mark.parametrize("beyond", [1.0, 1.03])
def test_what_is_bought_as_a_hedge_stays_with_what_it_hedges(
    beyond: float, kernels: KernelRegistry
) -> None:
    """What is held alone is twice beyond the cap: without the hedge nothing could stay."""
    hedged = COVARIANCE * [[1.0, -1.0], [-1.0, 1.0]]
    wanted = np.array([0.2, 0.2])
    cap = np.sqrt(wanted @ hedged @ wanted) / beyond
    item = simple(2, of_book(volatility_max=cap), held=[2000.0, 0.0], cash=8e5)
    made = sized(item, by_covariance(hedged), kernels)
    assert made.weight == pytest.approx(wanted / beyond, rel=1e-3)


def test_an_order_that_closes_is_not_sent_in_part(kernels: KernelRegistry) -> None:
    """Less of it would be below the smallest order; it is what a rounded hedge asks for."""
    covariance = 0.02**2 * np.array([[1.0, 0.8, 0.95], [0.8, 1.0, 0.6], [0.95, 0.6, 1.0]])
    wanted = np.array([0.2, -0.15, 0.0])
    cap = float(np.sqrt(wanted @ covariance @ wanted)) * (1.0 + 1e-9)
    item = simple(3, of_book(volatility_max=cap), held=[0.0, 0.0, -500.0], cash=1.05e6)
    terms = contracts(item.market.price, np.ones(3), {"quantity_min": np.array([1.0, 1.0, 600.0])})
    item = replace(
        item,
        market=replace(item.market, lot_size=np.array([1.0, 390.0, 1.0]), contracts=terms),
        signals=replace(
            item.signals,
            side=np.array([1.0, -1.0, -1.0]),
            win_probability=np.array([0.6, 0.575, 0.5]),
        ),
    )
    made = sized(item, by_covariance(covariance), kernels)
    assert made.stages[Stage.BOOK_LIMIT] == pytest.approx(wanted), "weights alone would keep it"
    assert made.weight @ covariance @ made.weight <= cap**2
    assert made.trade_lots[2] in (0, 500)


def test_what_a_limit_lacks_is_named(kernels: KernelRegistry) -> None:
    scenarios = ReturnData(matrix(np.full((3, 2), 0.01), 2))
    for joint, returns, reason, words in (
        ({"volatility_max": 0.1}, ReturnData(), "MISSING_MATRIX", "joint.volatility_max"),
        ({"cvar_max": 0.1}, ReturnData(), "MISSING_MATRIX", "scenario_matrix_id"),
        ({"cdar_max": 0.1}, by_covariance(), "MISSING_MATRIX", "joint.cdar_max"),
        ({"wealth_floor": 0.8}, scenarios, "INCOMPLETE_LIMIT", "wealth_floor_probability"),
    ):
        with pytest.raises(MissingInputError, match=words) as error:
            sized(simple(2, of_book(**joint)), returns, kernels)
        assert error.value.reason == reason
    held = simple(3, of_book(volatility_max=0.1), held=[0.0, 0.0, 1.0])
    with pytest.raises(MissingInputError, match="'I2' is sized or held"):
        sized(held, by_covariance(), kernels)
    one = ReturnData(matrix(np.full((1, 2), 0.01), 2))
    with pytest.raises(MissingInputError, match="two or more scenarios"):
        sized(simple(2, of_book(volatility_max=0.1)), one, kernels)


def test_a_risk_budget_is_spent_once(kernels: KernelRegistry) -> None:
    """A volatility of 0.25 and a budget of 0.05: a weight of 0.2 in all, whoever asks when."""
    item = simple(2, Limits())
    item = replace(item, parameters=replace(item.parameters, risk_budget=0.05))

    def one(item: Case, line: int) -> Case:
        signals = replace(
            item.signals,
            side=np.ones(1),
            source=item.signals.source[:1],
            win_probability=np.array([0.7]),
            payoff=np.ones(1),
        )
        whole = np.ones(1, dtype=bool)
        return replace(item, index=np.array([line]), active=whole, signals=signals)

    first = sized(one(item, 0), ReturnData(), kernels)
    assert first.weight.tolist() == [0.2]
    zeros, bought = np.zeros(2), np.array([2000.0, 0.0])
    for positions in (Positions(zeros, bought, zeros, 1e6), Positions(bought, zeros, zeros, 8e5)):
        again = sized(one(replace(item, positions=positions), 1), ReturnData(), kernels)
        assert again.trade_lots.tolist() == [0]
        assert again.binding.kind.tolist() == [LimitKind.RISK_BUDGET]
        same = sized(one(replace(item, positions=positions), 0), ReturnData(), kernels)
        assert same.trade_lots.tolist() == [0]
        assert same.weight.tolist() == [0.2]


def test_measures_of_the_check_are_those_of_a_plain_reading() -> None:
    """A hand-computed path: 1 %, -2 %, 3 % on a weight of one."""
    joint = JointLimits(cvar_level=0.5, cdar_level=0.5)
    found = risks([1.0], np.array([[0.01], [-0.02], [0.03]]), None, joint)
    assert found["volatility"] == pytest.approx(0.025166114784235835)
    assert found["cvar"] == pytest.approx((0.02 - 0.5 * 0.01) / 1.5)
    assert found["cdar"] == pytest.approx(0.02 / 1.5)
