"""What `plain_lots` reads, with tails and clusters; what a book is beyond, and its growth.

All from the messages of the contract.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import fsum

import numpy as np
from positionsizing.v1 import limits_pb2, sizing_pb2, types_pb2
from scipy.cluster.hierarchy import fcluster, linkage

from tests.server.limits.test_tail_limits import measured
from tests.server.support.plain_lots import ROUNDING, Reading, rows_of
from tests.server.support.plain_units import Line, Unit
from tests.server.support.wide_books import RATES, Wide

OF_A_DECISION = ("turnover", "cash")


class TraderReading(Reading):
    """The limits of a book on its lots."""

    def broken(
        self, decision: sizing_pb2.SizingDecision, signals: sizing_pb2.SignalBatch
    ) -> list[str]:
        lines = self.lines(decision)
        found = super().broken(decision, signals)
        return [*found, *self._tails(lines), *self._clusters(lines)]

    def beyond(self, lines: list[Line], *, worst: bool) -> list[str]:
        """The limits that a book is beyond, wherever it came from: nothing excuses it.

        Once all is filled, or at the worst that open orders can leave.
        """
        new = [_as_new(x, worst=worst) for x in lines]
        found: list[str] = []
        for limits in self.limits:
            for line in new:
                found += self._one(line, limits)
            found += self._sums(new, limits)
            found += [
                text for row in rows_of(self.case, limits.joint) for text in self._passed(row, new)
            ]
        found += [*self._book(new), *self._tails(new), *self._clusters(new)]
        found = [
            text for text in found if not text.startswith(OF_A_DECISION) and " trade" not in text
        ]
        if not self._allowed("allow_short"):
            found += [f"{x.unit.name}: short" for x in new if x.after < 0.0]
        return [*found, *self._capital(lines)]

    def _capital(self, lines: list[Line]) -> Iterator[str]:
        """Less free than the buffer once all is filled and its fees are paid."""
        free = self.equity
        for x in lines:
            rate = x.unit.margin_long if x.after >= 0.0 else x.unit.margin_short
            fee = x.unit.fee / x.unit.exposure
            free -= rate / x.unit.exposure * abs(x.after) + fee * (x.buy + x.sell)
            if x.trade:
                free -= max(fee * abs(x.trade), x.unit.fee_min) + x.unit.fee_fixed
        bound = self._most("cash_buffer", 0.0) * self.equity
        if free < bound - 1e-9 * (abs(self.equity) + fsum(abs(x.after) for x in lines)):
            yield f"capital: {free!r} is free, {bound!r} must stay"

    def is_unfunded(self, lines: list[Line]) -> bool:
        """Whether the book binds more than equity less the buffer, or nearly so."""
        free = self.equity * (1.0 - self._most("cash_buffer", 0.0))
        for x in lines:
            long, short = x.unit.margin_long, x.unit.margin_short
            low, high = min(x.held - x.sell, x.after), max(x.held + x.buy, x.after)
            free -= max(long * max(high, 0.0), short * max(-low, 0.0)) / x.unit.exposure
            free -= x.unit.fee * (x.buy + x.sell + abs(x.trade)) / x.unit.exposure
            free -= x.unit.fee_min + x.unit.fee_fixed
        return free < 0.0

    def _passed(self, row: limits_pb2.LinearLimit, lines: list[Line]) -> Iterator[str]:
        """A linear limit, with what open orders may add to either end."""
        given = dict(zip(row.instrument_ids, row.coefficients, strict=True))
        c = [given.get(x.unit.name, 0.0) / self.equity for x in lines]
        now = fsum(v * x.after for v, x in zip(c, lines, strict=True))
        more = fsum(v * (x.sell if v > 0 else -x.buy) for v, x in zip(c, lines, strict=True))
        less = fsum(v * (-x.buy if v > 0 else x.sell) for v, x in zip(c, lines, strict=True))
        slack = 1e-9 * fsum(abs(v) * x.size for v, x in zip(c, lines, strict=True))
        if row.HasField("soft_price"):
            return
        if row.HasField("upper") and now + more > row.upper + slack:
            yield f"{row.name}: {now + more!r} is above {row.upper!r}"
        if row.HasField("lower") and now + less < row.lower - slack:
            yield f"{row.name}: {now + less!r} is below {row.lower!r}"

    def _matrix(self, name: str) -> np.ndarray | None:
        matrix = self.case.matrices.get(name)
        if matrix is None:
            return None
        return np.array(matrix.dense.values).reshape(-1, len(matrix.instrument_ids))

    def _weights(self, lines: list[Line]) -> tuple[np.ndarray, np.ndarray]:
        return tuple(
            np.array([getattr(x, n) for x in lines]) / self.equity for n in ("before", "after")
        )

    def _tails(self, lines: list[Line]) -> Iterator[str]:
        scenarios, covariance = map(self._matrix, ("scenario_matrix_id", "covariance_matrix_id"))
        for limits in self.limits:
            for tail in limits.joint.tails:
                if scenarios is None:
                    # By the normal tail alone: two scenarios of the same deviation measure it.
                    values = [float(np.sqrt(w @ covariance @ w)) for w in self._weights(lines)]
                    one = np.array([[np.sqrt(0.5)], [-np.sqrt(0.5)]])
                    was, now = (measured(tail, np.array([v]), one) for v in values)
                else:
                    was, now = (measured(tail, w, scenarios) for w in self._weights(lines))
                if now > max(was, tail.bound) * (1.0 + 1e-9) + 1e-13:
                    yield f"tail {tail.method}: {now!r} is above {tail.bound!r} and was {was!r}"

    def clusters_of(self, limit: limits_pb2.ClusterLimit, lines: list[Line]) -> list[list[Line]]:
        """The lines by cluster."""
        matrix = self._matrix("covariance_matrix_id")
        if matrix is None:
            scenarios = self._matrix("scenario_matrix_id")
            matrix = np.cov(scenarios.T)
        deviation = np.sqrt(np.diag(matrix))
        rho = matrix / np.outer(deviation, deviation)
        if len(lines) == 1:
            return [lines]
        place = [list(self.case.snapshot.instrument_ids).index(x.unit.name) for x in lines]
        apart = [rho[i, j] for k, i in enumerate(place) for j in place[k + 1 :]]
        tree = linkage(np.sqrt((1.0 - np.array(apart)) / 2.0), "single")
        label = fcluster(tree, limit.distance_max, "distance")
        return [[x for x, own in zip(lines, label, strict=True) if own == k] for k in set(label)]

    def _clusters(self, lines: list[Line]) -> Iterator[str]:
        equity = self.equity
        for limits in self.limits:
            for limit in limits.clusters:
                for members in self.clusters_of(limit, lines):
                    names = "+".join(x.unit.name for x in members)
                    was, now = (
                        fsum(x.worst(v) for x, v in pairs)
                        for pairs in (
                            [(x, x.before) for x in members],
                            [(x, x.after) for x in members],
                        )
                    )
                    bounds = [("gross", was, now, limit.gross_weight_max)]
                    bounds = bounds if limit.HasField("gross_weight_max") else []
                    most = limit.net_weight_max - fsum(x.sell for x in members) / equity
                    was, now = (fsum(getattr(x, n) for x in members) for n in ("before", "after"))
                    bounds.append(("net", was, now, most))
                    scale = fsum(x.size for x in members)
                    for kind, was, now, bound in bounds:
                        if now > max(bound * equity, was) + ROUNDING * scale:
                            yield f"cluster {names} {kind}: {now!r} above {bound * equity!r}"


def _as_new(x: Line, *, worst: bool) -> Line:
    """A line whose position has all come at once; what rounding leaves of one is none."""
    after = x.after if abs(x.after) > 1e-12 * x.size else 0.0
    if worst:
        return replace(x, held=x.sell - x.buy, trade=after, lots=0)
    return replace(x, held=0.0, buy=0.0, sell=0.0, trade=after, lots=0)


def growth(
    case: Wide, lines: list[Line], decision: sizing_pb2.SizingDecision, at_rest: bool
) -> float:
    """The joint objective at half Kelly, costs and soft rows taken off.

    E (1 - 1/W) with scenarios moved to what the signals expect, or m'w - w'Sw by a covariance; of a
    refused line nothing is expected.
    """
    signals, equity = case.signals[0], decision.summary.equity
    refused = {signals.instrument_ids[e.line] for e in decision.line_errors}
    names = list(case.snapshot.instrument_ids)
    w = np.array([x.before if at_rest else x.after for x in lines]) / equity
    columns = signals.instrument_ids, signals.side, signals.expected_return
    expected = {
        name: mean if side == types_pb2.SIDE_LONG else -mean
        for name, side, mean in zip(*columns, strict=True)
        if name not in refused
    }
    scenarios = case.matrices.get("scenario_matrix_id")
    if scenarios is not None:
        x = np.array(scenarios.dense.values).reshape(-1, len(names))
        mean = np.array([expected.get(n, m) for n, m in zip(names, x.mean(axis=0), strict=True)])
        wealth = 1.0 + (x + mean - x.mean(axis=0)) @ w
        value = float(np.mean(1.0 - 1.0 / wealth)) if wealth.min() > 0.0 else -np.inf
    else:
        matrix = case.matrices["covariance_matrix_id"]
        covariance = np.array(matrix.dense.values).reshape(len(names), -1)
        mean = np.array([expected.get(n, 0.0) for n in names])
        value = float(mean @ w - w @ covariance @ w)
    if not at_rest:
        value -= fsum(cost_of(case, i, x.unit) * abs(x.trade) for i, x in enumerate(lines)) / equity
    for limits in (case.stored, *case.asked):
        for row in limits.joint.linear if limits is not None else ():
            if row.HasField("soft_price"):
                given = dict(zip(row.instrument_ids, row.coefficients, strict=True))
                at = fsum(given.get(n, 0.0) * v for n, v in zip(names, w, strict=True))
                value -= row.soft_price * max(at - row.upper, 0.0)
    return value


def cost_of(case: Wide, i: int, unit: Unit) -> float:
    """Fees of the market for a unit of exposure traded."""
    s = case.snapshot
    currency = s.currency[i] if s.currency else case.base
    each = s.fee_per_unit[i] * RATES[currency] / RATES[case.base] if s.fee_per_unit else 0.0
    return each / unit.exposure + (s.fee_rate[i] if s.fee_rate else 0.0) * unit.size / unit.exposure
