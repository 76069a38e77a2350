"""Market snapshots: checked on arrival, turned into arrays when they are used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from positionsizing.v1 import market_service_pb2 as pb

from compute.market import Floats, Market, MissingInputError
from compute.money.contracts import Contracts
from compute.money.currency import Rate, contradictions, to_base
from server.calls.errors import FieldViolation
from server.convert.bars import BAR_COLUMNS, bar_violations
from server.convert.columns import floats, optional_floats
from server.convert.contracts import contract_violations, contracts_of, may_be_negative
from server.convert.currencies import CURRENCIES, currency_violations
from server.convert.names import id_violations, text_violations
from server.convert.ranges import number_violations

INSTRUMENTS_MAX = 100_000
RATES_MAX = 1000
PRICE_MIN = 1e-12
ID_LENGTH_MAX = 128

# Columns of a snapshot that may be empty.
_COLUMNS = (
    "volatility",
    "average_daily_volume",
    "spread",
    "lot_size",
    "stop_price",
    "currency",
    "sector",
    *BAR_COLUMNS,
)


def snapshot_violations(snapshot: pb.MarketSnapshot, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a snapshot, by field path below `path`."""
    yield from id_violations(snapshot.snapshot_id, f"{path}.snapshot_id")
    yield from universe_violations(snapshot.universe_id, f"{path}.universe_id")
    if not snapshot.HasField("as_of_time"):
        yield FieldViolation(f"{path}.as_of_time", "MISSING", "must be given")
    n = len(snapshot.instrument_ids)
    yield from instrument_violations(snapshot.instrument_ids, f"{path}.instrument_ids")
    yield from number_violations(snapshot, path)
    for name in ("price", *_COLUMNS):
        length = len(getattr(snapshot, name))
        if length != n and (length or name == "price"):
            message = f"has {length} entries for {n} instruments"
            yield FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", message)
    price = floats(snapshot.price)
    if len(price) == n:  # some futures trade at 0 and below
        for place in np.flatnonzero((price < PRICE_MIN) & ~may_be_negative(snapshot)).tolist():
            text = f"is {price[place]:g}; it must be from {PRICE_MIN:g} to 1e12"
            yield FieldViolation(f"{path}.price[{place}]", "OUT_OF_RANGE", text)
    yield from contract_violations(snapshot, path)
    yield from bar_violations(snapshot, path)
    for wrong in set(snapshot.sector):
        where = f"{path}.sector[{list(snapshot.sector).index(wrong)}]"
        yield from text_violations(wrong, where)
    for wrong in set(snapshot.currency) - CURRENCIES:
        position = list(snapshot.currency).index(wrong)
        yield from currency_violations(wrong, f"{path}.currency[{position}]")
    yield from _rate_violations(snapshot, f"{path}.exchange_rates")


def universe_violations(universe_id: str, path: str) -> Iterator[FieldViolation]:
    """The universe of a snapshot or a matrix, or the one that a portfolio is priced at."""
    if universe_id:
        yield from id_violations(universe_id, path)


def _rate_violations(snapshot: pb.MarketSnapshot, path: str) -> Iterator[FieldViolation]:
    """Exchange rates that are none, and those that contradict others."""
    if len(snapshot.exchange_rates) > RATES_MAX:
        text = f"has {len(snapshot.exchange_rates)} rates; at most {RATES_MAX} are accepted"
        yield FieldViolation(path, "TOO_MANY", text)
        return
    wrong = False
    for position, rate in enumerate(snapshot.exchange_rates):
        for name in ("from_currency", "to_currency"):
            found = list(currency_violations(getattr(rate, name), f"{path}[{position}].{name}"))
            yield from found
            wrong |= bool(found)
        wrong |= not rate.rate > 0.0  # told with all numbers
    if not wrong:
        for position, text in contradictions(rates_of(snapshot)):
            yield FieldViolation(f"{path}[{position}].rate", "CONTRADICTORY", text)


