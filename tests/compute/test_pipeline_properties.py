"""What the pipeline promises for every book: neutral padding, order, tightening, permissions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.limits.policy import GroupLimit, Limits
from compute.limits.rounded_lots import counted
from compute.limits.tightest import tightest
from compute.market import Market, MissingInputError, Positions
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.sizing import size, size_together
from compute.waterfall import kernel_inputs, pipeline
from compute.waterfall.layout import Source, Stage
from compute.waterfall.pipeline import LineStatus, Sizing
from tests.compute.random_books import Case, case

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def asked(item: Case) -> Inputs | None:
    """What a case asks to be sized, None where it is refused."""
    try:
        limit_bounds = prepare(item.market, item.positions, item.limits, item.shared)
    except MissingInputError:
        return None
    known = np.ones(len(item.index), dtype=bool)
    return Inputs(
        item.signals, item.index, item.active, known, limit_bounds, item.parameters, item.reducing
    )


def decided(item: Case, kernels: KernelRegistry) -> Sizing | None:
    """The decision on a case, None where it is refused."""
    question = asked(item)
    return None if question is None else size(question, kernels)


@pytest.mark.parametrize("seed", range(12))
def test_books_sized_together_are_sized_alike(seed, kernels):
    rng = np.random.default_rng(seed)
    questions = [q for q in (asked(case(rng)) for _ in range(20 + 3 * seed)) if q is not None]
    together = size_together(questions, kernels)
    assert len(together) == len(questions) > 0
    for question, one in zip(questions, together, strict=True):
        alone = size(question, kernels)
        np.testing.assert_array_equal(one.lots, alone.lots)
        np.testing.assert_array_equal(one.trade_lots, alone.trade_lots)
        np.testing.assert_allclose(one.stages, alone.stages, rtol=0.0, atol=1e-12)
        np.testing.assert_array_equal(one.binding.kind, alone.binding.kind)


def simple(
    n: int = 4,
    limits: Limits | None = None,
    held: list[float] | None = None,
    cash: float = 1e6,
    probability: float = 0.6,
    **changes: object,
) -> Case:
    """Even-money signals on `n` instruments of price 100 in a portfolio of a million."""
    market = Market(
        instrument_ids=tuple(f"I{i}" for i in range(n)),
        price=np.full(n, 100.0),
        lot_size=np.ones(n),
        volatility=np.full(n, 0.25),
        average_daily_volume=np.full(n, 1e4),
        sector=tuple("AB"[i % 2] for i in range(n)),
    )
    zeros = np.zeros(n)
    positions = Positions(np.array(held or zeros), zeros, zeros, cash)
    made = Case(
        market=market,
        positions=positions,
        limits=limits or Limits(),
        shared=None,
        signals=Signals(
            side=np.ones(n),
            source=np.full(n, int(Source.WIN_LOSS)),
            win_probability=np.full(n, probability),
            payoff=np.ones(n),
        ),
        index=np.arange(n),
        active=np.ones(n, dtype=bool),
        parameters=EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE),
        reducing=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def weights(item: Case, kernels: KernelRegistry) -> np.ndarray:
    """Final weights of a case that is not refused."""
    made = decided(item, kernels)
    assert made is not None
    return made.weight


def gross(item: Case, kernels: KernelRegistry) -> float:
    """Gross weight before whole lots, whose rounding is not monotone."""
    made = decided(item, kernels)
    assert made is not None
    return float(np.abs(made.stages[Stage.RECONCILE]).sum())


@FEW
@given(SEEDS)
def test_a_larger_bucket_changes_nothing(kernels: KernelRegistry, seed: int) -> None:
    item = case(np.random.default_rng(seed))
    alone = decided(item, kernels)
    if alone is None:
        return
    for lines, groups in (((64,), (8,)), ((16,), (64,))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "LINE_BUCKETS", lines)
            patch.setattr(kernel_inputs, "LINE_BUCKETS", lines)
            patch.setattr(kernel_inputs, "GROUP_BUCKETS", groups)
            padded = decided(item, kernels)
        assert padded is not None
        assert padded.kernel == f"waterfall/{lines[0]}x{groups[0]}"
        scale = np.maximum(1.0, np.abs(alone.stages))
        assert (np.abs(padded.stages - alone.stages) <= 1e-12 * scale)[:-1].all()
        assert (padded.trade_lots == alone.trade_lots).all()
        assert (padded.lots == alone.lots).all()


@FEW
@example(seed=6020)
@given(seed=SEEDS)
def test_the_order_of_lines_does_not_matter(kernels: KernelRegistry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    item = case(rng)
    order = rng.permutation(len(item.index))
    signals = item.signals
    columns = {
        name: None if value is None else value[order] for name, value in vars(signals).items()
    }
    mixed = replace(
        item, signals=Signals(**columns), index=item.index[order], active=item.active[order]
    )
    first, second = decided(item, kernels), decided(mixed, kernels)
    if first is None or second is None:
        assert first is second
        return
    # A limit on a sum moves every line by the rounding of the sum, which is that of its largest
    # summand: raw Kelly weights of thousands come in here.
    scale = max(1.0, np.abs(first.stages[:-1]).max())
    assert (np.abs(first.stages[:-1, order] - second.stages[:-1]) <= 1e-12 * scale).all()
    # A weight that is exactly between two points of the grid may fall to either side.
    assert (np.abs(first.trade_lots[order] - second.trade_lots) <= 1).all() or first.rejected


@FEW
@given(SEEDS, st.floats(0.0, 1.0))
def test_a_tighter_gross_limit_never_makes_the_book_larger(
    kernels: KernelRegistry, seed: int, part: float
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    item = simple(n, Limits(weight_max=0.3, leverage_max=1.0, allow_short=True))
    item = replace(
        item,
        signals=replace(
            item.signals,
            side=rng.choice([1.0, -1.0], n),
            win_probability=rng.uniform(0.5, 0.7, n),
        ),
    )
    wide = gross(item, kernels)
    for tighter in (
        Limits(leverage_max=part),
        Limits(weight_max=0.3 * part),
        Limits(turnover_max=part),
        Limits(cash_buffer=part),
        Limits(gross_notional_max=part * 1e6),
        Limits(adv_position_max=part),
        Limits(adv_trade_max=part),
        Limits(trade_notional_max=part * 1e5),
        Limits(groups=(GroupLimit("A", sector="A", gross_weight_max=part),)),
    ):
        narrow = replace(item, limits=tightest([item.limits, tighter]))
        assert gross(narrow, kernels) <= wide + 1e-11


def test_no_edge_is_no_position(kernels: KernelRegistry) -> None:
    for probability in (0.0, 0.4, 0.5):
        made = decided(simple(probability=probability), kernels)
        assert made is not None
        assert not made.trade_lots.any()
        assert (made.status == LineStatus.ZERO).all()
    held = simple(probability=0.4, held=[100.0, 0.0, 0.0, 0.0])
    made = decided(held, kernels)
    assert made is not None
    assert made.trade_lots.tolist() == [-100, 0, 0, 0]


def test_refused_lines_keep_their_position_and_use_the_limit(kernels: KernelRegistry) -> None:
    item = simple(2, Limits(leverage_max=0.3), held=[2000.0, 0.0], cash=8e5)
    item = replace(item, active=np.array([False, True]))
    made = decided(item, kernels)
    assert made is not None
    assert made.status.tolist() == [LineStatus.REFUSED, LineStatus.CAPPED]
    assert made.trade_lots.tolist() == [0, 1000]
    assert made.quantity.tolist() == [2000.0, 1000.0]


def test_nothing_wanted_and_no_room_at_all(kernels: KernelRegistry) -> None:
    """A refused line beyond the gross limit beside lines without an edge."""
    item = simple(3, Limits(leverage_max=0.1), held=[5000.0, 0.0, 0.0], cash=5e5, probability=0.5)
    item = replace(item, active=np.array([False, True, True]))
    made = decided(item, kernels)
    assert made is not None
    assert np.isfinite(made.stages).all()
    assert not made.trade_lots.any()


@pytest.mark.parametrize("held", [2000.0, 1999.5, -300.0, 0.3])
@pytest.mark.parametrize("lot", [1.0, 0.1, 1e-8])
def test_keeping_a_position_trades_nothing(
    kernels: KernelRegistry, held: float, lot: float
) -> None:
    item = simple(1, Limits(allow_short=True), held=[held], reducing=True)
    item = replace(
        item,
        market=replace(item.market, lot_size=np.array([lot])),
        signals=replace(item.signals, side=np.sign([held])),
    )
    made = decided(item, kernels)
    assert made is not None
    assert made.trade_lots.tolist() == [0]
    assert made.lots[0] == counted(np.array([held]), np.array([lot]))[0]


@pytest.mark.parametrize("quantity", [0.3, -0.7, 1.1, 123456.7])
def test_decimal_lots_close_completely(kernels: KernelRegistry, quantity: float) -> None:
    item = simple(1, Limits(restricted=frozenset({"I0"})), held=[quantity])
    item = replace(item, market=replace(item.market, lot_size=np.array([0.1])))
    made = decided(item, kernels)
    assert made is not None
    assert made.trade_lots.tolist() == [-round(quantity * 10)]
    assert made.lots.tolist() == [0]
    assert not made.rejected


def test_an_odd_lot_on_the_other_side_is_not_overshot(kernels: KernelRegistry) -> None:
    limits = Limits(allow_flip=True, weight_max=0.5e-4)  # half a unit
    made = decided(simple(1, limits, held=[-0.2]), kernels)
    assert made is not None
    assert made.trade_lots.tolist() == [0]


def test_minimum_trades(kernels: KernelRegistry) -> None:
    small = simple(1, Limits(weight_max=0.02, trade_notional_min=20_001.0))
    assert weights(small, kernels).tolist() == [0.0]
    exact = simple(1, Limits(weight_max=0.02, trade_notional_min=20_000.0))
    assert weights(exact, kernels).tolist() == [0.02]
    # What a limit forces goes through however small.
    forced = simple(
        1, Limits(weight_max=0.1, trade_notional_min=5e4), held=[1001.0], cash=1e6 - 100_100
    )
    made = decided(forced, kernels)
    assert made is not None
    assert made.trade_lots.tolist() == [-1]


def test_sides_and_restrictions(kernels: KernelRegistry) -> None:
    short = simple(1)
    short = replace(short, signals=replace(short.signals, side=np.array([-1.0])))
    assert weights(short, kernels).tolist() == [0.0]
    allowed = replace(short, limits=Limits(allow_short=True))
    assert weights(allowed, kernels)[0] == pytest.approx(-0.2)
    flip = replace(allowed, positions=replace(short.positions, held=np.array([500.0]), cash=9.5e5))
    made = decided(flip, kernels)
    assert made is not None
    assert made.trade_lots.tolist() == [-500]
    free = replace(flip, limits=Limits(allow_short=True, allow_flip=True))
    assert weights(free, kernels)[0] == pytest.approx(-0.2)
    closed = simple(1, Limits(restricted=frozenset({"I0"})), held=[500.0])
    made = decided(closed, kernels)
    assert made is not None
    assert made.trade_lots.tolist() == [-500]


def test_cash_pays_for_fees_and_leaves_the_buffer(kernels: KernelRegistry) -> None:
    item = simple(4, Limits(cash_buffer=0.5, fee_rate=0.01))
    made = decided(item, kernels)
    assert made is not None
    spent = made.trade_lots.sum() * 100.0
    assert 1.01 * spent <= 0.5e6
    assert 1.01 * spent > 0.5e6 - 4 * 101.0
    poor = simple(1, held=[10_000.0], cash=-2e5)
    made = decided(poor, kernels)
    assert made is not None
    assert made.trade_lots[0] <= 0


def test_volume_turnover_and_group_net(kernels: KernelRegistry) -> None:
    volume = simple(1, Limits(adv_trade_max=0.01))
    assert weights(volume, kernels)[0] == pytest.approx(100 * 100 / 1e6)
    position = simple(1, Limits(adv_position_max=0.05))
    assert weights(position, kernels)[0] == pytest.approx(500 * 100 / 1e6)
    turnover = simple(4, Limits(turnover_max=0.1))
    assert weights(turnover, kernels).sum() == pytest.approx(0.1)
    net = simple(4, Limits(groups=(GroupLimit("A", sector="A", net_weight_max=0.1),)))
    assert weights(net, kernels) == pytest.approx([0.05, 0.2, 0.05, 0.2])


def test_contradicting_limits_leave_the_book_no_worse(kernels: KernelRegistry) -> None:
    """A net minimum above the gross maximum can't hold: nothing may move away from either."""
    item = simple(2, Limits(net_weight_min=0.5, leverage_max=0.2), held=[1000.0, 0.0], cash=9e5)
    made = decided(item, kernels)
    assert made is not None
    assert made.weight.sum() >= 0.1
    assert np.abs(made.weight).sum() <= 0.2


def test_stages_say_who_cut(kernels: KernelRegistry) -> None:
    made = decided(simple(4, Limits(weight_max=0.15, leverage_max=0.3)), kernels)
    assert made is not None
    assert made.stages[Stage.RAW_KELLY] == pytest.approx([0.2] * 4)
    assert made.stages[Stage.INSTRUMENT_LIMIT] == pytest.approx([0.15] * 4)
    assert made.stages[Stage.EXPOSURE_LIMIT] == pytest.approx([0.075] * 4)
    assert made.binding.without == pytest.approx([0.15] * 4)
    assert made.binding.bound.tolist() == [0.3] * 4
