"""Exchange rates: crosses worked out, contradictions found, minor units known, money converted.

A rate is units of one currency for one unit of another. Between two currencies the rate given
counts, else the inverse of the one given the other way round, else a cross over one other
currency, the first by its code that has both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from compute.limits.policy import InstrumentLimit, Limits, SharedLimits
from compute.limits.tightest import tightest
from compute.market import MissingInputError

TOLERANCE = 0.01
"""Relative: two ways to convert that differ by more contradict each other. Bid and ask don't."""

MINOR_UNITS = {"GBX": ("GBP", 0.01), "ILA": ("ILS", 0.01), "ZAC": ("ZAR", 0.01)}
"""Currencies that prices are quoted in and that are a part of another: pence, agorot, cents."""


def major_of(code: str) -> tuple[str, float]:
    """The currency that `code` is a part of, and which part: (GBP, 0.01) of GBX; else itself."""
    return MINOR_UNITS.get(code, (code, 1.0))


@dataclass(frozen=True)
class Rate:
    """Units of `to` for one of `source`."""

    source: str
    to: str
    rate: float


def contradictions(rates: Sequence[Rate]) -> Iterator[tuple[int, str]]:
    """Places of rates that contradict themselves or earlier ones, and why."""
    known: dict[tuple[str, str], tuple[float, int]] = {}
    worth = _Worth()
    for minor, (major, part) in MINOR_UNITS.items():
        worth.learn(Rate(minor, major, part))
    for place, item in enumerate(rates):
        pair = item.source, item.to
        if item.source == item.to:
            if item.rate != 1.0:
                yield place, f"is {item.rate:g}; one {item.source} is one {item.to}"
            continue
        if pair in known:
            yield place, f"{item.source} to {item.to} is given twice"
            continue
        known[pair] = item.rate, place
        for other, text in _other_ways(item, known):
            if abs(item.rate / other - 1.0) > TOLERANCE:
                yield place, f"is {item.rate:g}, but {text} {other:.6g}"
                break
        else:
            other = worth.learn(item)
            if abs(item.rate / other - 1.0) > TOLERANCE:
                yield place, f"is {item.rate:g}, but over the rates before it is {other:.6g}"


class _Worth:
    """Currencies in sets whose rates to each other follow from those that were told.

    Each has a leader of its set and a number of the leader's units that one of it is worth: however
    many others are between two of a set, one rate follows.
    """

    def __init__(self) -> None:
        self._in_leader: dict[str, tuple[str, float]] = {}

    def learn(self, item: Rate) -> float:
        """The rate that follows from those before; the sets of both are one afterwards."""
        leader, worth = self._in_leader.setdefault(item.source, (item.source, 1.0))
        other, of_other = self._in_leader.setdefault(item.to, (item.to, 1.0))
        if leader == other:
            return worth / of_other
        factor = worth / (item.rate * of_other)  # units of `leader` for one of `other`
        for name, (own, number) in self._in_leader.items():
            if own == other:
                self._in_leader[name] = leader, number * factor
        return item.rate


def _other_ways(
    item: Rate, known: Mapping[tuple[str, str], tuple[float, int]]
) -> Iterator[tuple[float, str]]:
    """The same rate by its inverse, by a minor unit, and over one other currency."""
    source, to = item.source, item.to
    if (inverse := known.get((to, source))) is not None:
        yield 1.0 / inverse[0], f"its inverse in exchange_rates[{inverse[1]}] makes it"
    for minor, (major, part) in MINOR_UNITS.items():
        if {source, to} == {minor, major}:
            yield part if source == minor else 1.0 / part, f"{minor} is a part of {major}:"
    given = {pair: rate for pair, (rate, _) in known.items() if pair != (source, to)}
    for middle in sorted({name for pair in given for name in pair} - {source, to}):
        first, second = _direct(given, source, middle), _direct(given, middle, to)
        if first is not None and second is not None:
            yield first * second, f"over {middle} it is"


