"""Whether every limit that an answer names is one that somebody set."""

from collections.abc import Iterable

from positionsizing.v1 import limits_pb2, sizing_pb2, types_pb2

# What stands behind nobody's number: capital, trading state, equity, permissions, lots.
_ALWAYS = {"UNSPECIFIED", "CASH", "REDUCING_ONLY", "NO_EQUITY", "LOT_SIZE"}
_FIELDS = (
    "weight_max",
    "notional_max",
    "leverage_max",
    "gross_notional_max",
    "turnover_max",
    "trade_notional_max",
    "trade_notional_min",
    "trade_weight_min",
    "positions_max",
)
_JOINT = ("volatility_max", "var_max", "cvar_max", "cdar_max")


def stated(limits: limits_pb2.Limits) -> dict[str, set[float]]:
    """The kinds of limits that may be named, with their bounds; empty where any bound will do."""
    out: dict[str, set[float]] = {name: set() for name in _ALWAYS}
    for name in _FIELDS:
        if limits.HasField(name):  # type: ignore[arg-type]
            out[name.upper()] = {float(getattr(limits, name))}
    for end in ("MIN", "MAX"):
        if limits.HasField(f"net_weight_{end.lower()}"):  # type: ignore[arg-type]
            out[f"NET_{end}"] = {getattr(limits, f"net_weight_{end.lower()}")}
    for name in _JOINT:
        if limits.joint.HasField(name):  # type: ignore[arg-type]
            out[name.upper()] = {getattr(limits.joint, name)}
    if limits.joint.linear:
        ends = [(row.lower, row.upper) for row in limits.joint.linear]
        out["LINEAR"] = {bound for pair in ends for bound in pair}
    if limits.groups:
        out["GROUP_GROSS_MAX"] = {group.gross_weight_max for group in limits.groups}
    if not limits.allow_short:
        out["SHORT_NOT_ALLOWED"] = set()
    if not limits.allow_flip:
        out["FLIP_NOT_ALLOWED"] = set()
    return out


def _name(kind: types_pb2.LimitKind.ValueType) -> str:
    return types_pb2.LimitKind.Name(kind).removeprefix("LIMIT_KIND_")


def invented(decision: sizing_pb2.SizingDecision, limits: limits_pb2.Limits) -> list[str]:
    """Limits that bind lines, or have prices, and that nobody set; with another bound, too."""
    allowed, sizes, out = stated(limits), decision.sizes, []
    for kind, bound in zip(sizes.binding, sizes.binding_bound, strict=True):
        known = allowed.get(_name(kind))
        if known is None or (known and not any(abs(bound - b) <= 1e-9 * abs(b) for b in known)):
            out.append(f"bound by {_name(kind)} at {bound}")
        elif kind == types_pb2.LIMIT_KIND_CASH and not 0.0 <= bound <= decision.summary.equity:
            out.append(f"cash of {bound}")
        elif bound > 1e18:
            out.append(f"{_name(kind)} at {bound}")
    return out + invented_prices(decision.certificate.shadow_prices, allowed)


def invented_prices(prices: Iterable[sizing_pb2.ShadowPrice], allowed: Iterable[str]) -> list[str]:
    """Shadow prices of limits that nobody set."""
    names = set(allowed)
    return [
        f"price of {price.limit} ({_name(price.kind)}) at {price.bound}"
        for price in prices
        if _name(price.kind) not in names or abs(price.bound) > 1e15
    ]
