"""No parameter and no limit of a backtest is accepted and then left out."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest

from compute.adapt.condition import ConditionRule
from compute.adapt.schedule import Schedule, ScheduleRow
from compute.algorithm import AlgorithmAnswer, AlgorithmInput, AlgorithmTier
from compute.correlation.linkage import Linkage
from compute.correlation.penalty import CorrelationPenalty
from compute.limits.policy import (
    ClusterLimit,
    GroupLimit,
    InstrumentLimit,
    JointLimits,
    Limits,
    LinearLimit,
    SaleProceeds,
    StressLimit,
    TailLimit,
)
from compute.limits.stress_limits import Others, StressEvent
from compute.methods import Method
from compute.optimize.problem import Objective, ObjectiveKind
from compute.parameters import (
    AlgorithmChoice,
    DrawdownTolerance,
    EdgeGoneAction,
    EffectiveParameters,
    LotChoice,
    NoTradeRegion,
    Robust,
    RobustSet,
    Shrinkage,
)
from compute.risk.tail_method import TailKind, TailMethod
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import Backtest, run
from compute.simulate.estimates import Estimates
from compute.simulate.fast_settings import run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.honoured import (
    IN_BOTH,
    IN_EXACT,
    IN_NONE,
    INSIDE,
    Mode,
    Refused,
    refused,
)
from compute.simulate.setting import Clock, Setting
from compute.simulate.strategies import SessionSignals
from compute.waterfall.layout import Source

SESSIONS, NAMES = 40, ("A", "B", "C", "D")
ESTIMATES = Estimates(sessions=20, scenarios=True)


@dataclass(frozen=True)
class Told:
    """Two longs, a short, and one that turns; with all that parameters read. From session 22 on."""

    has_stops: bool = True

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals | None:
        if session < 22:
            return None
        side = np.array([1.0, 1.0, -1.0, 1.0 if session % 8 < 4 else -1.0])
        each = np.ones(len(NAMES))
        price = history.close[session]
        signals = Signals(
            side=side,
            source=np.full(len(NAMES), int(Source.RETURN_VOLATILITY)),
            expected_return=np.array([0.0006, 0.0005, 0.0004, 0.0006]),
            volatility=0.02 * each,
            expected_return_error=0.0002 * each,
        )
        if self.has_stops:
            more = {"holding_periods": 5.0 * each, "edge_half_life_periods": 4.0 * each}
            signals = replace(signals, stop_price=price * (1.0 - 0.1 * side), **more)
        return SessionSignals(np.arange(len(NAMES)), signals)


def history() -> PriceHistory:
    rng = np.random.default_rng(4)
    shared = rng.standard_normal((SESSIONS, 1))
    moved = 0.01 * (0.8 * shared + 0.6 * rng.standard_normal((SESSIONS, len(NAMES))))
    close = 50.0 * np.cumprod(1.0 + moved, axis=0)
    days = np.datetime64("2024-01-01") + np.arange(SESSIONS)
    volume = rng.uniform(1e4, 3e4, close.shape)
    return PriceHistory(tuple(map(str, days)), NAMES, close, volume=volume, sector=tuple("XXYY"))


PAST = history()
P, L, J = EffectiveParameters(), Limits(), JointLimits()
BASE = Setting(
    strategy=Told(),
    parameters=EffectiveParameters(kelly_fraction=0.4),
    limits=Limits(weight_max=0.5, allow_short=True, allow_flip=True),
    costs=TradingCosts(commission_rate=0.0005),
)
ROW = ScheduleRow("half", "UTC", 0.5, from_s=15 * 3600, to_s=17 * 3600)
CALLED = {
    "method": Method.RISK_PARITY,
    "kelly_fraction": 0.1,
    "drawdown_tolerance": DrawdownTolerance(0.9, 0.01),
    "confidence_shrinkage": Shrinkage.NONE,
    "risk_free_rate": 0.0001,
    "cost_rate": 0.0001,
    "impact_coefficient": 0.7,
    "no_trade_region": NoTradeRegion.NONE,
    "trade_rate": 0.3,
    "plan_periods": 6,
    "robust": Robust(RobustSet.BOX, 1.0),
    "volatility_target": 0.01,
    "stop_risk_max": 0.001,
    "risk_budget": 0.02,
    "interval_probability": 0.9,
    "prior_wins": 2.0,
    "prior_losses": 2.0,
    "reservation_ttl_s": 60.0,
    "market_age_max_s": 60.0,
    "portfolio_age_max_s": 60.0,
    "joint_objective": Objective(ObjectiveKind.MIN_VARIANCE),
    "lot_choice": LotChoice.SEARCHED,
    "edge_gone_action": EdgeGoneAction.REDUCE_PORTFOLIO,
    "matrix_age_max_s": 60.0,
    "periods_per_year": 252.0,
    "fill_deviation_max": 0.1,
    "covariance_universe": "book",
    "correlation_penalty": CorrelationPenalty.QUADRATIC,
    "schedule": Schedule((ROW,)),
    "edge_half_life_s": 3600.0,
    "edge_model_id": "model",
    "size_model_id": "model",
    "drawdown_floor": 0.8,
    "equity_floor": 800_000.0,
    "drawdown_multiplier": 4.0,
    "condition_rules": (ConditionRule(name="storm", condition_id="vix", multiplier=0.5),),
    "algorithm": AlgorithmChoice("third"),
    "volatility_model": "model",
    "price_jump_max": 0.1,
    "equity_jump_max": 0.1,
    "weight_max": 0.05,
    "notional_max": 3e4,
    "instruments": {"A": InstrumentLimit(weight_max=0.02)},
    "groups": (GroupLimit("X", sector="X", gross_weight_max=0.1),),
    "clusters": (ClusterLimit("alike", Linkage.WARD, cluster_count=2, gross_weight_max=0.1),),
    "gross_notional_max": 2e5,
    "leverage_max": 0.2,
    "net_weight_min": -0.01,
    "net_weight_max": 0.05,
    "turnover_max": 0.1,
    "cash_buffer": 0.7,
    "fee_rate": 0.02,
    "short_margin_rate": 3.0,
    "sale_proceeds": SaleProceeds.AT_ONCE,
    "adv_trade_max": 0.02,
    "adv_position_max": 0.05,
    "trade_notional_min": 2e5,
    "trade_notional_max": 2e4,
    "trade_weight_min": 0.2,
    "stop_required": True,
    "positions_max": 2,
    "exit_days_max": 0.5,
    "participation_rate": 0.01,
    "day_loss_max": 0.001,
    "day_loss_resumes": True,
    "restricted": frozenset(["A"]),
    "allow_short": False,
    "allow_flip": False,
    "currency": "EUR",
    "foreign": (Limits(notional_max=1.0, currency="EUR"),),
    "volatility_max": 0.001,
    "var_max": 0.002,
    "var_level": 0.99,
    "cvar_max": 0.002,
    "cvar_level": 0.8,
    "cdar_max": 0.002,
    "cdar_level": 0.8,
    "wealth_floor": 0.99,
    "wealth_floor_probability": 0.001,
    "linear": (LinearLimit("A and B", {"A": 1.0, "B": 1.0}, upper=0.05),),
    "stress": (StressLimit("crash", 0.01),),
    "tails": (TailLimit(TailKind.VALUE_AT_RISK, TailMethod.HISTORICAL, bound=0.001),),
}
"""Another value of every field: a new one that is missing here fails its test by its name."""
BESIDE: dict[str, dict[str, Any]] = {
    "method": {"risk_budget": 0.1},
    "no_trade_region": {"cost_rate": 0.0005},
    "net_weight_min": {"restricted": frozenset(["A", "B"])},
    "plan_periods": {"trade_rate": 0.3},
    "sale_proceeds": {"cash_buffer": 0.6},
    "participation_rate": {"exit_days_max": 20.0},
    "day_loss_resumes": {"day_loss_max": 0.001},
    "var_level": {"var_max": 0.004},
    "cvar_level": {"cvar_max": 0.004},
    "cdar_level": {"cdar_max": 0.01},
    "wealth_floor": {"wealth_floor": 0.8, "wealth_floor_probability": 0.001},
    "wealth_floor_probability": {"wealth_floor": 0.99, "wealth_floor_probability": 0.5},
    "drawdown_multiplier": {"drawdown_floor": 0.8},
    "joint_objective": {"method": Method.JOINT},
    "lot_choice": {"method": Method.JOINT},
    "algorithm": {"method": Method.CUSTOM},
}
"""What a field needs at its side to matter."""
NEEDS_ESTIMATES = ("clusters", "correlation_penalty", "joint_objective", "lot_choice")
FIELDS = [
    *(f"parameters.{item.name}" for item in fields(P)),
    *(f"limits.{item.name}" for item in fields(L)),
    *(f"joint.{item.name}" for item in fields(J)),
]


def with_fields(setting: Setting, values: dict[str, Any]) -> Setting:
    """The setting with these fields, wherever each is."""
    here: dict[str, dict[str, Any]] = {"P": {}, "L": {}, "J": {}}
    for name, value in values.items():
        part = "P" if hasattr(P, name) else "L" if hasattr(L, name) else "J"
        here[part][name] = value
    joint = replace(setting.limits.joint, **here["J"])
    limits = replace(setting.limits, **here["L"], joint=joint)
    return replace(setting, parameters=replace(setting.parameters, **here["P"]), limits=limits)


def pair(field: str) -> tuple[Setting, Setting]:
    """Settings without and with another value of a field."""
    part, name = field.split(".")
    base = BASE
    if (part == "joint" and name not in ("linear", "stress")) or name in NEEDS_ESTIMATES:
        base = replace(base, estimates=ESTIMATES)
    if name == "correlation_penalty":
        base = with_fields(base, {name: CorrelationPenalty.NONE})
    if name == "schedule":
        base = replace(base, clock=Clock(16 * 3600, "UTC"))
    if name == "stress":
        base = replace(base, stress=(StressEvent("crash", 1, Others.STAY, ("A",), (-0.5,)),))
    if name == "stop_required":
        base = replace(base, strategy=Told(has_stops=False))
    base = with_fields(base, BESIDE.get(name, {}))
    return base, with_fields(base, {name: CALLED[name]})


def third(chosen: AlgorithmChoice, question: AlgorithmInput) -> AlgorithmAnswer:
    """A custom algorithm: a third of equity over all lines."""
    share = 1.0 / 3.0 / len(question.instrument_ids)
    return AlgorithmAnswer(chosen.name, AlgorithmTier.PYTHON, share * question.columns["side"], 1.0)


def refusals(setting: Setting, mode: Mode) -> dict[str, Refused]:
    return {item.field: item for item in refused(setting, PAST, mode)}


def path(field: str) -> str:
    part, name = field.split(".")
    if part == "joint":
        return f"limits.joint.{name}"
    return f"{part}.{'restricted_instrument_ids' if name == 'restricted' else name}"


def is_same(one: Backtest, other: Backtest) -> bool:
    return np.array_equal(one.units, other.units)  # type: ignore[arg-type]


def test_every_field_is_named_once() -> None:
    assert sorted([*IN_BOTH, *IN_EXACT, *IN_NONE, *INSIDE]) == sorted(FIELDS)


@pytest.mark.parametrize("field", sorted(IN_NONE))
def test_what_no_mode_sizes_by_is_refused(field: str) -> None:
    setting = with_fields(BASE, {field.split(".")[1]: CALLED[field.split(".")[1]]})
    for mode in Mode:
        (item,) = refusals(setting, mode).values()
        assert item.field.removesuffix("_s") == path(field).removesuffix("_s")
        assert item.reason == "NOT_APPLICABLE"


@pytest.mark.parametrize("field", sorted(IN_EXACT | IN_BOTH))
def test_what_the_exact_mode_accepts_changes_what_is_held(
    field: str, kernels: KernelRegistry
) -> None:
    without, with_it = pair(field)
    assert refusals(with_it, Mode.EXACT) == {}
    if field == "parameters.algorithm":  # without one the method has nothing to ask
        assert list(refusals(without, Mode.EXACT)) == [path(field)]
        without = replace(BASE, parameters=P)
    one, other = (run(PAST, setting, kernels, third) for setting in (without, with_it))
    assert one.decisions > 0
    assert one.trades > 0
    assert not is_same(one, other)


@pytest.mark.parametrize("field", sorted(IN_EXACT))
def test_what_the_fast_mode_does_not_know_is_refused(field: str) -> None:
    _, with_it = pair(field)
    assert refusals(with_it, Mode.FAST)[path(field)].reason == "NOT_APPLICABLE"


def test_what_the_fast_mode_accepts_changes_what_is_held() -> None:
    strange = {"parameters.method", "parameters.correlation_penalty"}
    known = sorted(IN_BOTH - strange)
    for field in strange:
        assert path(field) in refusals(pair(field)[1], Mode.FAST)
    strategy = Told(has_stops=False)
    settings = [replace(one, strategy=strategy) for field in known for one in pair(field)]
    assert [refusals(setting, Mode.FAST) for setting in settings] == [{}] * len(settings)
    found = run_fast(PAST, settings, units=True)
    same = [name for i, name in enumerate(known) if is_same(found[2 * i], found[2 * i + 1])]
    assert same == []


@pytest.mark.parametrize(
    ("values", "needs", "reason"),
    [
        ({"adv_trade_max": 0.1}, "limits.adv_trade_max", "MISSING"),
        ({"impact_coefficient": 0.5}, "parameters.impact_coefficient", "MISSING"),
        ({"groups": CALLED["groups"]}, "limits.groups", "MISSING"),
        ({"cvar_max": 0.1}, "limits.joint.cvar_max", "MISSING"),
        ({"method": Method.JOINT}, "parameters.method", "MISSING"),
        ({"method": Method.RISK_PARITY}, "parameters.risk_budget", "MISSING"),
        ({"method": Method.MULTI_PERIOD, "plan_periods": 5}, "parameters.method", "MISSING"),
        ({"schedule": Schedule((ROW,))}, "decision_time", "MISSING"),
        ({"algorithm": AlgorithmChoice("third")}, "parameters.algorithm", "NOT_APPLICABLE"),
        ({"lot_choice": LotChoice.SEARCHED}, "parameters.lot_choice", "NOT_APPLICABLE"),
    ],
)
def test_what_is_needed_is_named(values: dict[str, Any], needs: str, reason: str) -> None:
    bare = PriceHistory(PAST.dates, NAMES, PAST.close)
    found = {
        item.field: item.reason for item in refused(with_fields(BASE, values), bare, Mode.EXACT)
    }
    assert found == {needs: reason}


def test_the_loss_of_a_day_stops_increases_until_the_next(kernels: KernelRegistry) -> None:
    """A fall of 5 % in session 24 is beyond 1 %; the day after, where it resumes, goes on."""
    close = np.full((30, 1), 100.0)
    close[24:] = 90.0
    past = PriceHistory(PAST.dates[:30], ("A",), close)

    def says(_: PriceHistory, session: int) -> SessionSignals | None:
        if session < 22:
            return None
        edge = 0.002 if session < 24 else 0.004
        one = np.ones(1)
        source = np.array([int(Source.RETURN_VOLATILITY)])
        signals = Signals(one, source, expected_return=edge * one, volatility=0.05 * one)
        return SessionSignals(np.zeros(1, dtype=np.int64), signals)

    limits = Limits(weight_max=0.9, day_loss_max=0.01)
    stays = Setting(says, EffectiveParameters(kelly_fraction=0.5), limits)
    resumes = replace(stays, limits=replace(limits, day_loss_resumes=True))
    held, went = (run(past, setting, kernels) for setting in (stays, resumes))
    assert held.units is not None
    assert went.units is not None
    assert (held.reducing, went.reducing) == (5, 1)
    np.testing.assert_array_equal(held.units[24:, 0], held.units[24, 0])
    assert went.units[25, 0] == went.units[24, 0]
    assert went.units[26, 0] > went.units[25, 0]


def test_the_drawdown_floor_is_that_of_grossman_and_zhou(kernels: KernelRegistry) -> None:
    """(1 - a) of Kelly at the peak: 0.2 of what is staked without a floor of 0.8."""
    small = with_fields(BASE, {"kelly_fraction": 0.1})
    whole = run(PAST, small, kernels)
    floored = run(PAST, with_fields(small, {"drawdown_floor": 0.8}), kernels)
    assert floored.gross_weight[23] == pytest.approx(0.2 * whole.gross_weight[23], rel=0.01)


def test_a_floor_that_does_not_rise_leaves_the_cushion_of_the_day(kernels: KernelRegistry) -> None:
    """k (1 - F / W) of what is staked without the floor, with the equity W of each session."""
    small = with_fields(BASE, {"kelly_fraction": 0.1})
    whole = run(PAST, small, kernels)
    floor = 0.8 * float(whole.equity[0])
    given = {"equity_floor": floor, "drawdown_multiplier": 2.0}
    floored = run(PAST, with_fields(small, given), kernels)
    traded = np.flatnonzero(whole.gross_weight > 0.0)
    decided = 2.0 * (1.0 - floor / floored.equity[traded - 1])  # orders are filled a session later
    np.testing.assert_allclose(
        floored.gross_weight[traded], decided * whole.gross_weight[traded], rtol=0.02
    )


def test_lines_that_are_refused_are_counted(kernels: KernelRegistry) -> None:
    def says(history: PriceHistory, session: int) -> SessionSignals | None:
        told = Told()(history, session)
        if told is None:
            return None
        wrong = np.array(told.signals.volatility)
        wrong[2] = np.nan
        return replace(told, signals=replace(told.signals, volatility=wrong))

    found = run(PAST, replace(BASE, strategy=says), kernels)
    assert found.refused_lines == {"NOT_FINITE": found.decisions}
