"""Limits on clusters: alike instruments of a book are found, and each cluster bounded as a group.

The instruments of a book are those that are sized, held or reserved. Their tree is made of the
distances sqrt((1 - rho) / 2), or sqrt((1 - |rho|) / 2) where opposites are alike, and cut at a
distance or into so many clusters (`correlation/clusters.py`). What comes out are plain limits of
groups and single instruments, so that everything that keeps or explains those knows clusters too.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compute.correlation.clusters import cut
from compute.correlation.sample import correlation_of
from compute.limits.book_guard import ReturnData
from compute.limits.policy import ClusterLimit, GroupLimit, InstrumentLimit, Limits
from compute.market import Floats, Integers, Market, MissingInputError, Positions
from compute.shapes import GROUPS_MAX


@dataclass(frozen=True)
class Cluster:
    """Alike instruments, by id.

    place, limit: of the limit among `Limits.clusters`, and its name. name: of the cluster.
    """

    place: int
    limit: str
    name: str
    instrument_ids: tuple[str, ...]


def find_clusters(
    limits: Limits, market: Market, positions: Positions, sized: Integers, data: ReturnData
) -> tuple[Cluster, ...]:
    """The clusters of every limit on clusters, in a book and the instruments to be sized.

    sized: their places in the market. By the covariance, or where there is none by the scenarios;
    instruments come in the order of their ids, which decides ties. Raises `MissingInputError` where
    there is neither, or where it lacks an instrument, naming the limit.
    """
    ids = sorted(market.instrument_ids[i] for i in np.union1d(positions.taken, sized))
    if not limits.clusters or not ids:
        return ()
    correlation = _correlation(limits.clusters[0], ids, data)
    taken = {group.name for group in limits.groups}
    found: list[Cluster] = []
    for place, limit in enumerate(limits.clusters):
        label = cut(
            np.abs(correlation) if limit.opposites_are_alike else correlation,
            limit.linkage.method,
            distance_max=limit.distance_max,
            count=limit.cluster_count,
        )
        names = _names(limit.name, int(label.max()), taken)
        taken.update(names)
        for k, name in enumerate(names, 1):
            members = tuple(ids[i] for i in np.flatnonzero(label == k))
            found.append(Cluster(place, limit.name, name, members))
    return tuple(found)


def with_clusters(limits: Limits, clusters: Sequence[Cluster]) -> Limits:
    """The limits with a group in the place of each cluster, and none on clusters left.

    A cluster of one is bounded by the `weight_max` of its instrument, and by a group where its net
    bounds say more than that. Raises `MissingInputError` for more groups than can apply.
    """
    groups, instruments = list(limits.groups), dict(limits.instruments)
    for cluster in clusters:
        limit = limits.clusters[cluster.place]
        gross = limit.gross_weight_max
        if len(cluster.instrument_ids) == 1 and gross is not None:
            _tighten(instruments, cluster.instrument_ids[0], gross)
            limit = _net_beyond(limit, gross)
        groups += _group(limit, cluster)
        if len(groups) > GROUPS_MAX:
            raise MissingInputError(
                "TOO_MANY_GROUPS",
                f"the clusters of the limit {limit.name!r} and all group limits are more than the "
                f"{GROUPS_MAX} that can apply; a larger distance_max or a smaller cluster_count "
                "makes fewer",
            )
    return replace(limits, groups=tuple(groups), instruments=instruments, clusters=())


def of_book_at_rest(limits: Limits, clusters: Sequence[Cluster]) -> Limits:
    """The limits with a group in the place of each cluster, also of those of one instrument.

    For a look at what is held: what is beyond is named by the limit that people have stored.
    """
    groups = [*limits.groups]
    for cluster in clusters:
        groups += _group(limits.clusters[cluster.place], cluster)
    return replace(limits, groups=tuple(groups), clusters=())


def _names(limit: str, count: int, taken: set[str]) -> list[str]:
    """NAME 1, NAME 2 and so on; NAME (2) 1 where a limit of another scope has that name."""
    for again in itertools.count(1):
        prefix = limit if again == 1 else f"{limit} ({again})"
        names = [f"{prefix} {k}" for k in range(1, count + 1)]
        if taken.isdisjoint(names):
            return names
    raise AssertionError("some number is free")


def _correlation(limit: ClusterLimit, ids: Sequence[str], data: ReturnData) -> Floats:
    """Correlations of the instruments `ids`, (n, n)."""
    matrix = data.covariance or data.scenarios
    if matrix is None:
        raise MissingInputError(
            "MISSING_MATRIX",
            f"the limit {limit.name!r} on clusters needs correlations: name a covariance by "
            "covariance_matrix_id, or a covariance_universe in the sizing parameters",
        )
    column = matrix.place
    for name in ids:
        if name not in column:
            kind = "covariance" if data.covariance is not None else "scenario matrix"
            raise MissingInputError(
                "MISSING_MATRIX_ENTRY",
                f"{name!r} is sized or held, but not in the {kind}, which the limit "
                f"{limit.name!r} on clusters needs",
            )
    places = [column[name] for name in ids]
    if data.covariance is not None:
        return correlation_of(matrix.values[np.ix_(places, places)])[0]
    returns = matrix.values[:, places]
    centred = returns - matrix.probability @ returns
    return correlation_of((matrix.probability[:, None] * centred).T @ centred)[0]


def _tighten(instruments: dict[str, InstrumentLimit], name: str, weight_max: float) -> None:
    own = instruments.get(name, InstrumentLimit())
    given = weight_max if own.weight_max is None else min(own.weight_max, weight_max)
    instruments[name] = replace(own, weight_max=given)


def _net_beyond(limit: ClusterLimit, gross: float) -> ClusterLimit:
    """The net bounds of one instrument that its gross bound doesn't imply."""
    low, high = limit.net_weight_min, limit.net_weight_max
    return replace(
        limit,
        gross_weight_max=None,
        net_weight_min=None if low is None or low <= -gross else low,
        net_weight_max=None if high is None or high >= gross else high,
    )


def _group(limit: ClusterLimit, cluster: Cluster) -> Iterator[GroupLimit]:
    bounds = limit.gross_weight_max, limit.net_weight_min, limit.net_weight_max
    if bounds != (None, None, None):
        yield GroupLimit(cluster.name, frozenset(cluster.instrument_ids), "", *bounds)
