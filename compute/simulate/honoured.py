"""Which parameters and limits each mode of a backtest sizes by; every other one is refused.

A setting that is said and left out would be a backtest of something else. Each field of
`EffectiveParameters`, `Limits` and `JointLimits` is named here once, as used by both modes, by the
exact one alone, or by none with the reason why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum

from compute.adapt.schedule import NO_SCHEDULE
from compute.correlation.penalty import CorrelationPenalty
from compute.limits.policy import JointLimits, Limits
from compute.limits.stress_limits import Others
from compute.methods import Engine, Method
from compute.parameters import PARAMETERS, EffectiveParameters, Shrinkage
from compute.simulate.history import PriceHistory
from compute.simulate.setting import Setting


class Mode(Enum):
    """How a backtest is computed."""

    EXACT = "EXACT"
    FAST = "FAST"


@dataclass(frozen=True)
class Refused:
    """A field of a setting that a backtest doesn't size by, by its path in the contract."""

    field: str
    reason: str
    message: str


def _of(part: str, names: str) -> frozenset[str]:
    return frozenset(f"{part}.{name}" for name in names.split())


IN_BOTH = (
    _of("joint", "linear stress")
    | _of(
        "parameters",
        "method kelly_fraction drawdown_tolerance confidence_shrinkage risk_free_rate cost_rate "
        "volatility_target risk_budget correlation_penalty",
    )
    | _of(
        "limits",
        "weight_max notional_max instruments groups gross_notional_max leverage_max net_weight_min "
        "net_weight_max turnover_max cash_buffer fee_rate short_margin_rate sale_proceeds "
        "adv_trade_max adv_position_max trade_notional_min trade_notional_max trade_weight_min "
        "restricted allow_short allow_flip",
    )
)
"""Some values are not known to FAST: other methods, penalties, numeric shrinkage, soft limits."""

IN_EXACT = (
    _of(
        "parameters",
        "impact_coefficient no_trade_region trade_rate plan_periods robust stop_risk_max "
        "joint_objective lot_choice schedule drawdown_floor drawdown_multiplier equity_floor "
        "algorithm",
    )
    | _of(
        "limits",
        "clusters stop_required positions_max exit_days_max participation_rate day_loss_max "
        "day_loss_resumes",
    )
    | _of(
        "joint",
        "volatility_max var_max var_level cvar_max cvar_level cdar_max cdar_level wealth_floor "
        "wealth_floor_probability tails",
    )
)

_AGE = "a backtest reads its history alone, and everything in it is as old as its session"
_CHECKS = "it guards live numbers against mistakes; the history is taken as it is given"
_MODEL = "no model is asked in a backtest: give its predictions as signals"
IN_NONE: Mapping[str, str] = {
    "parameters.interval_probability": "a backtest tells no intervals of single sizes",
    "parameters.prior_wins": "it is read with histories of outcomes, which can't be given here",
    "parameters.prior_losses": "it is read with histories of outcomes, which can't be given here",
    "parameters.reservation_ttl_s": "orders are filled in the next session; nothing is reserved",
    "parameters.market_age_max_s": _AGE,
    "parameters.portfolio_age_max_s": _AGE,
    "parameters.matrix_age_max_s": _AGE,
    "parameters.periods_per_year": "edges and estimates are per session",
    "parameters.fill_deviation_max": _CHECKS,
    "parameters.price_jump_max": _CHECKS,
    "parameters.equity_jump_max": _CHECKS,
    "parameters.covariance_universe": "it estimates from its own history: see `estimates`",
    "parameters.edge_half_life_s": "signals are decided on at the close of their own session",
    "parameters.edge_model_id": _MODEL,
    "parameters.size_model_id": _MODEL,
    "parameters.condition_rules": "a history has no observations of conditions",
    "parameters.edge_gone_action": "a backtest doesn't stop where a bettor would doubt its edge",
    "parameters.volatility_model": "volatilities are those of the history",
    "limits.currency": "amounts are in the currency of the prices",
    "limits.foreign": "amounts are in the currency of the prices",
}
INSIDE = frozenset({"parameters.fraction_multiplier", "parameters.edge_multiplier", "limits.joint"})
"""What no caller sets, and what is made of fields of its own."""

_ON_RETURNS = (
    "volatility_max", "var_max", "cvar_max", "cdar_max", "wealth_floor", "tails",
)  # fmt: skip
_ON_VOLUMES = ("adv_trade_max", "adv_position_max", "exit_days_max")
_CONTRACT = {
    "limits.restricted": "limits.restricted_instrument_ids",
    **{f"parameters.{p.name}": f"parameters.{p.contract_name}" for p in PARAMETERS},
}


def refused(setting: Setting, history: PriceHistory, mode: Mode) -> Iterator[Refused]:
    """What of a setting the mode can't size by, and what it lacks to do so: once for each field."""
    found: dict[str, Refused] = {}
    for item in (*_unused(setting, mode), *_unread(setting), *_lacking(setting, history, mode)):
        found.setdefault(item.field, item)
    yield from found.values()


def _unused(setting: Setting, mode: Mode) -> Iterator[Refused]:
    for name, value in said(setting):
        if name in IN_NONE:
            yield _no(name, f"a backtest doesn't use it: {IN_NONE[name]}; leave it out")
        elif mode is Mode.FAST and name in IN_EXACT:
            yield _no(name, "mode FAST doesn't know it; use mode EXACT")
        elif mode is Mode.FAST and not _known_to_fast(name, value):
            yield _no(name, "mode FAST doesn't know this value of it; use mode EXACT")
    if mode is Mode.FAST and setting.estimates is not None:
        yield _no("estimates", "mode FAST estimates nothing; use mode EXACT")