def to_base(rates: Iterable[Rate], base: str) -> dict[str, float]:
    """Units of `base` for one unit of every currency that can be converted, `base` among them."""
    given = {(item.source, item.to): item.rate for item in rates}
    base_major, base_part = major_of(base)
    names = sorted({name for pair in given for name in pair} | {base_major})
    out = {}
    for name in names:
        found = 1.0 if name == base_major else _direct(given, name, base_major)
        if found is None:
            legs = ((_direct(given, name, m), _direct(given, m, base_major)) for m in names)
            found = next((a * b for a, b in legs if a is not None and b is not None), None)
        if found is not None:
            out[name] = found / base_part
    for minor, (major, part) in MINOR_UNITS.items():
        if minor not in out and major in out:
            out[minor] = part * out[major]
    out[base] = 1.0
    return out


def _direct(given: Mapping[tuple[str, str], float], source: str, to: str) -> float | None:
    if (source, to) in given:
        return given[source, to]
    return 1.0 / given[to, source] if (to, source) in given else None


def rate_of(rates: Mapping[str, float], currency: str, what: str) -> float:
    """The rate of a currency to the base; `what` needs it. Raises `MissingInputError`."""
    if currency not in rates:
        raise MissingInputError(
            "MISSING_EXCHANGE_RATE",
            f"{what} is in {currency}, for which the market snapshot has no exchange rate",
        )
    return rates[currency]


_MONEY = ("notional_max", "gross_notional_max", "trade_notional_min", "trade_notional_max")


def has_money(limits: Limits) -> bool:
    """Whether any bound is an amount of money."""
    return any(getattr(limits, name) is not None for name in _MONEY) or any(
        own.notional_max is not None for own in limits.instruments.values()
    )


def only_money(limits: Limits) -> Limits:
    """The bounds that are amounts of money, and their currency."""
    owned = {
        name: InstrumentLimit(notional_max=own.notional_max)
        for name, own in limits.instruments.items()
        if own.notional_max is not None
    }
    amounts = {name: getattr(limits, name) for name in _MONEY}
    return Limits(**amounts, instruments=owned, currency=limits.currency)


def without_money(limits: Limits) -> Limits:
    """The bounds that are none."""
    return replace(
        limits,
        currency=None,
        instruments={k: replace(own, notional_max=None) for k, own in limits.instruments.items()},
        notional_max=None,
        gross_notional_max=None,
        trade_notional_min=None,
        trade_notional_max=None,
    )


def in_base(limits: Limits, rates: Mapping[str, float]) -> Limits:
    """The tightest of `limits` and of those that wait in other currencies, all in the base.

    Raises `MissingInputError` where a rate is missing.
    """
    if not limits.foreign and limits.currency is None:
        return limits
    waiting = [*limits.foreign, replace(limits, foreign=())]
    return tightest(_converted(item, rates) for item in waiting)


def _converted(limits: Limits, rates: Mapping[str, float]) -> Limits:
    if limits.currency is None or not has_money(limits):
        return replace(limits, currency=None)
    rate = rate_of(rates, limits.currency, "a limit")

    def money(bound: float | None) -> float | None:
        return None if bound is None else bound * rate

    def own(item: InstrumentLimit) -> InstrumentLimit:
        return replace(item, notional_max=money(item.notional_max))

    return replace(
        limits,
        currency=None,
        instruments={name: own(item) for name, item in limits.instruments.items()},
        notional_max=money(limits.notional_max),
        gross_notional_max=money(limits.gross_notional_max),
        trade_notional_min=money(limits.trade_notional_min),
        trade_notional_max=money(limits.trade_notional_max),
    )


def shared_in_base(
    shared: SharedLimits, rates: Mapping[str, float], *, has_one_base: bool
) -> SharedLimits:
    """Shared bounds in a member's base currency. has_one_base: of all members of the group.

    Raises `MissingInputError` where a rate is missing, or nobody says which currency is meant.
    """
    if shared.currency is None:
        if not has_one_base:
            raise MissingInputError(
                "CURRENCY_NOT_NAMED",
                "the portfolios of the group have different base currencies, and its shared limits "
                "name none: set shared.currency with SetLimits",
            )
        return shared
    rate = rate_of(rates, shared.currency, "a shared limit")
    gross, instrument = shared.gross_notional_max, shared.instrument_notional_max
    return SharedLimits(
        gross_notional_max=None if gross is None else gross * rate,
        instrument_notional_max=None if instrument is None else instrument * rate,
    )
