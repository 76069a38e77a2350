"""The stage of the waterfall that brings a book inside the limits of the whole book.

Linear limits are kept by the smallest change, a projection; curved ones (volatility, VaR, CVaR,
CDaR, wealth floor, tails) and the risk budget by scaling. Either way the increases are taken back
first, those that lead a net exposure back inside its bounds last of them; only where that does not
do are the positions of the batch made smaller. Where turnover is too little for all of it, what
brings the book inside any limit goes first (`projection.cures`). What the stages before have
achieved is kept: in the end all trades are taken back together until no limit is exceeded more than
before, as in RECONCILE. No trade at all exceeds none more; where every limit is convex, some part
of the trades doesn't either.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from compute.inputs import Inputs
from compute.limits.book_guard import BookGuard, Rule
from compute.limits.bounds import LimitBounds
from compute.limits.cures import needed, sums_excess
from compute.limits.projection import cap_turnover, part_needed, without_increase
from compute.market import Floats, Integers
from compute.waterfall.layout import Exposure

STEPS = 60
"""Halvings of an interval: more than a double has digits."""

SLACK = 1e-10
"""By how much a limit may be missed here, in weights; lots are rounded to what the guard takes."""


PRICE_MAX = 1e6
"""Largest price of a linear limit in the projection, in weights per unit of excess: where the
batch can't keep it, it comes as near as this."""


@dataclass(frozen=True)
class Moved:
    """Weights (n,) inside the limits of the book, and which rule moved each line, -1 for none.

    unturned: before turnover took back a part of that, where it was looked at again here.
    """

    weight: Floats
    rule: Integers
    unturned: Floats | None = None


def within_book_limits(wanted: Floats, inputs: Inputs) -> Moved:
    """Moves `wanted` (n,) where a limit of the book asks for it; inactive lines never move."""
    guard, nobody = inputs.book_guard, np.full(len(wanted), -1)
    if guard is None:
        return Moved(wanted, nobody)
    stage = _Stage(wanted, inputs.index, inputs.active, inputs.limit_bounds, guard)
    worst = stage.worst(wanted)
    if worst < 0:
        return Moved(wanted, nobody)
    in_rows = stage.projected(wanted)
    scaled = stage.scaled(in_rows)
    kept = stage.reconciled(stage.turned(scaled))
    if scaled is not in_rows and stage.relative_excess(kept).max() > 0.0:
        # What comes nearest to one limit may lead away from another, and all of it be taken back.
        without = stage.reconciled(stage.turned(in_rows))
        if stage.relative_excess(without).max() < stage.relative_excess(kept).max():
            scaled, kept = in_rows, without
    cut = np.where(in_rows != wanted, stage.worst(wanted, linear=True), nobody)
    cut = np.where(scaled != in_rows, stage.worst(in_rows, linear=False), cut)
    cut = np.where((kept != wanted) & (cut < 0), worst, cut)
    return Moved(kept, np.where(kept != wanted, cut, -1), scaled)


def needed_trades(weight: Floats, inputs: Inputs) -> Floats:
    """The part of each trade to `weight` that brings the book inside any limit, (n,), signed."""
    bounds, index, active = inputs.limit_bounds, inputs.index, inputs.active
    before = np.where(active, bounds.before[index], weight)
    if inputs.book_guard is None:
        part = needed(bounds, index, active, before, weight)
    else:
        stage = _Stage(weight, index, active, bounds, inputs.book_guard)
        part = stage.cures(weight, weight - before)
    signed: Floats = np.sign(weight - before) * part
    return signed


