"""Risk reports, stress scenarios and backtests between the contract and the domain."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from positionsizing.v1 import risk_service_pb2 as pb

from compute.limits.stress_limits import Others, StressEvent
from compute.risk.liquidation import Liquidation
from compute.risk.report import BookRisk, Choices
from compute.risk.scenarios import reverse_stress, worst_in_ellipsoid
from compute.risk.tail_method import TailMethod
from server.calls.errors import FieldViolation
from server.convert.columns import Floats, floats, set_floats
from server.convert.market import instrument_violations
from server.convert.names import id_violations, text_violations

WEIGHT_MAX = 1e6
LEVEL_DEFAULT, DISTANCE_DEFAULT, REVERSE_DEFAULT, BETTING_DEFAULT = 0.99, 3.0, 0.1, 0.01
_RANGES = {
    "level": (0.5, 0.9999),
    "ellipsoid_distance": (0.1, 100.0),
    "reverse_loss": (1e-6, 10.0),
    "participation_rate": (1e-6, 1.0),
    "tail_fraction": (1e-3, 0.5),
    "student_degrees": (2.1, 1000.0),
    "spectral_aversion": (0.1, 1000.0),
    "betting_fraction": (1e-4, 0.5),
    "null_degrees": (2.1, 1000.0),
}


def range_violations(message: object, names: Sequence[str]) -> Iterator[FieldViolation]:
    """Optional numbers outside what the contract says."""
    for name in names:
        low, high = _RANGES[name]
        value = getattr(message, name)
        if message.HasField(name) and not low <= value <= high:  # type: ignore[attr-defined]
            text = f"is {value:g}; it must be from {low:g} to {high:g}"
            yield FieldViolation(name, "OUT_OF_RANGE", text)


def book_violations(book: pb.BookWeights, path: str) -> Iterator[FieldViolation]:
    """What is wrong with the weights of a book."""
    yield from instrument_violations(book.instrument_ids, f"{path}.instrument_ids")
    yield from _column(book.weights, len(book.instrument_ids), f"{path}.weights", WEIGHT_MAX)


def _column(column: Sequence[float], n: int, path: str, high: float) -> Iterator[FieldViolation]:
    if len(column) != n:
        yield FieldViolation(path, "LENGTH_MISMATCH", f"has {len(column)} entries for {n}")
        return
    values = floats(column)
    for place in np.flatnonzero(~(np.abs(values) <= high))[:10]:
        finite = math.isfinite(values[place])
        text = f"is {values[place]:g}; it must be from {-high:g} to {high:g}"
        yield FieldViolation(f"{path}[{place}]", "OUT_OF_RANGE" if finite else "NOT_FINITE", text)


def scenario_violations(scenario: pb.StressScenario, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a stress scenario but its numbers."""
    yield from id_violations(scenario.scenario_id, f"{path}.scenario_id")
    yield from text_violations(scenario.description, f"{path}.description")
    match scenario.WhichOneof("event"):
        case "shock":
            names = scenario.shock.instrument_ids
            yield from instrument_violations(names, f"{path}.shock.instrument_ids")
            returns = scenario.shock.returns
            if len(returns) != len(names):
                text = f"has {len(returns)} entries for {len(names)} instruments"
                yield FieldViolation(f"{path}.shock.returns", "LENGTH_MISMATCH", text)
        case "window":
            window = scenario.window
            yield from id_violations(window.universe_id, f"{path}.window.universe_id")
            for name in ("start_time", "end_time"):
                if not window.HasField(name):
                    yield FieldViolation(f"{path}.window.{name}", "MISSING", "must be given")
        case _:
            yield FieldViolation(f"{path}.shock", "MISSING", "a shock or a window must be given")


def shock_event(scenario_id: str, version: int, shock: pb.ShockEvent) -> StressEvent:
    """The domain's scenario of shocks by instrument; the message has been checked."""
    others = Others.SPREAD if shock.spread_by_covariance else Others.STAY
    given = tuple(floats(shock.returns).tolist())
    return StressEvent(scenario_id, version, others, tuple(shock.instrument_ids), given)


def view_violations(views: Sequence[pb.RiskView], path: str) -> Iterator[FieldViolation]:
    """What is wrong with views."""
    for place, view in enumerate(views):
        where = f"{path}[{place}]"
        if not view.instrument_id:
            yield FieldViolation(f"{where}.instrument_id", "MISSING", "must be given")
        if not view.measure or view.measure not in pb.RiskViewMeasure.values():
            yield FieldViolation(f"{where}.measure", "MISSING", "must be given")
        given = [n for n in ("lower_bound", "upper_bound") if view.HasField(n)]
        if not given:
            yield FieldViolation(f"{where}.lower_bound", "MISSING", "a bound must be given")
        for name in given:
            if not -1.0 <= getattr(view, name) <= 1e9:
                text = f"is {getattr(view, name):g}; it must be from -1 to 1e9"
                yield FieldViolation(f"{where}.{name}", "OUT_OF_RANGE", text)
        if len(given) == 2 and view.lower_bound > view.upper_bound:
            yield FieldViolation(f"{where}.lower_bound", "OUT_OF_RANGE", "is above the upper bound")


