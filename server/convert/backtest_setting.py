"""One way to size in a backtest, between the contract and the domain."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any
from zoneinfo import available_timezones

import numpy as np
from positionsizing.v1 import correlation_service_pb2
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.correlation.estimate import Estimator
from compute.limits.policy import Limits
from compute.limits.stress_limits import StressEvent
from compute.parameters import EffectiveParameters, overlaid
from compute.simulate.account import TradingCosts
from compute.simulate.estimates import Estimates
from compute.simulate.history import PriceHistory
from compute.simulate.setting import Clock, FillAt, Setting
from compute.simulate.strategies import GivenSignals, MeanReturn, SessionSignals, Strategy
from compute.simulate.volatility_forecast import HALF_LIFE, SESSIONS, VolatilityForecast
from compute.waterfall.layout import Source
from server.calls.errors import FieldViolation, invalid, invalid_fields
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert import request as request_convert
from server.convert.estimator import settings_of, settings_violations
from server.convert.schedule import is_clock, second_of

COSTS = tuple(item.name for item in fields(TradingCosts) if item.name != "days_per_year")
_ZONES = available_timezones()
NOT_ESTIMATED = (
    correlation_service_pb2.COVARIANCE_ESTIMATOR_DETONED,
    correlation_service_pb2.COVARIANCE_ESTIMATOR_GIVEN_FACTORS,
)
_STORED = "nothing stored is read in a backtest"
_MODELS = "models can't be asked in a backtest"
NOT_READ = {
    "history_outcome": "histories of outcomes can't be given in a backtest",
    "history_length": "histories of outcomes can't be given in a backtest",
    "history_universe_id": _STORED,
    "history_start_time": _STORED,
    "features": _MODELS,
    "model_id": _MODELS,
    "feature_schema_hash": _MODELS,
    "as_of_time": "signals are those of the close of their date",
}
"""Columns of signals that a backtest doesn't size by."""


