"""Backtests and simulated futures between the contract and the domain."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.simulate.backtest import Backtest
from compute.simulate.fast_settings import RunChunks, in_threads, run_fast
from compute.simulate.history import COLUMNS, HistoryError, PriceHistory
from compute.simulate.honoured import Mode, refused
from compute.simulate.monte_carlo import STEPS_MAX
from compute.simulate.price_jumps import jumps
from compute.simulate.setting import Setting
from compute.simulate.signal_table import UnsupportedError
from server.calls.errors import FieldViolation, invalid, invalid_fields
from server.convert.backtest_setting import setting_violations
from server.convert.columns import floats
from server.convert.delisting import with_delistings
from server.convert.market import instrument_violations
from server.convert.ranges import number_violations
from server.convert.risk import scenario_violations
from server.convert.trials import experiment_violations

SETTINGS_MAX, FAST_SETTINGS_MAX = 64, 4096
FRACTIONS_MAX = 16
RETURNS_MIN = 20
"""Fewer say nothing about how they follow each other."""
CELLS_MAX = 4_000_000
"""Sessions times instruments of one history."""
STEPS_TIMES_PATHS_MAX = 10_000_000


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
    yield from experiment_violations(request)
    for place, setting in enumerate(request.settings):
        yield from setting_violations(setting, f"settings[{place}].")
    yield from stress_violations(request)


def stress_violations(
    request: pb.RunBacktestRequest | pb.TuneParametersRequest,
) -> Iterator[FieldViolation]:
    """What is wrong with the scenarios of a request."""
    seen: set[str] = set()
    for place, scenario in enumerate(request.stress_scenarios):
        where = f"stress_scenarios[{place}]"
        yield from scenario_violations(scenario, where)
        if scenario.scenario_id in seen:
            yield FieldViolation(where, "DUPLICATE", f"{scenario.scenario_id!r} is given twice")
        seen.add(scenario.scenario_id)


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
    columns: dict[str, Any] = {}
    for name in COLUMNS:
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


def checked_history(
    request: pb.RunBacktestRequest | pb.TuneParametersRequest,
    table: pb.PriceTable | None = None,
    universe: str = "",
) -> PriceHistory:
    """The history of a request, with its delistings.

    table, universe: prices of a stored universe, and the field that names it. Raises `Refusal`,
    also for prices that jump unconfirmed or end without a word.
    """
    history = price_history(request.prices if table is None else table)
    if len(history.dates) == 1:
        text = "has one session; what is decided at a close is filled in the next"
        raise invalid("prices.dates", "TOO_FEW", text)
    if never := [] if universe else list(np.flatnonzero(np.isnan(history.close).all(axis=0))):
        name = history.instrument_ids[never[0]]
        text = f"{name!r} has no close in any session; leave it out, or give its prices"
        raise invalid(f"prices.instrument_ids[{never[0]}]", "MISSING", text)
    if not request.confirm_prices:
        _refuse_jumps(history, universe)
    history = with_delistings(history, request, universe)
    _refuse_empty(history, universe)
    return history


def _refuse_empty(history: PriceHistory, universe: str) -> None:
    """Raises `Refusal` for a session without any close, but for those after the end of all.

    universe: see `_refuse_jumps`.
    """
    empty = np.flatnonzero(np.isnan(history.close).all(axis=1))
    gone = history.delistings
    if len({item.instrument for item in gone}) == len(history.instrument_ids):
        empty = empty[empty < max(item.session for item in gone)]
    if len(empty):
        text = f"no instrument has a close on {history.dates[empty[0]]}; leave such a session out"
        place = empty[0] * len(history.instrument_ids)
        raise invalid(universe or f"prices.close[{place}]", "MISSING", text)


def _refuse_jumps(history: PriceHistory, universe: str) -> None:
    """Raises `Refusal` for closes that look like splits that nobody announced.

    universe: the field that names it, where the prices are of a stored one.
    """
    announce = "record the corporate action" if universe else "announce the split in prices.split"
    found = []
    for jump in jumps(history):
        name, day = history.instrument_ids[jump.instrument], history.dates[jump.session]
        before = "its open" if jump.session_before == jump.session else "the close before"
        text = (
            f"the close of {name!r} on {day} is {jump.close:g}, {before} of "
            f"{history.dates[jump.session_before]} is {jump.before:g}: {announce}, put the price "
            "right, or confirm it with confirm_prices"
        )
        place = jump.session * len(history.instrument_ids) + jump.instrument
        found.append(FieldViolation(universe or f"prices.close[{place}]", "PRICE_JUMP", text))
    if found:
        raise invalid_fields(found)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def check_honoured(
    history: PriceHistory, settings: Iterable[tuple[str, Setting]], mode: Mode
) -> None:
    """Raises `Refusal` naming what of the settings, with the path of each, isn't sized by."""
    found = [
        FieldViolation(f"{path}.{item.field}", item.reason, item.message)
        for path, setting in settings
        for item in refused(setting, history, mode)
    ]
    if found:
        raise invalid_fields(found)


def ran_fast(
    history: PriceHistory,
    settings: Sequence[Setting],
    run_chunks: RunChunks | None = None,
    told: Callable[[float], None] = lambda part: None,
) -> list[Backtest]:
    """All settings in the fast mode. Raises `Refusal` for signals that it doesn't know.

    run_chunks: what runs the chunks; None: the processors of this machine. told: see `run_fast`.
    """
    run_chunks = run_chunks or in_threads(os.cpu_count() or 1)
    try:
        return run_fast(history, settings, run=run_chunks, told=told)
    except UnsupportedError as error:
        text = f"mode FAST does not know {error}; use mode EXACT"
        raise invalid("settings", "NOT_APPLICABLE", text) from error


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
