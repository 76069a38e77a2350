"""Covariance and scenarios of returns as they could be estimated at each close of a history.

The window is the last `sessions` total returns (dividends and splits in) up to that close. An
instrument is in it that has had a price before the window began, isn't delisted, and whose return
has moved in it.
"""

from dataclasses import dataclass, field

import numpy as np

from compute.correlation.estimate import Estimator, Settings, estimate
from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.market import MissingInputError
from compute.simulate.history import PriceHistory


@dataclass(frozen=True)
class Estimates:
    """How returns are estimated: over so many sessions, by an estimator of covariances.

    scenarios: the returns of the window, equally likely, are there too; the joint method and limits
    on the whole book then go by them.
    """

    sessions: int = 252
    estimator: Estimator = Estimator.LEDOIT_WOLF
    settings: Settings = field(default_factory=Settings)
    scenarios: bool = False

    def at(self, history: PriceHistory, t: int) -> ReturnData:
        """What is known of the next session's returns at the close of session t.

        Raises `MissingInputError` where the history is too short yet, or the window lacks what the
        estimator needs.
        """
        if t < self.sessions:
            text = f"session {t} has {t} returns before it; estimates need {self.sessions}"
            raise MissingInputError("TOO_FEW_SESSIONS", text)
        window = history.total_return[t + 1 - self.sessions : t + 1]
        has_begun = ~np.isnan(history.last_close[t - self.sessions])
        is_there = has_begun & ~np.isnan(history.last_close[t])
        inside = np.flatnonzero(is_there & (np.ptp(window, axis=0) > 0.0))
        returns = window[:, inside]
        if not len(inside):
            raise MissingInputError("NOT_ESTIMABLE", "no instrument has a whole window of returns")
        try:
            covariance = estimate(returns, self.estimator, self.settings).covariance
        except ValueError as error:
            text = f"{self.estimator.name}: {error}"
            raise MissingInputError("NOT_ESTIMABLE", text) from error
        ids = tuple(history.instrument_ids[place] for place in inside)
        equal = np.full(len(returns), 1.0 / len(returns))
        return ReturnData(
            scenarios=ReturnMatrix(ids, returns, equal) if self.scenarios else None,
            covariance=ReturnMatrix(ids, covariance, np.empty(0)),
        )
