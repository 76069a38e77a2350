"""Backtests and simulated futures between the contract and the domain."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import date
from typing import Any

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.limits.policy import Limits
from compute.market import Floats
from compute.parameters import EffectiveParameters, overlaid
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import Backtest, FillAt, Setting
from compute.simulate.fast_settings import fast_violations, run_fast
from compute.simulate.history import HistoryError, PriceHistory
from compute.simulate.monte_carlo import STEPS_MAX
from compute.simulate.signal_table import UnsupportedError
from compute.simulate.strategies import GivenSignals, MeanReturn, SessionSignals, Strategy
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert import request as request_convert
from server.convert.columns import floats
from server.convert.market import instrument_violations
from server.convert.ranges import number_violations
from server.errors import FieldViolation, invalid, invalid_fields

SETTINGS_MAX, FAST_SETTINGS_MAX = 64, 4096
FRACTIONS_MAX = 16
RETURNS_MIN = 20
"""Fewer say nothing about how they follow each other."""
CELLS_MAX = 4_000_000
"""Sessions times instruments of one history."""
STEPS_TIMES_PATHS_MAX = 10_000_000
COSTS = tuple(item.name for item in fields(TradingCosts) if item.name != "days_per_year")


def backtest_violations(request: pb.RunBacktestRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request before its history is looked at, by field path."""
    if request.WhichOneof("history") is None:
        yield FieldViolation("prices", "MISSING", "give prices or universe_id")
    if request.mode not in pb.BacktestMode.values():
        yield FieldViolation("mode", "UNKNOWN_VALUE", f"is {request.mode}")
    most = FAST_SETTINGS_MAX if request.mode == pb.BACKTEST_MODE_FAST else SETTINGS_MAX
    if not 1 <= len(request.settings) <= most:
        text = f"has {len(request.settings)} entries; 1 to {most} are accepted in this mode"
        yield FieldViolation("settings", "OUT_OF_RANGE", text)
    elif len(request.settings) > SETTINGS_MAX and not request.summary_only:
        text = f"must be set for more than {SETTINGS_MAX} settings"
        yield FieldViolation("summary_only", "MISSING", text)
    yield from number_violations(request)
    for place, setting in enumerate(request.settings):
        yield from setting_violations(setting, f"settings[{place}].")


