"""A risk report from books, a history and a covariance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import risk_service_pb2 as pb

from compute.correlation.shrinkage import ledoit_wolf
from compute.history import Gaps, HistoryGapError, Table, sample
from compute.risk.contributions import effective_rank
from compute.risk.liquidation import DAYS_MAX, Liquidation, days_to_sell, liquidation
from compute.risk.pooling import InfeasibleViewError, Pooled, View, pooled
from compute.risk.report import Scenarios, book_risk
from server.calls.errors import invalid, precondition
from server.convert import risk as convert
from server.convert.columns import Floats, Integers
from server.convert.history import moment_of
from server.convert.matrix import MatrixData
from server.portfolios.books import Books
from server.risk.histories import Read

_MEAN = pb.RISK_VIEW_MEASURE_MEAN


@dataclass(frozen=True)
class Basis:
    """What a report rests on.

    returns (K, n) of the books' instruments; covariance (m, m) of `instrument_ids`, of which
    `place` (n,) are those of the books.
    """

    returns: Floats
    pooled: Pooled
    times: Integers
    instrument_ids: tuple[str, ...]
    covariance: Floats
    place: Integers

    @property
    def book_covariance(self) -> Floats:
        """Of the books' instruments, (n, n)."""
        return self.covariance[np.ix_(self.place, self.place)]


def basis_of(
    history: Read,
    names: tuple[str, ...],
    gaps: Gaps,
    covariance: MatrixData | None,
    views: Sequence[pb.RiskView],
) -> Basis:
    """Raises `Refusal`: an instrument without history, gaps, or views that can't hold."""
    column = {name: i for i, name in enumerate(history.table.instrument_ids)}
    for name in names:
        if name not in column:
            text = f"{name!r} is in the book, but not in the history of the universe"
            raise precondition("MISSING_HISTORY", text, instrument_id=name)
    # Without a stored covariance shocks spread over the universe; gaps outside the book don't
    # matter then unless some are there, in which case only the book's instruments are used.
    whole = tuple(history.table.instrument_ids) if covariance is None else names
    try:
        returns, times = _returns(history, whole, gaps)
    except HistoryGapError:
        whole = names
        try:
            returns, times = _returns(history, names, gaps)
        except HistoryGapError as error:
            raise precondition("HISTORY_GAPS", str(error)) from error
    pooled = _viewed(dict(zip(whole, returns.T, strict=True)), views)
    if covariance is None:
        values, _ = ledoit_wolf(returns, pooled.probability if views else None)
        ids = whole
    else:
        values, ids = covariance.values, covariance.instrument_ids
        if missing := sorted(set(names) - set(ids)):
            text = f"has no {missing[0]!r}, which is in the book"
            raise invalid("covariance_matrix_id", "UNKNOWN_INSTRUMENT", text)
    place = {name: i for i, name in enumerate(ids)}
    own = returns[:, [whole.index(name) for name in names]]
    return Basis(
        returns=own,
        pooled=pooled,
        times=times,
        instrument_ids=ids,
        covariance=values,
        place=np.array([place[name] for name in names], dtype=np.int64),
    )


def _returns(history: Read, names: tuple[str, ...], gaps: Gaps) -> tuple[Floats, Integers]:
    column = {name: i for i, name in enumerate(history.table.instrument_ids)}
    values = history.table.values[:, [column[name] for name in names]]
    table = Table(names, history.table.times, values)
    return sample(table, is_prices=history.is_prices, gaps=gaps)


def _viewed(returns: dict[str, Floats], views: Sequence[pb.RiskView]) -> Pooled:
    """Probabilities of the periods under the views."""
    count = len(next(iter(returns.values())))
    prior = np.full(count, 1.0 / count)
    rows = []
    for place, view in enumerate(views):
        if view.instrument_id not in returns:
            text = f"{view.instrument_id!r} is not in the history, or has gaps there"
            raise invalid(f"views[{place}].instrument_id", "UNKNOWN_INSTRUMENT", text)
        values = returns[view.instrument_id]
        low = view.lower_bound if view.HasField("lower_bound") else -np.inf
        high = view.upper_bound if view.HasField("upper_bound") else np.inf
        if view.measure == _MEAN:
            rows.append(View(values, low, high))
        else:
            least = max(low, 0.0) ** 2 if np.isfinite(low) else -np.inf
            most = high * abs(high) if np.isfinite(high) else np.inf
            rows.append(View(values**2, least, most))
    try:
        return pooled(prior, rows)
    except InfeasibleViewError as error:
        raise precondition("INFEASIBLE_VIEWS", f"views[{error.view}] {error}") from error


def reported(request: pb.ReportRiskRequest, both: Books, basis: Basis) -> pb.ReportRiskResponse:
    """The report, stress losses left to be added."""
    level = request.level if request.HasField("level") else convert.LEVEL_DEFAULT
    distance = convert.DISTANCE_DEFAULT
    if request.HasField("ellipsoid_distance"):
        distance = request.ellipsoid_distance
    reverse = convert.REVERSE_DEFAULT
    if request.HasField("reverse_loss"):
        reverse = request.reverse_loss
    response = pb.ReportRiskResponse(
        instrument_ids=both.instrument_ids,
        period_count=len(basis.returns),
        level=level,
        effective_share=basis.pooled.effective_share,
        equity=both.equity,
    )
    response.as_of_time.FromDatetime(moment_of(int(basis.times[-1])))
    scenarios = Scenarios(basis.returns, basis.pooled.probability)
    covariance, choices = basis.book_covariance, convert.choices_of(request)
    rank = effective_rank(covariance)
    if not np.isnan(rank):
        response.effective_rank = rank
    for weights, out in ((both.before, response.before), (both.after, response.after)):
        if weights is not None:
            out.SetInParent()
            risk = book_risk(weights, covariance, level, scenarios, choices)
            convert.fill_book(out, weights, risk, covariance, distance, reverse)
            if request.HasField("participation_rate"):
                rate = request.participation_rate
                found = _liquidation(both, weights, covariance, rate, level)
                convert.fill_liquidation(out, found)
    return response


def _liquidation(
    both: Books, weights: Floats, covariance: Floats, rate: float, level: float
) -> Liquidation:
    """Raises `Refusal` where a position has no volume to be sold into."""
    if both.daily_volume is None or both.spread is None:
        text = "participation_rate needs the column average_daily_volume in the market snapshot"
        raise precondition("MISSING_AVERAGE_DAILY_VOLUME", text)
    daily = rate * both.daily_volume
    days = days_to_sell(weights, daily)
    if (worst := int(np.argmax(days))) < len(days) and days[worst] > DAYS_MAX:
        name = both.instrument_ids[worst]
        text = f"{name!r} takes more than {DAYS_MAX} days to sell at this participation_rate"
        raise precondition("MISSING_AVERAGE_DAILY_VOLUME", text, instrument_id=name)
    return liquidation(weights, covariance, daily, both.spread, level)
