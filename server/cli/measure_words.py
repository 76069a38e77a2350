"""Measures of performance in words: each with its convention, and why it is not defined."""

from dataclasses import dataclass
from typing import Any

from positionsizing.v1 import simulation_service_pb2 as pb

REASONS = {"NO_SESSION": "no session", "FIRST_SESSION": "first session", "RUINED": "ruined"}
"""Why months and years have no return."""


@dataclass(frozen=True)
class Measure:
    """A field of `PerformanceMeasures`: how it is written, and why it is unset where it is."""

    field: str
    label: str
    convention: str
    undefined: str
    form: str = ".2f"


_RETURN, _RUIN, _FLAT = ".2%", "ruined", "returns don't vary"
MEASURES = (
    Measure("total_return", "total return", "prod(1 + r) - 1", "no returns", _RETURN),
    Measure("cagr", "growth a year", "(1 + total)^(sessions a year / n) - 1", _RUIN, _RETURN),
    Measure("log_growth", "log growth a year", "mean log(1 + r), a year", _RUIN, _RETURN),
    Measure("volatility", "volatility", "sd(r), n - 1, a year", "one return or none", _RETURN),
    Measure("sharpe", "Sharpe ratio", "mean(r - rf) / sd(r - rf), n - 1, a year", _FLAT),
    Measure("sharpe_error", "its standard error", "Mertens 2002, a year", _FLAT),
    Measure("sharpe_probability", "P(Sharpe ratio > 0)", "Bailey, Lopez de Prado 2012", _FLAT),
    Measure("sortino", "Sortino ratio", "below rf, n in the denominator, a year", "no loss"),
    Measure("max_drawdown", "largest fall", "of the peak, the start included", "none", _RETURN),
    Measure("calmar", "Calmar ratio", "growth a year / largest fall", "no fall, or ruined"),
    Measure("ulcer", "Ulcer index", "root mean square of falls, n", "no returns", _RETURN),
    Measure("omega", "Omega", "gains / losses around 0", "no loss"),
    Measure("hit_rate", "hit rate", "part of all sessions with r > 0", "no returns", _RETURN),
)


def worded(found: pb.PerformanceMeasures, measure: Measure) -> str:
    """The value, or why there is none."""
    if not found.HasField(measure.field):  # type: ignore[arg-type]
        return f"- ({measure.undefined})"
    value: Any = getattr(found, measure.field)
    return format(value, measure.form)


def measure_row(series: str, found: pb.PerformanceMeasures, measure: Measure) -> dict[str, Any]:
    """The value as a row of a table; null with a reason where there is none."""
    is_known = found.HasField(measure.field)  # type: ignore[arg-type]
    return {
        "series": series,
        "measure": measure.field,
        "value": getattr(found, measure.field) if is_known else None,
        "undefined_reason": "" if is_known else measure.undefined,
        "convention": measure.convention,
    }