def setting_violations(setting: pb.BacktestSetting, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a setting, by field path below `path`."""
    if setting.WhichOneof("strategy") is None:
        yield FieldViolation(f"{path}mean_return", "MISSING", "give mean_return or given")
    if setting.fill_at not in pb.FillAt.values():
        yield FieldViolation(f"{path}fill_at", "UNKNOWN_VALUE", f"is {setting.fill_at}")
    yield from parameters_convert.violations(setting.parameters, f"{path}parameters")
    yield from limits_convert.violations(setting.limits, f"{path}limits")
    if setting.parameters.method not in (
        types_pb2.SIZING_METHOD_UNSPECIFIED,
        types_pb2.SIZING_METHOD_CLOSED_FORM,
    ):
        text = "backtests use the closed form"
        yield FieldViolation(f"{path}parameters.method", "NOT_APPLICABLE", text)
    yield from parameters_convert.model_violations(setting.parameters, f"{path}parameters")


def price_history(table: pb.PriceTable, path: str = "prices") -> PriceHistory:
    """The history of a table. Raises `Refusal` naming the first thing that is wrong."""
    found = list(instrument_violations(table.instrument_ids, f"{path}.instrument_ids"))
    sessions, m = len(table.dates), len(table.instrument_ids)
    if sessions * m > CELLS_MAX:
        text = f"has {sessions} sessions of {m} instruments; at most {CELLS_MAX} numbers"
        found.append(FieldViolation(f"{path}.dates", "TOO_MANY", text))
    for place, text in enumerate(table.dates):
        if not _is_date(text):
            words = f"is {text!r}; it must be an ISO date such as 2024-03-01"
            found.append(FieldViolation(f"{path}.dates[{place}]", "NOT_A_DATE", words))
            break
    if table.sectors and len(table.sectors) != m:
        text = f"has {len(table.sectors)} entries for {m} instruments"
        found.append(FieldViolation(f"{path}.sectors", "LENGTH_MISMATCH", text))
    columns: dict[str, Floats] = {}
    for name in ("close", "open", "dividend", "split", "volume"):
        values = floats(getattr(table, name))
        if not len(values) and name != "close":
            continue
        if len(values) != sessions * m:
            text = f"has {len(values)} entries for {sessions} sessions of {m} instruments"
            found.append(FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", text))
            continue
        columns[name] = values.reshape(sessions, m)
    if found:
        raise invalid_fields(found)
    for name in ("close", "open"):
        if name in columns:
            columns[name] = np.where(columns[name] == 0.0, np.nan, columns[name])
    try:
        return PriceHistory(
            tuple(table.dates), tuple(table.instrument_ids), sector=tuple(table.sectors), **columns
        )
    except HistoryError as error:
        raise invalid(f"{path}.dates", error.reason, str(error)) from error


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def check_fast(history: PriceHistory, settings: Sequence[Setting]) -> None:
    """Raises `Refusal` naming what the fast mode doesn't know."""
    text = "mode FAST does not know it, or the history lacks what it needs; use mode EXACT"
    found = [
        FieldViolation(f"settings[{place}].{name}", "NOT_APPLICABLE", text)
        for place, name in fast_violations(history, settings)
    ]
    if found:
        raise invalid_fields(found)


def ran_fast(history: PriceHistory, settings: Sequence[Setting]) -> list[Backtest]:
    """All settings in the fast mode. Raises `Refusal` for signals that it doesn't know."""
    try:
        return run_fast(history, settings, threads=os.cpu_count() or 1)
    except UnsupportedError as error:
        text = f"mode FAST does not know {error}; use mode EXACT"
        raise invalid("settings", "NOT_APPLICABLE", text) from error


def setting(message: pb.BacktestSetting, place: int, history: PriceHistory) -> Setting:
    """The domain's setting; the message has been checked. Raises `Refusal`."""
    path = f"settings[{place}]"
    costs = TradingCosts(**{name: getattr(message.costs, name) for name in COSTS})
    parameters = overlaid(EffectiveParameters(), parameters_convert.parameters(message.parameters))
    return Setting(
        name=message.name or str(place),
        strategy=_strategy(message, path, history),
        parameters=parameters,
        limits=limits_convert.limits(message.limits) if message.HasField("limits") else Limits(),
        cash=message.cash if message.HasField("cash") else 1e6,
        costs=costs,
        fill_at=FillAt(message.fill_at or pb.FILL_AT_NEXT_OPEN),
        lot_size=message.lot_size if message.HasField("lot_size") else 1.0,
        rebalance_sessions=(
            message.rebalance_sessions if message.HasField("rebalance_sessions") else 1
        ),
    )


def _strategy(message: pb.BacktestSetting, path: str, history: PriceHistory) -> Strategy:
    if message.WhichOneof("strategy") == "mean_return":
        rule = message.mean_return
        return MeanReturn(
            sessions=rule.sessions if rule.HasField("sessions") else 252,
            is_reversal=rule.is_reversal,
            is_long_only=rule.is_long_only,
        )
    return _given(message.given, f"{path}.given", history)


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
    if whole.history_outcome is not None:
        text = "histories of outcomes can't be given in a backtest"
        raise invalid(f"{path}.signals.history_outcome", "NOT_APPLICABLE", text)
    if len(given.signals.features):
        text = "models can't be asked in a backtest"
        raise invalid(f"{path}.signals.features", "NOT_APPLICABLE", text)
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


def growth_violations(request: pb.SimulateGrowthRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request for simulated futures, by field path."""
    kind = request.WhichOneof("returns")
    if kind is None:
        yield FieldViolation("distribution", "MISSING", "give distribution or bootstrap")
    returns = len(request.bootstrap.excess_returns)
    if kind == "bootstrap" and returns < RETURNS_MIN:
        text = f"has {returns} entries; at least {RETURNS_MIN} are needed"
        yield FieldViolation("bootstrap.excess_returns", "TOO_FEW", text)
    if not 1 <= len(request.fractions) <= FRACTIONS_MAX:
        text = f"has {len(request.fractions)} entries; 1 to {FRACTIONS_MAX} are accepted"
        yield FieldViolation("fractions", "OUT_OF_RANGE", text)
    wrong = list(number_violations(request))
    yield from wrong
    if wrong:
        return
    steps, paths = steps_of(request), paths_of(request)
    if steps > STEPS_MAX or steps * paths > STEPS_TIMES_PATHS_MAX:
        text = f"{steps} steps on {paths} paths are more than {STEPS_TIMES_PATHS_MAX} in all"
        yield FieldViolation("paths", "TOO_MANY", text)


def steps_of(request: pb.SimulateGrowthRequest) -> int:
    """Steps of a path, at least one."""
    years = request.years if request.HasField("years") else 5.0
    return max(round(years * steps_per_year(request)), 1)


def steps_per_year(request: pb.SimulateGrowthRequest) -> int:
    """Steps a year, with the default."""
    return request.steps_per_year if request.HasField("steps_per_year") else 252


def paths_of(request: pb.SimulateGrowthRequest) -> int:
    """Paths, with the default."""
    return request.paths if request.HasField("paths") else 2_000