def setting_violations(setting: pb.BacktestSetting, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a setting, by field path below `path`."""
    if setting.WhichOneof("strategy") is None:
        text = "give mean_return, volatility_forecast or given"
        yield FieldViolation(f"{path}mean_return", "MISSING", text)
    rule = setting.volatility_forecast
    if setting.HasField("volatility_forecast") and rule.WhichOneof("expected") is None:
        where = f"{path}volatility_forecast.premium"
        yield FieldViolation(where, "MISSING", "give premium or sharpe")
    if setting.fill_at not in pb.FillAt.values():
        yield FieldViolation(f"{path}fill_at", "UNKNOWN_VALUE", f"is {setting.fill_at}")
    yield from parameters_convert.violations(setting.parameters, f"{path}parameters")
    yield from limits_convert.violations(setting.limits, f"{path}limits")
    if setting.estimates.estimator in NOT_ESTIMATED:
        text = "must be an estimator of covariances that knows no other factors"
        yield FieldViolation(f"{path}estimates.estimator", "NOT_APPLICABLE", text)
    elif setting.estimates.estimator not in correlation_service_pb2.CovarianceEstimator.values():
        text = f"is {setting.estimates.estimator}"
        yield FieldViolation(f"{path}estimates.estimator", "UNKNOWN_VALUE", text)
    yield from settings_violations(setting.estimates.settings, f"{path}estimates.settings")
    yield from _clock_violations(setting, path)


def setting_of(
    message: pb.BacktestSetting,
    place: int,
    history: PriceHistory,
    stress: tuple[StressEvent, ...] = (),
    shared: dict[bytes, GivenSignals] | None = None,
    path: str = "",
) -> Setting:
    """The domain's setting; the message has been checked. Raises `Refusal`.

    stress: the scenarios of the request. shared: given signals by their message, for settings with
    the same ones: mode FAST lays them out once. path: of the message, by default by its place.
    """
    path = path or f"settings[{place}]"
    costs = TradingCosts(**{name: getattr(message.costs, name) for name in COSTS})
    parameters = overlaid(EffectiveParameters(), parameters_convert.parameters(message.parameters))
    return Setting(
        name=message.name or str(place),
        strategy=_strategy(message, path, history, {} if shared is None else shared),
        parameters=parameters,
        limits=limits_convert.limits(message.limits) if message.HasField("limits") else Limits(),
        cash=message.cash if message.HasField("cash") else 1e6,
        costs=costs,
        fill_at=FillAt(message.fill_at or pb.FILL_AT_NEXT_OPEN),
        lot_size=message.lot_size if message.HasField("lot_size") else 1.0,
        rebalance_sessions=(
            message.rebalance_sessions if message.HasField("rebalance_sessions") else 1
        ),
        estimates=_estimates(message.estimates) if message.HasField("estimates") else None,
        clock=_clock(message),
        stress=stress,
    )


def _estimates(message: pb.BacktestEstimates) -> Estimates:
    neutral = Estimates()
    return Estimates(
        sessions=message.sessions if message.HasField("sessions") else neutral.sessions,
        estimator=Estimator(message.estimator or neutral.estimator),
        settings=settings_of(message.settings),
        scenarios=message.scenarios,
    )


def _clock_violations(setting: pb.BacktestSetting, path: str) -> Iterator[FieldViolation]:
    if not setting.decision_time and not setting.time_zone:
        return
    if not is_clock(setting.decision_time):
        text = f"is {setting.decision_time[:40]!r}; it must be a local time such as '16:00'"
        yield FieldViolation(f"{path}decision_time", "BAD_FORMAT", text)
    if setting.time_zone not in _ZONES:
        text = f"is {setting.time_zone[:60]!r}; it must be an IANA zone, e.g. 'America/New_York'"
        reason = "UNKNOWN_VALUE" if setting.time_zone else "MISSING"
        yield FieldViolation(f"{path}time_zone", reason, text)


def _clock(message: pb.BacktestSetting) -> Clock | None:
    if not message.decision_time:
        return None
    return Clock(second_of(message.decision_time), message.time_zone)


def _strategy(
    message: pb.BacktestSetting,
    path: str,
    history: PriceHistory,
    shared: dict[bytes, GivenSignals],
) -> Strategy:
    if message.WhichOneof("strategy") == "mean_return":
        rule = message.mean_return
        return MeanReturn(
            sessions=rule.sessions if rule.HasField("sessions") else 252,
            is_reversal=rule.is_reversal,
            is_long_only=rule.is_long_only,
        )
    if message.WhichOneof("strategy") == "volatility_forecast":
        return _forecast(message.volatility_forecast)
    key = message.given.SerializeToString(deterministic=True)
    if key not in shared:
        shared[key] = _given(message.given, f"{path}.given", history)
    return shared[key]


def _forecast(rule: pb.VolatilityForecastStrategy) -> VolatilityForecast:
    is_sharpe = rule.WhichOneof("expected") == "sharpe"
    return VolatilityForecast(
        premium=rule.sharpe if is_sharpe else rule.premium,
        is_sharpe=is_sharpe,
        error=rule.error,
        half_life=rule.half_life if rule.HasField("half_life") else HALF_LIFE,
        sessions=rule.sessions if rule.HasField("sessions") else SESSIONS,
    )


def _given(given: pb.GivenSignals, path: str, history: PriceHistory) -> GivenSignals:
    """The caller's signals by date."""
    ids, dates = list(given.signals.instrument_ids), list(given.dates)
    place_of = {name: place for place, name in enumerate(history.instrument_ids)}
    sessions = set(history.dates)
    found = []
    if len(dates) != len(ids) or not dates:
        text = f"has {len(dates)} entries for {len(ids)} signals"
        found.append(FieldViolation(f"{path}.dates", "LENGTH_MISMATCH", text))
    for row, name in enumerate(ids):
        if name not in place_of:
            text = f"{name!r} is not in the history"
            where = f"{path}.signals.instrument_ids[{row}]"
            found.append(FieldViolation(where, "UNKNOWN_INSTRUMENT", text))
    for row, day in enumerate(dates):
        if day not in sessions:
            text = f"{day!r} is no session of the history"
            found.append(FieldViolation(f"{path}.dates[{row}]", "UNKNOWN_DATE", text))
    if found:
        raise invalid_fields(found)
    whole = request_convert.signals(given.signals, has_scenarios=False)
    unread = [
        FieldViolation(f"{path}.signals.{item.name}", "NOT_APPLICABLE", NOT_READ[item.name])
        for item, _ in given.signals.ListFields()
        if item.name in NOT_READ
    ]
    strange = np.flatnonzero(~np.isin(whole.source, (Source.WIN_LOSS, Source.RETURN_VOLATILITY)))
    for row in strange[: 0 if unread else 1]:
        text = f"the signal of {ids[row]!r} on {dates[row]} has an edge of another source"
        where = f"{path}.signals.edge_source[{row}]"
        unread.append(FieldViolation(where, "NOT_APPLICABLE", text))
    if unread:
        raise invalid_fields(unread)
    rows_of: dict[str, list[int]] = {}
    for row, day in enumerate(dates):
        rows_of.setdefault(day, []).append(row)
    by_date = {}
    for day, rows in rows_of.items():
        chosen = sorted(rows, key=lambda row: place_of[ids[row]])
        places = np.array([place_of[ids[row]] for row in chosen], dtype=np.int64)
        if (np.diff(places) == 0).any():
            raise invalid(f"{path}.dates", "DUPLICATE", f"an instrument has two signals on {day}")
        columns: dict[str, Any] = {
            name: None if column is None else column[chosen] for name, column in vars(whole).items()
        }
        by_date[day] = SessionSignals(places, replace(whole, **columns))
    return GivenSignals(by_date)