def recorded_violations(recorded: pb.RecordedForecasts, path: str) -> Iterator[FieldViolation]:
    """What is wrong with recorded forecasts."""
    n = len(recorded.losses)
    if n < 2:
        yield FieldViolation(f"{path}.losses", "TOO_FEW", f"has {n} entries; at least 2 are needed")
        return
    yield from _column(recorded.losses, n, f"{path}.losses", 1e9)
    yield from _column(recorded.value_at_risk, n, f"{path}.value_at_risk", 1e9)
    if len(recorded.expected_shortfall) == 0:
        return
    wrong = list(_column(recorded.expected_shortfall, n, f"{path}.expected_shortfall", 1e9))
    yield from wrong
    if not wrong and len(recorded.value_at_risk) == n:
        es, var = floats(recorded.expected_shortfall), floats(recorded.value_at_risk)
        for place in np.flatnonzero(~((es > var) & (es > 0)))[:10]:
            text = "must be above 0 and above the value at risk"
            where = f"{path}.expected_shortfall[{place}]"
            yield FieldViolation(where, "OUT_OF_RANGE", text)


def choices_of(request: pb.ReportRiskRequest) -> Choices:
    """What the request chooses of the measures, the rest by default."""
    fields = {
        "tail_fraction": "tail_fraction",
        "degrees": "student_degrees",
        "aversion": "spectral_aversion",
    }
    given = {to: getattr(request, name) for to, name in fields.items() if request.HasField(name)}  # type: ignore[arg-type]
    return Choices(**given)


def fill_book(
    out: pb.BookRisk,
    weights: Floats,
    risk: BookRisk,
    covariance: Floats,
    distance: float,
    reverse_loss: float,
) -> None:
    """Puts the risk of a book into a message; numbers that don't exist stay unset."""
    set_floats(out, "weights", weights)
    out.volatility = risk.volatility
    for method in TailMethod:
        row = pb.TailRisk(method=pb.TailMethod.ValueType(method))
        if method in risk.tails:
            row.value_at_risk = risk.tails[method].value_at_risk
            row.expected_shortfall = risk.tails[method].expected_shortfall
        row.refused = risk.refused.get(method, "")
        if method in risk.tails or row.refused:
            out.tails.append(row)
    for name, value in (
        ("entropic_value_at_risk", risk.entropic),
        ("entropic_value_at_risk_normal", risk.entropic_normal),
        ("max_drawdown", risk.max_drawdown),
        ("conditional_drawdown", risk.conditional_drawdown),
        ("spectral_risk", risk.spectral),
        ("skewness", risk.skewness),
        ("excess_kurtosis", risk.kurtosis),
        ("student_degrees", risk.degrees),
        ("diversification_ratio", risk.diversification),
        ("effective_bets_variance", risk.bets_variance),
        ("effective_bets_principal", risk.bets_principal),
        ("effective_bets_torsion", risk.bets_torsion),
    ):
        if not math.isnan(value):
            setattr(out, name, value)
    for kind, parts in (("normal", risk.normal), ("historical", risk.historical)):
        if parts is not None:
            set_floats(out, f"component_{kind}", parts.component)
            set_floats(out, f"marginal_{kind}", parts.marginal)
    if risk.pareto is not None:
        for field in pb.ParetoDiagnostics.DESCRIPTOR.fields:
            setattr(out.pareto, field.name, getattr(risk.pareto, field.name))
    worst = worst_in_ellipsoid(weights, covariance, distance)
    out.worst_case_loss = worst.loss
    set_floats(out, "worst_case_returns", worst.shocks)
    if risk.volatility > 0.0:
        back = reverse_stress(weights, covariance, reverse_loss)
        set_floats(out, "reverse_returns", back.shocks)
        out.reverse_distance, out.reverse_probability = back.distance, back.probability


def fill_liquidation(out: pb.BookRisk, found: Liquidation) -> None:
    """Puts the risk of leaving a book into a message."""
    out.liquidation.days.extend(found.days.tolist())
    out.liquidation.value_at_risk = found.value_at_risk
    out.liquidation.expected_shortfall = found.expected_shortfall
    out.liquidation.spread_cost = found.spread_cost
