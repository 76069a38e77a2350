"""What is recorded of a decision comes back to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from compute.limits.policy import GroupLimit, InstrumentLimit, Limits, SharedLimits
from compute.market import Market, Positions, SharedUse
from compute.parameters import EffectiveParameters, merged
from server.sizing import decision_inputs

SIZE = 4
MARKET = Market(tuple("abcd"), np.ones(SIZE), np.ones(SIZE))
_amount = st.floats(-1e300, 1e300)
_columns = arrays.arrays(np.float64, SIZE, elements=_amount)


@given(_columns, _columns, _amount)
def test_a_book_comes_back_bit_for_bit(held, bought, cash):
    context = context_of(Positions(held, np.abs(bought), np.zeros(SIZE), cash, 0.1))
    again = decision_inputs.decode(decision_inputs.encode(context), MARKET).positions
    np.testing.assert_array_equal(again.held, held)
    np.testing.assert_array_equal(again.open_buy, np.abs(bought))
    assert (again.cash, again.cash_reserved) == (cash, 0.1)


def test_policies_come_back():
    limits = Limits(
        weight_max=1 / 3,
        instruments={"a": InstrumentLimit(notional_max=2.0)},
        groups=(GroupLimit("tech", instrument_ids=frozenset("ab"), gross_weight_max=0.2),),
        restricted=frozenset("cd"),
    )
    parameters = merged([])
    shared = SharedUse(SharedLimits(gross_notional_max=5.0), 1.5, np.arange(SIZE) / 7)
    context = context_of(limits=limits, parameters=parameters, shared=shared)
    again = decision_inputs.decode(decision_inputs.encode(context), MARKET)
    assert (again.limits, again.parameters) == (limits, parameters)
    assert again.shared is not None
    assert again.shared.limits == shared.limits
    np.testing.assert_array_equal(again.shared.instrument_notional, shared.instrument_notional)
    assert decision_inputs.market_named(decision_inputs.encode(context)) == ("close", "USD")


@pytest.mark.parametrize("is_reducing", [True, False])
def test_the_trading_state_comes_back(is_reducing):
    context = context_of(is_reducing=is_reducing)
    assert decision_inputs.decode(decision_inputs.encode(context), MARKET).reducing is is_reducing


def context_of(
    positions: Positions | None = None,
    limits: Limits | None = None,
    parameters: EffectiveParameters | None = None,
    shared: SharedUse | None = None,
    *,
    is_reducing: bool = False,
) -> decision_inputs.DecisionInputs:
    nothing = np.zeros(SIZE)
    return decision_inputs.DecisionInputs(
        market_snapshot_id="close",
        base_currency="USD",
        positions=positions or Positions(nothing, nothing, nothing, 1.0),
        limits=limits or Limits(),
        parameters=parameters or merged([]),
        reducing=is_reducing,
        shared=shared,
    )
