"""Optimal books as tables and sentences."""

from collections.abc import Sequence

from positionsizing.v1 import optimization_service_pb2 as pb
from positionsizing.v1 import sizing_pb2

from server.cli.labels import enum_words, percent
from server.cli.layout import Table, bar
from server.cli.render import table

_SMALL = 5e-5  # a weight that rounds to nothing
_NAMES = 4  # instruments that are named, the largest positions of a point
_NAMED = 12  # limits of a conflict

_MEANING = {
    "log growth": "log growth {:.3e} a period",
    "quadratic growth": "quadratic growth {:.3e} a period",
    "max sharpe": "Sharpe ratio {:.4f} a period",
    "max diversification": "diversification ratio {:.4f}",
    "max return": "expected return {:.3%} a period",
    "min variance": "variance {:.3e} a period",
    "min cvar": "conditional value at risk {:.3%} a period",
    "min cdar": "conditional drawdown at risk {:.3%}",
    "min max drawdown": "maximum drawdown {:.3%}",
}
"""What the objective is worth, by its kind in words."""

_STATUS = {
    pb.OPTIMIZATION_STATUS_OPTIMAL: "optimal",
    pb.OPTIMIZATION_STATUS_UNPROVEN: "solved, but the proof misses its tolerance",
    pb.OPTIMIZATION_STATUS_INFEASIBLE: "the limits contradict each other",
    pb.OPTIMIZATION_STATUS_NONPOSITIVE_MEAN: "no book within the limits has a positive mean",
    pb.OPTIMIZATION_STATUS_UNBOUNDED: "the objective grows without end: limit the weights",
    pb.OPTIMIZATION_STATUS_VANISHING: "the smaller the book the better its ratio: ask for one",
    pb.OPTIMIZATION_STATUS_RUIN: "every book within the limits loses everything in some scenario",
    pb.OPTIMIZATION_STATUS_NOT_CONVERGED: "the solver did not converge; there are no weights",
}


def weights_table(problem: pb.OptimizationProblem, answer: pb.OptimizePortfolioResponse) -> Table:
    """One row an instrument that is held, or was."""
    held = list(problem.holdings) or [0.0] * len(answer.weights)
    bound = {price.limit: price for price in answer.certificate.shadow_prices}
    out = table(
        "Weights",
        "instrument",
        "weight",
        "trade",
        "",
        "bound by",
        left=("instrument", "", "bound by"),
        drop=("",),
    )
    scale = max(map(abs, answer.weights), default=0.0) or 1.0
    kept = 0
    for name, weight, before in zip(answer.instrument_ids, answer.weights, held, strict=True):
        if abs(weight) < _SMALL and abs(before) < _SMALL:
            continue
        kept += 1
        own = [k for k in ("upper", "lower", "trade_max") if f"{k}[{name}]" in bound]
        trade = percent(weight - before) if abs(weight - before) >= _SMALL else ""
        drawn = bar(abs(weight), scale)
        words = " and ".join(_OWN[kind] for kind in own)
        out.add_row(name, percent(weight), trade, drawn, words)
    if rest := len(answer.weights) - kept:
        out.caption = f"{rest} more are not held"
    return out


_OWN = {"upper": "its largest weight", "lower": "its smallest weight", "trade_max": "its trade"}


def prices_table(answer: pb.OptimizePortfolioResponse | sizing_pb2.SizingDecision) -> Table:
    """What binds, the dearest first, and what one more unit of it would be worth."""
    names = ("limit", "bound", "worth of one unit more")
    out = table("Limits that bind", *names, left=("limit",))
    prices = sorted(answer.certificate.shadow_prices, key=lambda p: p.price_high, reverse=True)
    dear = [price for price in prices if price.price_low > 0.0]
    if rest := len(prices) - len(dear):
        out.caption = f"{rest} more limits are just reached; looser ones would gain nothing"
    for price in dear:
        out.add_row(price.limit, f"{price.bound:,.6g}", _worth(price))
    return out


def _worth(price: sizing_pb2.ShadowPrice) -> str:
    """The price, or both ends where it is not unique: looser is worth the low one."""
    low, high = f"{price.price_low:.4g}", f"{price.price_high:.4g}"
    return high if low == high else f"{low} to {high}"


def outcome_lines(
    problem: pb.OptimizationProblem, answer: pb.OptimizePortfolioResponse
) -> list[str]:
    """How it ended: the objective and its proof, or why there is no book."""
    proof = answer.certificate
    lines = [_STATUS.get(answer.status, "unknown status")]
    if answer.weights:
        kind = enum_words(pb.ObjectiveKind, problem.objective.kind, "OBJECTIVE_KIND_")
        lines[0] += f": {_MEANING.get(kind, kind + ' {:.6g}').format(proof.objective)}"
        gross, net = sum(map(abs, answer.weights)), sum(answer.weights)
        lines.append(f"invested {percent(net)}, gross {percent(gross)}")
        lines.append(
            f"no other book within the limits is better by more than {proof.duality_gap:.1e} "
            f"({proof.duality_gap_relative:.1e} relative); {proof.iterations} iterations"
        )
    why = answer.explanation
    if why.conflict:
        lines.append(f"  in conflict: {_listed(why.members)}")
        lines += [f"  to relax: {item.limit} by {item.amount:.6g}" for item in why.relaxation]
    return lines


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def frontier_table(problem: pb.OptimizationProblem, answer: pb.TraceFrontierResponse) -> Table:
    """Return and risk of each point, the risk drawn, and its largest positions."""
    kind = enum_words(pb.ObjectiveKind, problem.objective.kind, "OBJECTIVE_KIND_")
    risk = {"min variance": "volatility"}.get(kind, kind.removeprefix("min "))
    kept = any(point.HasField("guaranteed_growth") for point in answer.points)
    out = table(
        "Efficient frontier, a period", "return", risk, "",
        *(["growth kept"] if kept else []), "largest positions",
        left=("", "largest positions"), drop=("",),
    )  # fmt: skip
    most = max((point.risk for point in answer.points), default=0.0) or 1.0
    for point in answer.points:
        pairs = sorted(
            zip(point.weights, answer.instrument_ids, strict=True), key=lambda p: -abs(p[0])
        )
        named = [f"{name} {percent(w, 1)}" for w, name in pairs[:_NAMES] if abs(w) >= _SMALL]
        out.add_row(
            percent(point.expected_return, 3),
            percent(point.risk, 3),
            bar(point.risk, most),
            *([_kept(point)] if kept else []),
            ", ".join(named),
        )
    return out


def _kept(point: pb.FrontierPoint) -> str:
    """The growth that a point keeps, empty where the formula doesn't hold."""
    return percent(point.guaranteed_growth, 3) if point.HasField("guaranteed_growth") else ""
