"""Every kind of limit is lifted, or known not to be."""

import numpy as np
import pytest

from compute.limits.lift import Rules, lifted
from compute.limits.policy import (
    GroupLimit,
    InstrumentLimit,
    JointLimits,
    LimitKind,
    Limits,
    LinearLimit,
    SharedLimits,
)
from compute.market import SharedUse
from compute.parameters import EffectiveParameters

FACTS = {
    LimitKind.LOT_SIZE,
    LimitKind.ORDER_MAX,
    LimitKind.ORDER_MIN,
    LimitKind.NO_EQUITY,
    LimitKind.RESERVED,
}
EVERYTHING = Rules(
    Limits(
        weight_max=0.1,
        notional_max=1e5,
        instruments={
            "X": InstrumentLimit(quantity_max=10.0),
            "Y": InstrumentLimit(weight_max=0.05),
        },
        groups=(GroupLimit("g", gross_weight_max=0.1, net_weight_min=-0.1, net_weight_max=0.1),),
        gross_notional_max=1e6,
        leverage_max=1.0,
        net_weight_min=-1.0,
        net_weight_max=1.0,
        turnover_max=0.1,
        adv_trade_max=0.1,
        adv_position_max=0.1,
        exit_days_max=5.0,
        trade_notional_min=10.0,
        trade_notional_max=1e4,
        trade_weight_min=0.01,
        stop_required=True,
        positions_max=3,
        restricted=frozenset(["X"]),
        allow_short=False,
        allow_flip=False,
        joint=JointLimits(
            volatility_max=0.1,
            var_max=0.1,
            cvar_max=0.1,
            cdar_max=0.1,
            wealth_floor=0.5,
            wealth_floor_probability=0.1,
            linear=(
                LinearLimit("row", {"X": 1.0}, upper=0.1),
                LinearLimit("crash", {"X": 0.5}, upper=0.1, scenario_id="crash"),
            ),
        ),
    ),
    EffectiveParameters(volatility_target=0.1, stop_risk_max=0.01, risk_budget=0.1),
    reducing=True,
    shared=SharedUse(SharedLimits(1e6, 1e5), 0.0, np.zeros(2)),
)


@pytest.mark.parametrize("kind", [kind for kind in LimitKind if kind])
def test_every_limit_is_lifted_or_a_fact(kind: LimitKind) -> None:
    name = {"GROUP": "g", "LINEAR": "row", "STRESS": "crash"}.get(kind.name.split("_")[0], "")
    changed = lifted(EVERYTHING, kind, name, "X", ["Y", "Z"])
    assert (changed is None) == (kind in FACTS)
    assert changed != EVERYTHING


def test_a_limit_on_instruments_is_lifted_for_one_alone() -> None:
    changed = lifted(EVERYTHING, LimitKind.WEIGHT_MAX, "", "X", ["Y", "Z"])
    assert changed is not None
    own = changed.limits.instruments
    assert changed.limits.weight_max is None
    assert own["X"] == InstrumentLimit(quantity_max=10.0)
    assert own["Y"].weight_max == 0.05
    assert own["Z"].weight_max == 0.1
