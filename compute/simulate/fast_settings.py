"""The fast mode of backtests: settings and a history into arrays, run in chunks, and back.

A chunk is arrays in and arrays out, whoever runs it: threads of this process (`in_threads`), or the
machines of a cluster.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from typing import Any

import numpy as np

from compute.limits.book_guard import NO_DATA
from compute.limits.policy import GroupLimit, SaleProceeds
from compute.limits.projection import NO_LIMIT
from compute.limits.stress_limits import with_stress
from compute.market import Floats
from compute.parameters import Shrinkage
from compute.simulate.account import Account
from compute.simulate.backtest import Backtest
from compute.simulate.decision import SESSIONS_PER_YEAR
from compute.simulate.fast import PAID, run_all
from compute.simulate.fast import Account as FastAccount
from compute.simulate.fast_decision import Bounds, Features, Session
from compute.simulate.history import PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.signal_table import COLUMNS, SignalTable, signal_table

CHUNK = 128
"""Settings in one call: the arrays of a session then stay in the caches of a processor."""

_BETS = ("is_bet", "win_probability", "payoff", "loss_fraction")


Outcome = list[Floats]
"""What came of a chunk: the parts of its accounts, (S, ...), then columns with a row a session."""
RunChunks = Callable[[Session, Features, Sequence[Bounds]], Iterator[Outcome]]
"""Runs chunks of settings through the sessions, and yields what came of each in their order."""


def run_chunk(sessions: Session, features: Features, bounds: Bounds) -> Outcome:
    """One chunk: pure, the same bits for the same arrays, versions and kind of processor."""
    account, columns = run_all(bounds, sessions, features)
    return [np.asarray(part) for part in (*account, *columns)]


def in_threads(count: int) -> RunChunks:
    """Runs chunks in so many threads of this process."""

    def run(sessions: Session, features: Features, chunks: Sequence[Bounds]) -> Iterator[Outcome]:
        with ThreadPoolExecutor(max(count, 1)) as pool:
            yield from pool.map(partial(run_chunk, sessions, features), chunks)

    return run


def run_fast(
    history: PriceHistory,
    settings: Sequence[Setting],
    *,
    run: RunChunks | None = None,
    units: bool = False,
    told: Callable[[float], None] = lambda part: None,
) -> list[Backtest]:
    """Runs every setting over the whole history; in the order given.

    Stage growth, bindings and refusals are those of `backtest.run` alone and stay empty. Equal
    strategies, which have to be hashable, are laid out once.
    run: what runs the chunks; None: one thread of this process. units: keep the units held at each
    close. told: hears the part of the settings that is done. Raises `UnsupportedError` for signals
    from scenarios or histories; what `honoured.refused` names must not be asked for.
    """
    run = run or in_threads(1)
    row_of = {one: row for row, one in enumerate(dict.fromkeys(one.strategy for one in settings))}
    tables = [signal_table(strategy, history) for strategy in row_of]
    rows = [row_of[setting.strategy] for setting in settings]
    out: dict[int, Backtest] = {}
    for fill_at in FillAt:
        places = [i for i, setting in enumerate(settings) if setting.fill_at is fill_at]
        if not places:
            continue
        features = _features([settings[i] for i in places], tables, history, fill_at, units=units)
        sessions = _sessions(history, tables, features, fill_at)
        pieces = [places[i : i + CHUNK] for i in range(0, len(places), CHUNK)]
        chunks = [_chunk(history, settings, rows, features, piece) for piece in pieces]
        for piece, found in zip(pieces, run(sessions, features, chunks), strict=True):
            out |= {i: _backtest(history, found, place) for place, i in enumerate(piece)}
            told(len(out) / len(settings))
    return [out[i] for i in range(len(settings))]


def _chunk(
    history: PriceHistory,
    settings: Sequence[Setting],
    rows: Sequence[int],
    features: Features,
    places: Sequence[int],
) -> Bounds:
    """One chunk, padded by its last setting where others were full: one shape, one program."""
    width = len(places) if len(places) < CHUNK else CHUNK
    width = 1 << (width - 1).bit_length()
    padded = [*places, *[places[-1]] * (width - len(places))]
    return _bounds(history, [settings[i] for i in padded], [rows[i] for i in padded], features)


def _backtest(history: PriceHistory, outcome: Outcome, place: int) -> Backtest:
    parts = len(FastAccount._fields)
    final, columns = outcome[:parts], outcome[parts:]
    cash, units, _, _, _, trades, decisions, scaled, costs, gone = (part[place] for part in final)
    paid: dict[str, Any] = dict(zip(PAID, map(float, costs), strict=True))
    equity = np.ascontiguousarray(columns[0][:, place])
    ended = np.flatnonzero(equity == 0.0)
    return Backtest(
        dates=history.dates,
        equity=equity,
        cash=np.ascontiguousarray(columns[1][:, place]),
        gross_weight=np.ascontiguousarray(columns[2][:, place]),
        turnover=np.ascontiguousarray(columns[3][:, place]),
        trades=int(trades),
        decisions=int(decisions),
        stage_growth=None,
        account=Account(float(cash), units, delisted=int(gone), **paid),
        scaled_fills=int(scaled),
        refused={},
        bindings={},
        ruined=int(ended[0]) if len(ended) else None,
        units=columns[4][:, place] if len(columns) > 4 else None,
    )


def _features(
    settings: Sequence[Setting],
    tables: Sequence[SignalTable],
    history: PriceHistory,
    fill_at: FillAt,
    *,
    units: bool,
) -> Features:
    limits = [setting.limits for setting in settings]
    parameters = [setting.parameters for setting in settings]

    def has(*names: str) -> bool:
        return any(getattr(one, name) is not None for one in limits for name in names)

    own = [item for one in limits for item in one.instruments.values()]
    return Features(
        at_same_close=fill_at is FillAt.SAME_CLOSE,
        has_bets=any(table.is_bet.any() for table in tables),
        dividend=history.dividend is not None,
        split=history.split is not None,
        delisting=history.delisting_price is not None,
        fixed_commission=any(setting.costs.commission_fixed for setting in settings),
        shrinks=any(one.confidence_shrinkage is not Shrinkage.NONE for one in parameters),
        volatility_target=any(one.volatility_target is not None for one in parameters),
        risk_budget=any(one.risk_budget is not None for one in parameters),
        notional=has("notional_max") or any(item.notional_max is not None for item in own),
        quantity=any(item.quantity_max is not None for item in own),
        liquidity=has("adv_trade_max", "adv_position_max", "trade_notional_max"),
        trade_min=has("trade_notional_min", "trade_weight_min"),
        gross=has("leverage_max", "gross_notional_max"),
        net=has("net_weight_min", "net_weight_max"),
        turnover=has("turnover_max"),
        n_groups=max((len(one.groups) for one in limits), default=0),
        n_rows=max((len(book_rows(setting, history)) for setting in settings), default=0),
        positions=units,
    )


def _sessions(
    history: PriceHistory, tables: Sequence[SignalTable], features: Features, fill_at: FillAt
) -> Session:
    sessions = len(history.dates)
    at_open = fill_at is FillAt.NEXT_OPEN and history.open is not None
    price = history.open if at_open and history.open is not None else history.close
    mark = np.nan_to_num(history.last_close)
    days = [date.fromisoformat(day).toordinal() for day in history.dates]
    nothing = np.zeros((sessions, 1))
    volume = nothing
    if features.liquidity and history.volume is not None:
        found = (history.average_daily_volume(t) for t in range(sessions))
        volume = np.stack([row for row in found if row is not None])
    ends = nothing if history.delisting_price is None else history.delisting_price
    columns = {
        name: np.zeros((sessions, 1, 1))
        if name in _BETS and not features.has_bets
        else np.stack([getattr(table, name) for table in tables], axis=1)
        for name in COLUMNS
    }
    years = np.sqrt(SESSIONS_PER_YEAR)
    made: dict[str, Any] = dict(
        number=np.arange(sessions),
        is_last=np.arange(sessions) == sessions - 1,
        price=np.nan_to_num(price),
        mark=mark,
        before=np.concatenate([mark[:1], mark[:-1]]),
        nights=np.append(np.diff(days), 0).astype(np.float64),
        dividend=nothing if history.dividend is None else np.nan_to_num(history.dividend),
        split=nothing if history.split is None else np.nan_to_num(history.split, nan=1.0),
        is_delisted=nothing if ends is nothing else ~np.isnan(ends) * 1.0,
        delisting_price=np.nan_to_num(ends),
        annual_volatility=np.nan_to_num(history.daily_volatility) * years,
        volume=volume,
        said=np.stack([table.said for table in tables], axis=1),
        **columns,
    )
    return Session(**made)


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def _bounds(
    history: PriceHistory, settings: Sequence[Setting], rows: Sequence[int], features: Features
) -> Bounds:
    def each(of: Any) -> Floats:
        return np.array([of(setting) for setting in settings], dtype=np.float64)

    def limit(name: str, default: float = NO_LIMIT) -> Floats:
        return each(lambda setting: _or(getattr(setting.limits, name), default))

    def parameter(name: str, default: float = NO_LIMIT) -> Floats:
        return each(lambda setting: _or(getattr(setting.parameters, name), default))

    def cost(name: str) -> Floats:
        return each(lambda setting: getattr(setting.costs, name))

    def group(of: Any, default: Any) -> Floats:
        padded = ([*map(of, setting.limits.groups)] for setting in settings)
        rows = [[*row, *[default] * (features.n_groups - len(row))] for row in padded]
        return np.array(rows, dtype=np.float64)

    def row(of: Any, default: Any) -> Floats:
        found = ([*map(of, book_rows(setting, history))] for setting in settings)
        rows = [[*one, *[default] * (features.n_rows - len(one))] for one in found]
        return np.array(rows, dtype=np.float64)

    m = len(history.instrument_ids)
    columns: dict[str, Any] = dict(  # noqa: C408 - a field a line
        strategy=np.array(rows),
        fraction=parameter("fraction"),
        risk_free_rate=parameter("risk_free_rate"),
        cost_rate=parameter("cost_rate"),
        shrink=each(lambda s: int(s.parameters.confidence_shrinkage) - int(Shrinkage.NONE)),
        volatility_target=parameter("volatility_target"),
        risk_budget=parameter("risk_budget"),
        weight_max=_instrument_bounds(history, settings, "weight_max"),
        notional_max=_instrument_bounds(history, settings, "notional_max"),
        quantity_max=_instrument_bounds(history, settings, "quantity_max"),
        gross_weight_max=limit("leverage_max"),
        gross_notional_max=limit("gross_notional_max"),
        net_min=limit("net_weight_min", -NO_LIMIT),
        net_max=limit("net_weight_max"),
        turnover_max=limit("turnover_max"),
        cash_buffer=limit("cash_buffer", 0.0),
        fee_rate=limit("fee_rate", 0.0),
        short_margin_rate=limit("short_margin_rate", 1.0),
        at_once=each(lambda s: s.limits.sale_proceeds is SaleProceeds.AT_ONCE),
        adv_trade_max=limit("adv_trade_max"),
        adv_position_max=limit("adv_position_max"),
        trade_notional_min=limit("trade_notional_min", 0.0),
        trade_weight_min=limit("trade_weight_min", 0.0),
        trade_notional_max=limit("trade_notional_max"),
        allow_short=each(lambda s: bool(s.limits.allow_short)),
        allow_flip=each(lambda s: bool(s.limits.allow_flip)),
        group_member=group(lambda one: _members(history, one), np.zeros(m)),
        group_gross_max=group(lambda one: _or(one.gross_weight_max, NO_LIMIT), NO_LIMIT),
        group_net_min=group(lambda one: _or(one.net_weight_min, -NO_LIMIT), -NO_LIMIT),
        group_net_max=group(lambda one: _or(one.net_weight_max, NO_LIMIT), NO_LIMIT),
        row_coefficient=row(lambda one: one[0], np.zeros(m)),
        row_bound=row(lambda one: one[1], NO_LIMIT),
        cash=each(lambda s: s.cash),
        lot_size=each(lambda s: s.lot_size),
        rebalance=np.array([setting.rebalance_sessions for setting in settings]),
        commission_fixed=cost("commission_fixed"),
        commission_rate=cost("commission_rate"),
        slippage_rate=cost("slippage_rate"),
        credit_rate=cost("credit_rate"),
        debit_rate=cost("debit_rate"),
        borrow_rate=cost("borrow_rate"),
        days_per_year=cost("days_per_year"),
    )
    return Bounds(**columns)


def _instrument_bounds(history: PriceHistory, settings: Sequence[Setting], name: str) -> Floats:
    """A bound on single instruments, the general one and tighter ones of their own, (S, m)."""
    place = {instrument: i for i, instrument in enumerate(history.instrument_ids)}
    out = np.full((len(settings), len(place)), NO_LIMIT)
    for row, setting in zip(out, settings, strict=True):
        row[:] = _or(getattr(setting.limits, name, None), NO_LIMIT)
        for instrument, own in setting.limits.instruments.items():
            if instrument in place:
                row[place[instrument]] = min(
                    row[place[instrument]], _or(getattr(own, name), NO_LIMIT)
                )
        if name == "weight_max":
            row[[place[item] for item in setting.limits.restricted if item in place]] = 0.0
    return out


def book_rows(setting: Setting, history: PriceHistory) -> list[tuple[Floats, float]]:
    """The linear limits of a setting, losses in its stress scenarios among them: a'w <= b each.

    Nothing spreads by a covariance here: `honoured.refused` names what would.
    """
    ids = history.instrument_ids
    limits = with_stress(setting.limits, setting.stress, ids, NO_DATA)
    found = []
    for limit in limits.joint.linear:
        row = np.array([limit.coefficients.get(name, 0.0) for name in ids])
        if limit.upper is not None:
            found.append((row, limit.upper))
        if limit.lower is not None:
            found.append((-row, -limit.lower))
    return found


def _members(history: PriceHistory, group: GroupLimit) -> Floats:
    if group.sector:
        return np.array([float(sector == group.sector) for sector in history.sector])
    return np.array([float(name in group.instrument_ids) for name in history.instrument_ids])