class _Stage:
    """One batch while it is moved."""

    def __init__(
        self,
        wanted: Floats,
        index: Integers,
        active: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        limit_bounds: LimitBounds,
        guard: BookGuard,
    ) -> None:
        self.limit_bounds, self.guard = limit_bounds, guard
        self.index, self.active = index, active
        self.before: Floats = np.where(active, limit_bounds.before[index], wanted)
        self.base = without_increase(wanted, self.before, np)
        self.hedged: Floats = np.where(self._leads_back(wanted), wanted, self.base)
        self.linear = np.array([rule.is_linear for rule in guard.rules])
        self._start = self.all_excess(self.before)

    def _leads_back(self, wanted: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """The trades that bring a net exposure nearer to bounds that the book is beyond, (n,)."""
        limit_bounds = self.limit_bounds
        net, members = limit_bounds.bounds[Exposure.OTHER_NET], limit_bounds.members[:, self.index]
        over = net > limit_bounds.bounds[Exposure.NET_MAX]
        under = net < limit_bounds.bounds[Exposure.NET_MIN]
        sold = (wanted < self.before) & (members[over] > 0.0).any(axis=0)
        bought = (wanted > self.before) & (members[under] > 0.0).any(axis=0)
        return self.active & (sold | bought)

    def over_market(self, weight: Floats) -> Floats:
        """Weights of all instruments, (m,), with the batch at `weight`."""
        whole = self.limit_bounds.before.copy()
        whole[self.index[self.active]] = weight[self.active]
        return whole

    def excess(self, weight: Floats) -> Floats:
        """Value of each rule of the book, less what there is room for."""
        whole = self.over_market(weight)
        return np.array([rule.measure(whole)[0] for rule in self.guard.rules]) - self.guard.room

    def worst(self, weight: Floats, linear: bool | None = None) -> int:
        """The rule exceeded most, by its bound, -1 where none is; linear: of which kind."""
        excess = self.relative_excess(weight)
        if linear is not None:
            excess = np.where(self.linear == linear, excess, -np.inf)
        place = int(np.argmax(excess))
        return place if excess[place] > 0.0 else -1

    def relative_excess(self, weight: Floats) -> Floats:
        """`excess` in units of each bound."""
        scale = np.array([max(abs(rule.bound), 1e-3) for rule in self.guard.rules])
        return self.excess(weight) / scale

    def boxes(self, wanted: Floats) -> list[tuple[Floats, Floats]]:
        """Where the lines may go: back without increases, then to the smallest they can reach.

        Before that, without increases but those that bring net exposures inside.
        """
        out = []
        ends = [] if np.array_equal(self.hedged, self.base) else [self.hedged]
        for end in (*ends, self.base, self.smallest()):
            end = np.where(self.active, end, wanted)
            out.append((np.minimum(end, wanted), np.maximum(end, wanted)))
        return out

    def smallest(self) -> Floats:
        """The position nearest to zero that one trade reaches, (n,)."""
        limit_bounds, index = self.limit_bounds, self.index
        low, high = (
            self.before - limit_bounds.sell_max[index],
            self.before + limit_bounds.buy_max[index],
        )
        return np.where(self.active, np.clip(0.0, low, high), self.before)

    def projected(self, wanted: Floats) -> Floats:
        """The nearest weights that keep the linear rules, by fewer increases where those do."""
        weight = wanted
        for low, high in self.boxes(wanted):
            if not (self.excess(weight)[self.linear] > SLACK).any():
                break
            weight = self._nearest(wanted, low, high)
        return weight

    def _nearest(self, wanted: Floats, low: Floats, high: Floats) -> Floats:
        """The nearest weights in the box that keep the linear rules, or miss them least.

        With prices y >= 0 of the rules A w <= b they are w(y) = clip(wanted - A'y, low, high); the
        prices maximise |w(y) - wanted|^2 / 2 + y'(A w(y) - b), which is concave and smooth.
        """
        rules = [rule for rule in self.guard.rules if rule.is_linear]
        whole = self.over_market(wanted)
        rows = np.stack([self._row(rule, whole) for rule in rules])
        room = -self.excess(wanted)[self.linear] + rows @ wanted
        norm = np.sqrt((rows**2).sum(axis=1))
        norm = np.where(
            norm > 1e-100, norm, 1.0
        )  # no line of these moves the rule: nothing to scale
        rows, room = rows / norm[:, None], room / norm

        def weight(price: Floats) -> Floats:
            out: Floats = np.clip(wanted - price @ rows, low, high)
            return out

        def dual(price: Floats) -> tuple[float, Floats]:
            moved = weight(price)
            missed = rows @ moved - room
            gain = 0.5 * float(((moved - wanted) ** 2).sum()) + float(price @ missed)
            return -gain, -missed

        found = minimize(
            dual,
            np.zeros(len(rules)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, PRICE_MAX)] * len(rules),
            options={"ftol": 1e-16, "gtol": 1e-13, "maxiter": 500},
        )
        price = found.x
        for _ in range(STEPS):  # Newton on the rules and lines that still move, to the last digit
            moved = weight(price)
            missed = rows @ moved - room
            held = (price > 0.0) & (price < PRICE_MAX)
            if not held.any() or np.abs(missed[held]).max() <= 1e-14:
                break
            free = (moved > low) & (moved < high)
            inner = rows[held][:, free] @ rows[held][:, free].T
            step = np.linalg.lstsq(inner, missed[held], rcond=None)[0]
            price = price.copy()
            price[held] = np.clip(price[held] + step, 0.0, PRICE_MAX)
        return min(weight(found.x), weight(price), key=lambda w: float((rows @ w - room).max()))

    def _row(self, rule: Rule, whole: Floats) -> Floats:
        slope = rule.measure(whole)[1][self.index]
        return np.where(self.active, slope, 0.0)

    def scaled(self, wanted: Floats) -> Floats:
        """The largest part of the increases that keeps the curved rules, else of the positions.

        An increase may be what hedges the rest. Where its part can't be taken back, all positions
        of the batch or all its trades are made smaller together, whichever moves them least.
        """
        if not (self.excess(wanted)[~self.linear] > SLACK).any():
            return wanted
        base, least = without_increase(wanted, self.before, np), self.smallest()
        if self._curved_excess(base) <= 0.0:
            hedges = self.hedged != self.base
            if hedges.any():
                base = self._largest(base, np.where(hedges, wanted, base))
            return self._largest(base, wanted)
        paths = [(least, base), (least, wanted), (self.before, wanted)]
        inside = [self._largest(*path) for path in paths if self._curved_excess(path[0]) <= 0.0]
        if inside:
            return min(inside, key=lambda weight: float(np.abs(weight - wanted).sum()))
        # Not even without the batch or its trades: what comes nearest.
        return min((self._least_beyond(*path) for path in paths), key=self._curved_excess)

    def _least_beyond(self, start: Floats, end: Floats) -> Floats:
        """The point between them that exceeds the curved rules least, by golden section."""
        low, high = 0.0, 1.0
        ratio = (np.sqrt(5.0) - 1.0) / 2.0
        for _ in range(STEPS):
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            if self._curved_excess(_between(start, end, left)) <= self._curved_excess(
                _between(start, end, right)
            ):
                high = right
            else:
                low = left
        return _between(start, end, 0.5 * (low + high))

    def _curved_excess(self, weight: Floats) -> float:
        """The largest excess of a curved rule, relative to its bound."""
        return float(self.relative_excess(weight)[~self.linear].max())

    def _largest(self, inside: Floats, wanted: Floats) -> Floats:
        """The point furthest from `inside` towards `wanted` that keeps the curved rules."""
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = 0.5 * (low + high)
            if self._curved_excess(_between(inside, wanted, middle)) <= 0.0:
                low = middle
            else:
                high = middle
        return _between(inside, wanted, low)

    def turned(self, weight: Floats) -> Floats:
        """As much of the trades as turnover lets: what brings the book inside first."""
        turnover = self.limit_bounds.limits.turnover_max
        trade = np.where(self.active, weight - self.before, 0.0)
        if turnover is None or float(np.abs(trade).sum()) <= turnover:
            return weight
        capped: Floats = cap_turnover(
            self.before + trade, self.before, turnover, self.cures(weight, trade), np
        )
        return np.where(self.active, capped, weight)

    def cures(self, weight: Floats, trade: Floats) -> Floats:
        """How much of each trade brings the book inside its limits, curved ones too."""
        out = needed(self.limit_bounds, self.index, self.active, self.before, weight)
        excess, whole = self.excess(self.before), self.over_market(self.before)
        for rule, over in zip(self.guard.rules, excess, strict=True):
            if rule.is_linear and over > SLACK:
                help = np.maximum(-self._row(rule, whole) * trade, 0.0)
                part = part_needed(help.sum(), over, np)
                out = np.maximum(out, np.where(help > 0.0, part * np.abs(trade), 0.0))
        if (excess[~self.linear] > SLACK).any():
            reduced = without_increase(weight, self.before, np)
            way = np.where(self.active, np.abs(reduced - self.before), 0.0)
            out = np.maximum(out, self._least_part(reduced) * way)
        return np.minimum(out, np.abs(trade))

    def _least_part(self, reduced: Floats) -> float:
        """The least part of the way to `reduced` that keeps the curved rules; 1 where none does."""
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = 0.5 * (low + high)
            if self._curved_excess(_between(self.before, reduced, middle)) <= 0.0:
                high = middle
            else:
                low = middle
        return high

    def _sums(self, weight: Floats) -> Floats:
        return sums_excess(self.limit_bounds, self.index, self.active, self.before, weight)

    def all_excess(self, weight: Floats) -> Floats:
        """Value less bound of every limit on sums: of the book, exposures, turnover."""
        change = np.where(self.active, weight - self.before, 0.0)
        turnover = self.limit_bounds.limits.turnover_max
        return np.concatenate(
            [
                self.excess(weight) - SLACK,
                self._sums(weight).ravel(),
                [-1.0 if turnover is None else float(np.abs(change).sum()) - turnover],
            ]
        )

    def reconciled(self, weight: Floats) -> Floats:
        """The largest part of all trades that exceeds no limit more than before."""
        allowed = np.maximum(self._start, 0.0) + 1e-12
        if (self.all_excess(weight) <= allowed).all():
            return weight
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = 0.5 * (low + high)
            if (self.all_excess(_between(self.before, weight, middle)) <= allowed).all():
                low = middle
            else:
                high = middle
        return _between(self.before, weight, low)


def _between(start: Floats, end: Floats, part: float) -> Floats:
    return end if part == 1.0 else start + part * (end - start)
