"""How liquid an instrument is, from its closes and volumes."""

from dataclasses import dataclass

import numpy as np

from compute.history import Floats, Integers
from compute.simulate.history import VOLUME_SESSIONS, PriceHistory


@dataclass(frozen=True)
class Liquidity:
    """Columns by instrument, (m,).

    illiquidity: NaN without a session that counts. sessions: that count; left_out: the others
    after the first. value_traded: a session, one without a close or volume as 0. rank: from 1, the
    most liquid; 0 where there is no illiquidity.
    """

    illiquidity: Floats
    sessions: Integers
    left_out: Integers
    value_traded: Floats
    rank: Integers


def liquidity(history: PriceHistory) -> Liquidity:
    """Amihud's illiquidity, mean |r| / value traded, and the median value traded of 20 sessions.

    Amihud 2002, J. Financial Markets 5(1): by how much the price moves for a unit of money traded,
    in 1 / money. r is the return of the session with splits and dividends. A session without
    volume has no price that anybody traded at, and one without a close, or whose session before
    has none, no return of a session: both are left out and counted. Needs volumes.
    """
    assert history.volume is not None, "asked for"
    value = np.nan_to_num(history.close * history.volume)[1:]
    returns = np.abs(history.total_return[1:])
    known = np.isfinite(history.close)
    counts = known[1:] & known[:-1] & (value > 0.0)
    sessions = counts.sum(axis=0)
    ratio = np.where(counts, returns / np.where(counts, value, 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        mean = np.where(sessions > 0, ratio.sum(axis=0) / np.maximum(sessions, 1), np.nan)
    all_values = np.nan_to_num(history.close * history.volume)
    return Liquidity(
        mean,
        sessions.astype(np.int64),
        (len(value) - sessions).astype(np.int64),
        np.median(all_values[-VOLUME_SESSIONS:], axis=0),
        _ranks(mean),
    )


def _ranks(values: Floats) -> Integers:
    """1 for the smallest, equal ones alike; 0 for NaN."""
    smaller = (values[None, :] < values[:, None]).sum(axis=1) + 1
    return np.where(np.isnan(values), 0, smaller).astype(np.int64)
