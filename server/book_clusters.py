"""Which instruments of a book at rest are alike, where limits of the book bound clusters.

A decision finds the clusters of what it sizes and holds, by the matrix that it was given. A book
that nobody sizes has clusters of its own: by the latest covariance or correlation of the
`covariance_universe` in force for the portfolio, whatever its strategies name, so that a limit is
looked at alike whoever asks.
"""

from dataclasses import dataclass

import asyncpg
import numpy as np

from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.limits.cluster_limits import Cluster, find_clusters
from compute.limits.policy import Limits
from compute.market import Market, MissingInputError, Positions
from server.convert.market import MatrixData
from server.portfolio_state import PortfolioState
from server.state import States
from storage.errors import NotFound

COVARIANCES = ("COVARIANCE", "CORRELATION")
"""Kinds of matrices that a universe stands for."""


@dataclass(frozen=True)
class BookClusters:
    """The clusters of what is held and reserved.

    unknown: why limits on clusters could not be looked at, "" where they could or there are none.
    """

    clusters: tuple[Cluster, ...] = ()
    unknown: str = ""

    def key_of(self, name: str) -> str:
        """What an episode of a breach is known by: its limit and the first of its members.

        Clusters are numbered in the order of a book, so that their names move with it.
        """
        for cluster in self.clusters:
            if cluster.name == name:
                return f"{cluster.name.rpartition(' ')[0]}: {cluster.instrument_ids[0]}"
        return name

    def members_of(self, name: str) -> tuple[str, ...]:
        """The members of a cluster by its name; empty for what is none."""
        return next((c.instrument_ids for c in self.clusters if c.name == name), ())


NO_CLUSTERS = BookClusters()


def is_of_cluster(key: str, limits: Limits) -> bool:
    """Whether an episode by this name is one of a limit on clusters."""
    return any(
        key.startswith(f"{c.name}: ") or key.startswith(f"{c.name} (") for c in limits.clusters
    )


def clusters_at_rest(
    limits: Limits | None, market: Market, positions: Positions, matrix: MatrixData | None
) -> BookClusters:
    """The clusters of a book, by a matrix. Takes a while where hundreds of instruments are held."""
    if limits is None or not limits.clusters or not len(positions.taken):
        return NO_CLUSTERS
    if matrix is None:
        names = ", ".join(repr(limit.name) for limit in limits.clusters)
        return BookClusters(
            unknown=f"limits on clusters ({names}) need correlations: no covariance or correlation "
            "is stored of a covariance_universe in the sizing parameters of the portfolio"
        )
    data = ReturnMatrix(matrix.instrument_ids, matrix.values, matrix.probability)
    nothing = np.zeros(0, dtype=np.int64)
    try:
        found = find_clusters(limits, market, positions, nothing, ReturnData(covariance=data))
    except MissingInputError as error:
        return BookClusters(unknown=str(error))
    return BookClusters(found)


async def matrix_at_rest(
    states: States,
    tenant_id: str,
    state: PortfolioState,
    connection: asyncpg.Connection | None = None,
) -> MatrixData | None:
    """The matrix that the book of a state is clustered by; None where there is none, or no need.

    connection: of the transaction that the caller is in, which must not wait for a second one.
    """
    limits, universe = state.book_limits, state.book_universe
    if limits is None or not limits.clusters or universe is None:
        return None
    try:
        if connection is not None:
            return await states.matrix_within(connection, tenant_id, universe, COVARIANCES)
        matrix_id = await states.latest_matrix_id(tenant_id, universe, COVARIANCES)
        return await states.matrix(tenant_id, matrix_id)
    except NotFound:
        return None
