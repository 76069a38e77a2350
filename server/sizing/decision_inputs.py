"""What is written down of a decision so that it can be decided again, any day later.

The request itself and the market snapshot are stored elsewhere and never change. Here goes what
does change: the book, the policies in force, and what others used of shared limits. JSON keeps
doubles exactly.

A document says the version of its schema; one without is of version 0. The keys are the names of
the dataclass fields. A field that is added needs a default, which documents without it then have.
A field that is renamed, removed, or means something else needs a new `SCHEMA` and an entry in
`_UPGRADES` that rewrites older documents: decisions are replayed for years.
`tests/server/golden` replays decisions that earlier releases recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from compute.adapt.adjustment import Adjustment
from compute.adapt.regime_edges import RegimeProbabilities
from compute.algorithm import AlgorithmAnswer
from compute.learn.predicted import Prediction, StoredFeatures
from compute.limits.cluster_limits import Cluster
from compute.limits.policy import Limits, SharedLimits
from compute.limits.stress_limits import StressEvent
from compute.lot_search import LotSearch
from compute.market import Floats, Market, Positions, SharedUse
from compute.parameters import EffectiveParameters
from server.calls.errors import Refusal, precondition
from server.dataclass_json import UnknownField, from_json

SCHEMA = 1
"""Version of the documents that this release writes."""

Document = dict[str, Any]

_UPGRADES: Mapping[int, Callable[[Document], Document]] = {
    0: lambda document: document,  # version 1 only began to say its version
}
"""From each version to the next."""


@dataclass(frozen=True)
class Volatility:
    """Annual volatilities that a decision took from a model: those in force, 0 elsewhere, (m,)."""

    model_id: str
    state_version: int
    as_of_time: str
    """Of the newest snapshot that the state had seen, ISO 8601; empty before any."""
    column: Floats

    @property
    def name(self) -> str:
        """The model and the version of its state."""
        return f"{self.model_id}@{self.state_version}"


@dataclass(frozen=True)
class DecisionInputs:
    """The state a decision was computed from, over the instruments of its market."""

    market_snapshot_id: str
    base_currency: str
    positions: Positions
    limits: Limits
    """Stored limits only; the request brings its own."""
    parameters: EffectiveParameters
    reducing: bool
    shared: SharedUse | None
    spread_counts: bool = True
    """False of decisions from before half the spread was a cost."""
    fees_count: bool = True
    """False of decisions from before the fees of the market were."""
    history_sequence: int = 0
    """The last part of the stored history that edges were estimated from; 0 for none."""
    covariance_matrix_id: str = ""
    """The covariance that the parameters stand for; empty where the request names its own."""
    adjustments: tuple[Adjustment, ...] = ()
    """What made up `parameters.fraction_multiplier` and `edge_multiplier`."""
    algorithm: AlgorithmAnswer | None = None
    """What a custom algorithm answered; None where none was asked."""
    volatility: Volatility | None = None
    """Of `parameters.volatility_model`, over the lines of the request and what is held."""
    predictions: tuple[Prediction, ...] = ()
    """What models said of lines, so that a replay needs none."""
    stored_features: tuple[StoredFeatures, ...] = ()
    """What models read from their feature sets."""
    regimes: RegimeProbabilities | None = None
    """What a filter predicted for lines of REGIMES."""
    balances: Mapping[str, float] = field(default_factory=dict)
    """Cash by currency, the base among them, where there is any but the base; else empty."""
    jumped: frozenset[str] = frozenset()
    """Instruments whose price in the snapshot was not accepted (`price_jumps.py`)."""
    clusters: tuple[Cluster, ...] = ()
    """What the limits on clusters found, so that a replay finds the same."""
    stress: tuple[StressEvent, ...] = ()
    """The stress scenarios that limits name, as they were."""
    lot_search: LotSearch | None = None
    """What a search for whole lots found, so that a replay needs none."""


_FIELDS = {item.name for item in fields(DecisionInputs)} | {
    *(item.name for item in fields(Positions)),
    "is_lost",
}
"""What a document may have; the positions stand in it one by one."""


def market_of(context: DecisionInputs, prices: Market) -> Market:
    """The market as the decision took it, from the stored one."""
    if not context.spread_counts:
        prices = replace(prices, spread=None)
    if context.volatility is not None:
        own = context.volatility.column
        given = np.zeros(len(own)) if prices.volatility is None else prices.volatility
        prices = replace(prices, volatility=np.where(own > 0.0, own, given))
    return prices


def encode(context: DecisionInputs) -> bytes:
    """The stored form of a context."""
    positions = context.positions
    document: Document = {
        "schema": SCHEMA,
        "market_snapshot_id": context.market_snapshot_id,
        "base_currency": context.base_currency,
        "cash": positions.cash,
        "cash_reserved": positions.cash_reserved,
        "gains": positions.gains,
        "held": _sparse(positions.held),
        "open_buy": _sparse(positions.open_buy),
        "open_sell": _sparse(positions.open_sell),
        "limits": context.limits,
        "parameters": context.parameters,
        "reducing": context.reducing,
        "covariance_matrix_id": context.covariance_matrix_id,
        "spread_counts": context.spread_counts,
        "fees_count": context.fees_count,
        "history_sequence": context.history_sequence,
        "adjustments": context.adjustments,
        "predictions": context.predictions,
    }
    if context.balances:
        document["balances"] = context.balances
    if context.stored_features:
        document["stored_features"] = context.stored_features
    if context.regimes is not None:
        document["regimes"] = context.regimes
    if context.jumped:
        document["jumped"] = context.jumped
    if context.clusters:
        document["clusters"] = context.clusters
    if context.stress:
        document["stress"] = context.stress
    if context.lot_search is not None:
        document["lot_search"] = context.lot_search
    if context.algorithm is not None:
        document["algorithm"] = context.algorithm
    if context.volatility is not None:
        document["volatility"] = {
            **vars(context.volatility),
            "column": _sparse(context.volatility.column),
        }
    if context.shared is not None:
        document["shared"] = {
            "limits": context.shared.limits,
            "gross_notional": context.shared.gross_notional,
            "instrument_notional": _sparse(context.shared.instrument_notional),
        }
    return orjson.dumps(document, default=sorted, option=orjson.OPT_SERIALIZE_NUMPY)


def decode(data: bytes, prices: Market) -> DecisionInputs:
    """A context from its stored form; `prices` is the market it names.

    Raises `Refusal` where a newer release wrote it.
    """
    try:
        return _decoded(_document(data), prices)
    except UnknownField as error:
        raise _newer(str(error)) from error


def _decoded(document: Document, prices: Market) -> DecisionInputs:
    n = len(prices.price)
    shared, volatility = document.get("shared"), document.get("volatility")
    return DecisionInputs(
        market_snapshot_id=document["market_snapshot_id"],
        base_currency=document["base_currency"],
        positions=Positions(
            held=_dense(document["held"], n),
            open_buy=_dense(document["open_buy"], n),
            open_sell=_dense(document["open_sell"], n),
            cash=document["cash"],
            cash_reserved=document["cash_reserved"],
            gains=document.get("gains", 0.0),
        ),
        limits=from_json(Limits, document["limits"]),
        parameters=from_json(EffectiveParameters, document["parameters"]),
        covariance_matrix_id=document.get("covariance_matrix_id", ""),
        reducing=document["reducing"],
        spread_counts=document.get("spread_counts", False),
        fees_count=document.get("fees_count", False),
        history_sequence=document.get("history_sequence", 0),
        adjustments=from_json(tuple[Adjustment, ...], document.get("adjustments", ())),
        algorithm=from_json(AlgorithmAnswer, document.get("algorithm")),
        volatility=None
        if volatility is None
        else Volatility(**{**volatility, "column": _dense(volatility["column"], n)}),
        predictions=from_json(tuple[Prediction, ...], document.get("predictions", ())),
        stored_features=from_json(tuple[StoredFeatures, ...], document.get("stored_features", ())),
        regimes=from_json(RegimeProbabilities, document.get("regimes")),
        balances=document.get("balances", {}),
        jumped=frozenset(document.get("jumped", ())),
        clusters=from_json(tuple[Cluster, ...], document.get("clusters", ())),
        stress=from_json(tuple[StressEvent, ...], document.get("stress", ())),
        lot_search=from_json(LotSearch, document.get("lot_search")),
        shared=None
        if shared is None
        else SharedUse(
            from_json(SharedLimits, shared["limits"]),
            shared["gross_notional"],
            _dense(shared["instrument_notional"], n),
        ),
    )


def covariance_named(data: bytes) -> str:
    """The covariance that a stored context took by default; empty for none."""
    return str(_document(data).get("covariance_matrix_id", ""))


def history_named(data: bytes) -> int:
    """The last part of a stored history that a context was computed from; 0 for none."""
    return int(_document(data).get("history_sequence", 0))


def lost(market_snapshot_id: str, base_currency: str) -> bytes:
    """The context of a decision whose event is all that is left of it (`recover.py`)."""
    return orjson.dumps(
        {
            "schema": SCHEMA,
            "market_snapshot_id": market_snapshot_id,
            "base_currency": base_currency,
            "is_lost": True,
        }
    )


def check_kept(data: bytes) -> None:
    """Raises `Refusal` for the context of a decision whose inputs are lost."""
    if _document(data).get("is_lost"):
        text = (
            "the decision was entered again after the database was restored: its answer is kept, "
            "what it was computed from is not"
        )
        raise precondition("INPUTS_LOST", text)


def market_named(data: bytes) -> tuple[str, str]:
    """The market snapshot and base currency a stored context names."""
    document = _document(data)
    return document["market_snapshot_id"], document["base_currency"]


def _document(data: bytes) -> Document:
    """The document in the schema of this release."""
    document: Document = orjson.loads(data)
    version = document.pop("schema", 0)
    if version > SCHEMA:
        raise _newer(f"schema version {version}")
    for step in range(version, SCHEMA):
        document = _UPGRADES[step](document)
    if unknown := document.keys() - _FIELDS:
        raise _newer(min(unknown))
    return document


def _newer(what: str) -> Refusal:
    text = f"the decision was recorded with {what}, which this release doesn't know"
    return precondition("RECORDED_BY_NEWER_RELEASE", f"{text}: replay it with a newer one")


def _sparse(column: Floats) -> list[NDArray[Any]]:
    places = np.flatnonzero(column)
    return [places, column[places]]


def _dense(sparse: Sequence[Sequence[float]], size: int) -> Floats:
    out = np.zeros(size)
    out[np.array(sparse[0], dtype=np.int64)] = sparse[1]
    return out
