"""Instruments that leave a history, between the contract and the domain."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.simulate.delisting import Delisting, WrongDelisting, ended, wrong_delistings
from compute.simulate.history import PriceHistory
from server.calls.errors import FieldViolation, invalid_fields

Request = pb.RunBacktestRequest | pb.TuneParametersRequest


def with_delistings(history: PriceHistory, request: Request, universe: str = "") -> PriceHistory:
    """The history with the delistings of the request, and its default where prices end.

    universe: the field that names it, where the prices are of a stored one. Raises `Refusal`, also
    for prices that end without a word.
    """
    if found := list(_unknown(request.delistings, history)):
        raise invalid_fields(found)
    given = [_delisting(item, history) for item in request.delistings]
    wrong = wrong_delistings(given, history.close, history.dates, history.instrument_ids)
    if found := [_violation(item) for item in wrong]:
        raise invalid_fields(found)
    named = {item.instrument for item in given}
    silent = [pair for pair in ended(history.close) if pair[0] not in named]
    if silent and not request.HasField("delisting_return"):
        raise invalid_fields(list(_silent(silent, history, universe)))
    for instrument, session in silent:
        price = history.last_close[session, instrument] * (1.0 + request.delisting_return)
        given.append(Delisting(session, instrument, float(price), is_default=True))
    return replace(history, delistings=tuple(given)) if given else history


def applied(history: PriceHistory) -> Iterator[pb.AppliedDelisting]:
    """What a history has come to by `with_delistings`, in time."""
    for item in sorted(history.delistings, key=lambda item: (item.session, item.instrument)):
        yield pb.AppliedDelisting(
            instrument_id=history.instrument_ids[item.instrument],
            date=history.dates[item.session],
            price=item.price,
            is_default=item.is_default,
        )


def _unknown(delistings: Iterable[pb.Delisting], history: PriceHistory) -> Iterator[FieldViolation]:
    names, days = set(history.instrument_ids), set(history.dates)
    for place, item in enumerate(delistings):
        path = f"delistings[{place}]"
        if item.instrument_id not in names:
            text = f"{item.instrument_id[:60]!r} is not in the history"
            yield FieldViolation(f"{path}.instrument_id", "UNKNOWN_INSTRUMENT", text)
        if item.date not in days:
            text = f"{item.date[:40]!r} is no session of the history"
            yield FieldViolation(f"{path}.date", "UNKNOWN_DATE", text)
        if item.WhichOneof("value") is None:
            yield FieldViolation(f"{path}.price", "MISSING", "give price or delisting_return")


def _delisting(item: pb.Delisting, history: PriceHistory) -> Delisting:
    session = history.dates.index(item.date)
    instrument = history.instrument_ids.index(item.instrument_id)
    price = item.price
    if item.WhichOneof("value") == "delisting_return":
        last = np.nan_to_num(history.last_close[session, instrument])  # without one it is refused
        price = float(last * (1.0 + item.delisting_return))
    return Delisting(session, instrument, price)


def _violation(wrong: WrongDelisting) -> FieldViolation:
    return FieldViolation(f"delistings[{wrong.place}].{wrong.field}", wrong.reason, wrong.message)


def _silent(
    silent: Sequence[tuple[int, int]], history: PriceHistory, universe: str
) -> Iterator[FieldViolation]:
    for instrument, session in silent:
        name, last = history.instrument_ids[instrument], history.dates[session - 1]
        text = (
            f"prices of {name!r} end on {last}: say at what price a position is closed then "
            "(delistings), or a return for all such instruments (delisting_return)"
        )
        place = session * len(history.instrument_ids) + instrument
        yield FieldViolation(universe or f"prices.close[{place}]", "PRICES_END", text)
