"""What a variation multiplies, instrument by instrument."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.market import Floats, Market
from server.calls.errors import FieldViolation


@dataclass(frozen=True)
class Multipliers:
    """price: by instrument of the market, (m,). edge, volatility: by line, (n,)."""

    price: Floats
    edge: Floats
    volatility: Floats


def multipliers(variation: pb.Variation, ids: Sequence[str], market: Market) -> Multipliers:
    """Those of every line and price times those of single instruments."""
    price = np.full(len(market.instrument_ids), _given(variation, "price_multiplier"))
    edge, volatility = (
        np.full(len(ids), _given(variation, name))
        for name in ("edge_multiplier", "volatility_multiplier")
    )
    names = np.array(ids, dtype=object)
    for shock in variation.shocks:
        if (place := market.index.get(shock.instrument_id)) is not None:
            price[place] *= _given(shock, "price_multiplier")
        lines = names == shock.instrument_id
        edge[lines] *= _given(shock, "edge_multiplier")
        volatility[lines] *= _given(shock, "volatility_multiplier")
    return Multipliers(price, edge, volatility)


def shock_violations(
    variations: Sequence[pb.Variation], market: Market
) -> Iterator[FieldViolation]:
    """Shocks of instruments that the snapshot doesn't have, or that are given twice."""
    known = market.index if market.whole is None else market.whole[0].index
    for position, variation in enumerate(variations):
        seen: set[str] = set()
        for place, shock in enumerate(variation.shocks):
            path = f"variations[{position}].shocks[{place}].instrument_id"
            name = shock.instrument_id
            if name in seen:
                yield FieldViolation(path, "DUPLICATE", f"{name!r} is given twice")
            elif name not in known:
                text = f"{name!r} is not in the market snapshot"
                yield FieldViolation(path, "UNKNOWN_INSTRUMENT", text)
            seen.add(name)


def _given(message: pb.Variation | pb.InstrumentShock, name: str) -> float:
    return float(getattr(message, name)) if message.HasField(name) else 1.0  # type: ignore[arg-type]
