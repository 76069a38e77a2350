"""Regimes that a request goes by: what a stored filter predicts of the period that comes."""

import asyncpg
import numpy as np

from compute.adapt.regime_edges import RegimeProbabilities
from compute.adapt.volatility import regime_probabilities
from compute.waterfall.layout import Source
from server.calls.errors import invalid, precondition
from server.convert import volatility as convert
from server.sizing.request import SizingRequest
from storage.postgres import volatility as storage
from storage.postgres.pool import Database


async def regimes_of(
    database: Database, tenant_id: str, request: SizingRequest, deadline_s: float
) -> RegimeProbabilities | None:
    """Of the lines of REGIMES; None where there is none. Raises `Refusal`; errors: `NotFound`."""
    lines = np.flatnonzero(request.signals.source == Source.REGIMES)
    if not len(lines):
        return None
    asked = request.regimes
    if asked is None:
        text = "must name a volatility model with regimes"
        raise invalid("signals.regime_model_id", "MISSING", text)
    async with database.connection(tenant_id, deadline_s=deadline_s) as connection:
        return await _read(connection, tenant_id, request, lines.tolist())


async def _read(
    connection: asyncpg.Connection, tenant_id: str, request: SizingRequest, lines: list[int]
) -> RegimeProbabilities:
    asked = request.regimes
    assert asked is not None
    entry = await storage.entry(connection, tenant_id, asked.model_id)
    known = convert.model(convert.parse(entry.document))
    if known.regimes is None:
        text = f"volatility model {asked.model_id!r} has no regimes"
        raise precondition("WRONG_MODEL_KIND", text, model=asked.model_id)
    count = len(known.regimes.mean)
    for name in ("regime_expected_return", "regime_volatility"):
        column = getattr(request.signals, name)
        given = 0 if column is None else len(column)
        if given != count * request.n_lines:
            text = f"has {given} entries; {count} are needed for each of {request.n_lines} lines"
            raise invalid(f"signals.{name}", "LENGTH_MISMATCH", text)
    state = convert.state(entry.state)
    predicted = regime_probabilities(state, known.regimes)
    place = {name: i for i, name in enumerate(state.instrument_ids)}
    rows = []
    for line in lines:
        at = place.get(asked.instrument_id or request.instrument_ids[line], -1)
        row = predicted[:, at] if at >= 0 else np.zeros(count)
        rows.append(tuple(row.tolist()) if row.sum() > 0.0 else ())
    return RegimeProbabilities(asked.model_id, entry.state.version, tuple(lines), tuple(rows))