def said(setting: Setting) -> Iterator[tuple[str, object]]:
    """The fields that are not at their defaults, by names such as "joint.cvar_max"."""
    for prefix, given, neutral in (
        ("parameters", setting.parameters, EffectiveParameters()),
        ("limits", setting.limits, Limits()),
        ("joint", setting.limits.joint, JointLimits()),
    ):
        for item in fields(given):
            value, name = getattr(given, item.name), f"{prefix}.{item.name}"
            if name not in INSIDE and value != getattr(neutral, item.name):
                yield name, value


def _known_to_fast(name: str, value: object) -> bool:
    if name == "parameters.method":
        return value is Method.CLOSED_FORM
    if name == "parameters.correlation_penalty":
        return value is CorrelationPenalty.NONE
    if name == "joint.linear":
        return all(one.soft_price is None for one in value)  # type: ignore[attr-defined]
    if name == "parameters.confidence_shrinkage":
        return value is not Shrinkage.BAKER_MCHALE_NUMERIC
    return True


def _unread(setting: Setting) -> Iterator[Refused]:
    """Parameters of a method other than the one that sizes."""
    parameters = setting.parameters
    if parameters.method.engine is not Engine.OPTIMIZER:
        neutral = EffectiveParameters()
        for name in ("joint_objective", "lot_choice"):
            if getattr(parameters, name) != getattr(neutral, name):
                yield _no(f"parameters.{name}", "it is read by the method JOINT alone")
    is_outside = parameters.method.engine is Engine.OUTSIDE
    if parameters.algorithm is not None and not is_outside:
        yield _no("parameters.algorithm", "it is read by the method CUSTOM alone")
    if parameters.algorithm is None and is_outside:
        yield _missing("parameters.algorithm", "the method CUSTOM needs one")
    if parameters.method is Method.RISK_PARITY and parameters.risk_budget is None:
        yield _missing("parameters.risk_budget", "the method RISK_PARITY shares it")
    if parameters.method is Method.MULTI_PERIOD and not parameters.plan_periods:
        yield _missing("parameters.plan_periods", "the method MULTI_PERIOD plans so far ahead")


def _lacking(setting: Setting, history: PriceHistory, mode: Mode) -> Iterator[Refused]:
    """What the history or the setting has to bring for a parameter or limit."""
    parameters, limits = setting.parameters, setting.limits
    if history.volume is None:
        needs = [f"limits.{name}" for name in _ON_VOLUMES if getattr(limits, name) is not None]
        needs += ["parameters.impact_coefficient"] * (parameters.impact_coefficient > 0.0)
        for name in needs:
            yield _missing(name, "it needs volumes in the history")
    if any(group.sector for group in limits.groups) and not (
        history.sector and all(history.sector)
    ):
        yield _missing("limits.groups", "limits by sector need the sector of each instrument")
    if setting.estimates is None:
        for name in _on_estimates(setting):
            yield _missing(name, "it needs `estimates`: what is estimated from the history")
    yield from _on_stress(setting, history, mode)
    if parameters.schedule != NO_SCHEDULE:
        if parameters.schedule.exchanges:
            text = "a history has no sessions of exchanges: give rows in local time"
            yield _no("parameters.schedule", text)
        if setting.clock is None:
            yield _missing("decision_time", "a schedule needs the time of day of the decisions")


def _on_stress(setting: Setting, history: PriceHistory, mode: Mode) -> Iterator[Refused]:
    """What the scenarios that limits name need to say the loss of a book."""
    events = {event.scenario_id: event for event in setting.stress}
    known = set(history.instrument_ids)
    for limit in setting.limits.joint.stress:
        event = events.get(limit.scenario_id)
        if event is None:
            yield _missing("joint.stress", f"{limit.scenario_id!r} is no stress scenario in force")
        elif event.others is Others.SPREAD and setting.estimates is None:
            text = (
                f"the shocks of {limit.scenario_id!r} spread by a covariance: it needs `estimates`"
            )
            yield _missing("joint.stress", text)
        elif event.others is Others.SPREAD and (
            outside := [name for name in event.instrument_ids if name not in known]
        ):
            text = f"{outside[0]!r}, by which {limit.scenario_id!r} spreads, is not in the history"
            yield _no("joint.stress", text)
        elif event.others is Others.UNKNOWN and mode is Mode.FAST:
            # The exact mode asks of what is held or sized alone, and counts the decisions refused.
            for name in sorted(known - set(event.instrument_ids))[:1]:
                text = f"{limit.scenario_id!r} doesn't say the return of {name!r}; use mode EXACT"
                yield _no("joint.stress", text)


def _on_estimates(setting: Setting) -> Iterator[str]:
    parameters, limits = setting.parameters, setting.limits
    if parameters.method in (Method.JOINT, Method.MULTI_PERIOD):
        yield "parameters.method"
    if parameters.correlation_penalty not in (None, CorrelationPenalty.NONE):
        yield "parameters.correlation_penalty"
    if limits.clusters:
        yield "limits.clusters"
    neutral = JointLimits()
    for name in _ON_RETURNS:
        if getattr(limits.joint, name) != getattr(neutral, name):
            yield f"joint.{name}"


def _no(name: str, message: str) -> Refused:
    return Refused(_path(name), "NOT_APPLICABLE", message)


def _missing(name: str, message: str) -> Refused:
    return Refused(_path(name), "MISSING", message)


def _path(name: str) -> str:
    if name.startswith("joint."):
        return f"limits.{name}"
    return _CONTRACT.get(name, name)
