"""Columns of a market snapshot that say what a unit is: checked, and turned into `Contracts`."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from positionsizing.v1 import market_service_pb2 as pb

from compute.money.contracts import ContractKind, Contracts, contracts
from server.calls.errors import FieldViolation
from server.convert.columns import Floats, floats, optional_floats

_COLUMNS = (
    "multiplier",
    "margin_rate_long",
    "margin_rate_short",
    "initial_margin_long",
    "initial_margin_short",
    "underlying_price",
    "delta",
    "quantity_min",
    "notional_min",
    "quantity_max",
    "fee_rate",
    "fee_per_unit",
    "fee_fixed",
    "fee_min",
)
_NAMES = (*_COLUMNS, "contract_kind", "halted")


def has_contracts(snapshot: pb.MarketSnapshot) -> bool:
    """Whether a snapshot says more of its instruments than their price."""
    return any(len(getattr(snapshot, name)) for name in _NAMES)


def contract_violations(snapshot: pb.MarketSnapshot, path: str) -> Iterator[FieldViolation]:
    """What is wrong with these columns but their numbers, by field path below `path`."""
    n = len(snapshot.instrument_ids)
    for name in _NAMES:
        column = getattr(snapshot, name)
        if len(column) not in (0, n):
            text = f"has {len(column)} entries for {n} instruments"
            yield FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", text)
    for place, kind in enumerate(snapshot.contract_kind):
        if kind not in pb.ContractKind.values():
            where = f"{path}.contract_kind[{place}]"
            yield FieldViolation(where, "UNKNOWN_VALUE", f"is {kind}; it is no kind of contract")
    if len(snapshot.delta) and not len(snapshot.underlying_price):
        text = "must be given with delta"
        yield FieldViolation(f"{path}.underlying_price", "MISSING", text)


def may_be_negative(snapshot: pb.MarketSnapshot) -> NDArray[np.bool_]:
    """Whether the price of each instrument may be 0 or below: futures with margin by amount."""
    n = len(snapshot.instrument_ids)
    columns = (snapshot.contract_kind, snapshot.initial_margin_long, snapshot.initial_margin_short)
    if any(len(column) != n for column in columns):
        return np.zeros(n, dtype=bool)
    is_future = np.array(snapshot.contract_kind[:]) == ContractKind.FUTURE
    allowed: NDArray[np.bool_] = (
        is_future
        & (floats(snapshot.initial_margin_long) > 0)
        & (floats(snapshot.initial_margin_short) > 0)
    )
    return allowed


def contracts_of(snapshot: pb.MarketSnapshot, rate: Floats) -> Contracts | None:
    """The contracts at rates into the base currency; None where all are cash instruments."""
    if not has_contracts(snapshot):
        return None
    columns = {name: optional_floats(getattr(snapshot, name)) for name in _COLUMNS}
    for name in ("contract_kind", "halted"):
        column = getattr(snapshot, name)
        columns[name] = np.array(column[:], dtype=np.float64) if len(column) else None
    return contracts(floats(snapshot.price), rate, columns)