def instrument_violations(ids: Sequence[str], path: str) -> Iterator[FieldViolation]:
    """Instruments: at least one, none empty, none twice, not too many, names that can be kept."""
    if not len(ids):
        yield FieldViolation(path, "EMPTY", "needs at least one instrument")
    if len(ids) > INSTRUMENTS_MAX:
        message = f"has {len(ids)} instruments; at most {INSTRUMENTS_MAX} are accepted"
        yield FieldViolation(path, "TOO_MANY", message)
        return
    # One pass over joined text: this is on the way of every request.
    ids = tuple(ids)  # a repeated field makes a text anew each time it is read
    lengths = set(map(len, ids))
    plain = 0 not in lengths and max(lengths, default=0) <= ID_LENGTH_MAX
    if plain and "\x00" not in "".join(ids) and len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for place, name in enumerate(ids):
        if not name:
            yield FieldViolation(f"{path}[{place}]", "EMPTY", "must not be empty")
        elif "\x00" in name or len(name) > ID_LENGTH_MAX:
            text = f"is {name[:40]!r}; it must be 1 to {ID_LENGTH_MAX} characters, none of them NUL"
            yield FieldViolation(f"{path}[{place}]", "BAD_FORMAT", text)
        elif name in seen:
            yield FieldViolation(f"{path}[{place}]", "DUPLICATE", f"{name!r} is given twice")
        seen.add(name)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A stored snapshot by its name and time; `market` makes arrays of it."""

    message: pb.MarketSnapshot

    @classmethod
    def of(cls, payload: bytes) -> "Snapshot":
        """From its stored form."""
        return cls(pb.MarketSnapshot.FromString(payload))

    @property
    def snapshot_id(self) -> str:
        """Its id."""
        return self.message.snapshot_id

    @property
    def universe_id(self) -> str:
        """The universe it is of, "" for the one without a name."""
        return self.message.universe_id

    @property
    def as_of_time(self) -> datetime:
        """When its prices were true, in UTC."""
        return self.message.as_of_time.ToDatetime(tzinfo=UTC)

    @property
    def n_instruments(self) -> int:
        """How many instruments it has."""
        return len(self.message.instrument_ids)


def market(snapshot: pb.MarketSnapshot, base_currency: str) -> Market:
    """The snapshot in a base currency.

    Raises `MissingInputError` where an exchange rate is missing.
    """
    known = to_base(rates_of(snapshot), base_currency)
    rate = _rates(snapshot, known, base_currency)
    price, contracts = floats(snapshot.price) * rate, contracts_of(snapshot, rate)
    lot_size = optional_floats(snapshot.lot_size)
    stop = optional_floats(snapshot.stop_price)
    return Market(
        instrument_ids=tuple(snapshot.instrument_ids),
        price=price if contracts is None else contracts.exposure,
        lot_size=np.ones(len(rate)) if lot_size is None else lot_size,
        volatility=optional_floats(snapshot.volatility),
        average_daily_volume=optional_floats(snapshot.average_daily_volume),
        stop_price=None if stop is None else _stops(stop, rate, contracts),
        contracts=contracts,
        spread=optional_floats(snapshot.spread),
        sector=tuple(snapshot.sector),
        exchange_rate=rate,
        currency=tuple(snapshot.currency),
        rates=known,
    )


def _stops(stop: Floats, rate: Floats, contracts: Contracts | None) -> Floats:
    return stop * rate if contracts is None else contracts.stops(stop, np.arange(len(stop)))


def rates_of(snapshot: pb.MarketSnapshot) -> list[Rate]:
    """The exchange rates as given."""
    return [Rate(r.from_currency, r.to_currency, r.rate) for r in snapshot.exchange_rates]


def _rates(snapshot: pb.MarketSnapshot, known: Mapping[str, float], base: str) -> Floats:
    """Units of the base currency for one unit of each instrument's currency, (m,)."""
    missing = sorted(set(snapshot.currency) - set(known))
    if missing:
        raise MissingInputError(
            "MISSING_EXCHANGE_RATE",
            f"the market snapshot {snapshot.snapshot_id!r} has no exchange rate from "
            f"{missing[0]} to {base}, nor over one other currency",
        )
    if len(snapshot.currency) == 0:
        return np.ones(len(snapshot.instrument_ids))
    return np.array([known[currency] for currency in snapshot.currency])


SCENARIO_KINDS = (int(pb.MATRIX_KIND_SCENARIOS),)
COVARIANCE_KINDS = (int(pb.MATRIX_KIND_COVARIANCE),)
SCALABLE_KINDS = (*COVARIANCE_KINDS, int(pb.MATRIX_KIND_CORRELATION))
"""What is a covariance where there are volatilities to scale it with."""
