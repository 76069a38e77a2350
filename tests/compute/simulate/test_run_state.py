"""A backtest that goes on from a kept state ends as one that ran through, bit for bit."""

import io
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest

from compute.limits.policy import JointLimits, Limits
from compute.methods import Method
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import Backtest, run
from compute.simulate.delisting import Delisting
from compute.simulate.history import PriceHistory
from compute.simulate.run_state import RunState, arrays_of, state_of
from compute.simulate.setting import FillAt, Setting
from compute.simulate.strategies import MeanReturn
from tests.compute.simulate.test_honoured import BASE, ESTIMATES, PAST


def eventful() -> PriceHistory:
    """Opens, dividends, a split, a session without a price, and an instrument that leaves."""
    rng = np.random.default_rng(5)
    close = PAST.close.copy()
    close[25, 0] = np.nan
    close[33:, 3] = np.nan
    split = np.ones(close.shape)
    split[27, 1] = 2.0
    close[27:, 1] /= 2.0
    dividend = np.zeros(close.shape)
    dividend[30, 1] = 0.4
    opens = close * (1.0 + 0.002 * rng.standard_normal(close.shape))
    gone = (Delisting(34, 3, 31.0),)
    more = {"open": opens, "split": split, "dividend": dividend, "delistings": gone}
    return replace(PAST, close=close, **more)  # type: ignore[arg-type]


DEAR = TradingCosts(1.0, 0.0005, 0.0002, 0.03, 0.06, 0.02)
DAY_LOSS = Limits(weight_max=0.6, allow_short=True, allow_flip=True, day_loss_max=0.003)
FIRST = replace(BASE, costs=DEAR)
RUINOUS = Setting(
    MeanReturn(sessions=2, is_reversal=True),
    EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE),
    Limits(weight_max=12.0, allow_short=True, allow_flip=True),
    fill_at=FillAt.SAME_CLOSE,
)
SETTINGS = {
    "next open": FIRST,
    "next close, day loss": replace(FIRST, limits=DAY_LOSS, fill_at=FillAt.NEXT_CLOSE),
    "same close, every third": replace(FIRST, fill_at=FillAt.SAME_CLOSE, rebalance_sessions=3),
    "drawdown floor": replace(
        FIRST, parameters=EffectiveParameters(kelly_fraction=0.5, drawdown_floor=0.9)
    ),
    "refused until there are estimates": replace(
        FIRST, estimates=replace(ESTIMATES, sessions=25), limits=replace(FIRST.limits, clusters=())
    ),
}


def shown(history: PriceHistory, setting: Setting, kernels: KernelRegistry) -> Iterator[bytes]:
    """The state after each session, as a file would keep it."""
    found: list[bytes] = []

    def keep(state: RunState) -> None:
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays_of(state))
        found.append(file.getvalue())

    run(history, setting, kernels, after_session=keep)
    yield from found


def bits(found: Backtest) -> list[tuple[str, bytes]]:
    """Every field to the last bit, counts in their order."""

    def encoded(value: object) -> bytes:
        if isinstance(value, np.ndarray):
            return value.tobytes()
        if isinstance(value, float):
            return value.hex().encode()
        return repr(value).encode()

    values = vars(found) | asdict(found.account)
    del values["account"]
    return [(name, encoded(value)) for name, value in values.items()]


@pytest.mark.parametrize("name", SETTINGS)
def test_whatever_the_session_it_was_kept_after(name: str, kernels: KernelRegistry) -> None:
    past, setting = eventful(), SETTINGS[name]
    wanted = run(past, setting, kernels)
    assert wanted.trades > 4
    kept = list(shown(past, setting, kernels))
    assert len(kept) == len(past.dates)
    for content in kept:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            state = state_of(arrays)
        assert bits(run(past, setting, kernels, state=state)) == bits(wanted)


def test_the_cases_have_in_them_what_a_state_has_to_carry(kernels: KernelRegistry) -> None:
    past = eventful()
    found = {name: run(past, setting, kernels) for name, setting in SETTINGS.items()}
    first = found["next open"].account
    assert min(first.commission, first.slippage, first.dividends**2, first.borrow) > 0.0
    assert first.interest != 0.0
    assert first.delisted == 1
    assert 0 < found["next close, day loss"].reducing < found["next close, day loss"].decisions
    assert found["refused until there are estimates"].refused == {"TOO_FEW_SESSIONS": 3}
    assert sum(found["next open"].bindings.values()) > 0
    assert sum(found["next open"].refused_lines.values()) > 0


def test_a_ruin_stays_one(kernels: KernelRegistry) -> None:
    fall = np.array([100.0, 101.0, 102.0, 103.0, 260.0, 261.0])[:, None]
    past = PriceHistory(tuple(f"2024-01-0{day}" for day in range(1, 7)), ("A",), fall)
    wanted = run(past, RUINOUS, kernels)
    assert wanted.ruined == 4
    kept = list(shown(past, RUINOUS, kernels))
    assert len(kept) == 5, "nothing comes after it"
    for content in kept:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            state = state_of(arrays)
        assert bits(run(past, RUINOUS, kernels, state=state)) == bits(wanted)
    assert state.is_over


def test_joint_decisions_don_t_know_of_those_before(kernels: KernelRegistry) -> None:
    """A solver that began at its last answer would end elsewhere after a pause."""
    setting = replace(
        FIRST,
        estimates=ESTIMATES,
        parameters=EffectiveParameters(kelly_fraction=0.5, method=Method.JOINT),
        limits=replace(FIRST.limits, joint=JointLimits(cvar_max=0.02)),
    )
    past = eventful()
    wanted = run(past, setting, kernels)
    assert wanted.trades > 4
    kept = list(shown(past, setting, kernels))
    for place in (24, 29, 36):
        with np.load(io.BytesIO(kept[place]), allow_pickle=False) as arrays:
            state = state_of(arrays)
        assert bits(run(past, setting, kernels, state=state)) == bits(wanted)
