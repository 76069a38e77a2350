"""What is written of a dataclass is read as the same value."""

from dataclasses import fields

import numpy as np
import orjson
import pytest

from compute.adapt.condition import ConditionRule
from compute.adapt.schedule import Schedule, ScheduleRow
from compute.algorithm import AlgorithmAnswer, AlgorithmTier
from compute.correlation.penalty import CorrelationPenalty
from compute.limits.policy import (
    GroupLimit,
    InstrumentLimit,
    JointLimits,
    Limits,
    LinearLimit,
    SaleProceeds,
)
from compute.methods import Method
from compute.optimize.problem import Objective, ObjectiveKind
from compute.parameters import (
    PARAMETERS,
    AlgorithmChoice,
    DrawdownTolerance,
    EdgeGoneAction,
    EffectiveParameters,
    Form,
    LotChoice,
    NoTradeRegion,
    Robust,
    RobustSet,
    Shrinkage,
)
from server.dataclass_json import UnknownField, from_json

MESSAGES = {
    "drawdown_tolerance": DrawdownTolerance(0.5, 0.125),
    "robust": Robust(RobustSet.KL, 0.25),
    "joint_objective": Objective(
        ObjectiveKind.COMBINATION,
        terms=((2.0, Objective(ObjectiveKind.CRRA, 3.0)), (0.5, Objective(ObjectiveKind.MIN_CVAR))),
    ),
    "schedule": Schedule((ScheduleRow("close", "UTC", 0.5, (1, 5), ("2026-12-24",), 3600, 7200),)),
    "condition_rules": (ConditionRule("calm", "vix", 0.5, 30.0, 20.0, ("storm",), 3, 60.0, 0.25),),
    "algorithm": AlgorithmChoice("mine", (("a", 1.5), ("b", -2.0))),
}
CHOICES = {
    "method": Method.JOINT,
    "confidence_shrinkage": Shrinkage.NONE,
    "no_trade_region": NoTradeRegion.LONG_RUN,
    "lot_choice": LotChoice.SEARCHED,
    "edge_gone_action": EdgeGoneAction.REDUCE_STRATEGY,
    "correlation_penalty": CorrelationPenalty.PROPORTIONAL,
}


def written(value: object) -> object:
    return orjson.loads(orjson.dumps(value, default=sorted, option=orjson.OPT_SERIALIZE_NUMPY))


def test_every_parameter_that_is_set_comes_back() -> None:
    given = {p.name: "name" if p.form is Form.IDENTIFIER else 0.125 for p in PARAMETERS}
    every = EffectiveParameters(**{**given, **MESSAGES, **CHOICES})  # type: ignore[arg-type]
    assert set(MESSAGES) == {p.name for p in PARAMETERS if p.form is Form.MESSAGE}, "add a value"
    assert set(CHOICES) == {p.name for p in PARAMETERS if p.form is Form.CHOICE}, "add a value"
    assert from_json(EffectiveParameters, written(every)) == every
    assert from_json(EffectiveParameters, written(EffectiveParameters())) == EffectiveParameters()
    assert from_json(EffectiveParameters, {"kelly_fraction": 0.25}).kelly_fraction == 0.25


def test_limits_with_all_that_is_in_them_come_back() -> None:
    limits = Limits(
        weight_max=0.1,
        sale_proceeds=SaleProceeds.AT_ONCE,
        stop_required=True,
        restricted=frozenset({"X", "Y"}),
        instruments={"A": InstrumentLimit(0.5, 1e6, 7.0)},
        groups=(GroupLimit("g", frozenset({"A", "B"}), gross_weight_max=0.5),),
        joint=JointLimits(cvar_max=0.2, linear=(LinearLimit("row", {"A": -1.5}, upper=0.5),)),
    )
    assert from_json(Limits, written(limits)) == limits


def test_an_answer_without_some_sizes_comes_back() -> None:
    answer = AlgorithmAnswer("mine", next(iter(AlgorithmTier)), np.array([0.5, np.nan]), 1.0)
    read = from_json(AlgorithmAnswer, written(answer))
    np.testing.assert_array_equal(read.weight, answer.weight)
    for item in fields(answer):
        if item.name != "weight":
            assert getattr(read, item.name) == getattr(answer, item.name)


def test_a_field_that_nobody_knows_is_told() -> None:
    with pytest.raises(UnknownField, match="kelly_share"):
        from_json(EffectiveParameters, {"kelly_share": 0.25})
