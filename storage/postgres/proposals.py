"""Changes that wait for a second person, and whether a firm asks for one. All rows only grow."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import asyncpg

from storage.errors import FailedPrecondition, NotFound, VersionConflict
from storage.identifiers import uuid7
from storage.postgres.rows import Strings

HOURS_DEFAULT = 24
_POLICY = "version, required, proposal_hours_max, author, approver, reason, create_time"
_PROPOSAL = """p.proposal_id, p.kind, p.portfolio_id, p.request, p.digest, p.base_version,
    p.loosened, p.author, p.reason, p.create_time, p.expire_time, d.approved,
    d.author AS decider, d.reason AS decide_reason, d.create_time AS decide_time,
    p.expire_time <= clock_timestamp() AS is_over"""
_FROM = "FROM proposal AS p LEFT JOIN proposal_decision AS d USING (tenant_id, proposal_id)"


class ProposalState(StrEnum):
    """OPEN waits for somebody; the others say how it ended."""

    OPEN = "OPEN"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


_STATES = {
    ProposalState.OPEN: "d.approved IS NULL AND p.expire_time > clock_timestamp()",
    ProposalState.APPROVED: "d.approved",
    ProposalState.REJECTED: "NOT d.approved",
    ProposalState.EXPIRED: "d.approved IS NULL AND p.expire_time <= clock_timestamp()",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Version 0: never set."""

    version: int
    required: bool
    proposal_hours_max: int
    author: str
    approver: str
    reason: str
    create_time: datetime | None


NO_POLICY = Policy(0, False, HOURS_DEFAULT, "", "", "", None)


@dataclass(frozen=True, slots=True)
class Proposal:
    """`request` in the caller's encoding, of what `kind` names; the last four None while undecided.

    portfolio_id: that it concerns alone, empty for wider scopes.
    """

    proposal_id: UUID
    kind: str
    portfolio_id: str
    request: bytes
    digest: bytes
    base_version: int
    loosened: Strings
    author: str
    reason: str
    create_time: datetime
    expire_time: datetime
    approved: bool | None
    decider: str | None
    decide_reason: str | None
    decide_time: datetime | None
    is_over: bool
    """Whether its time was over when it was read."""

    @property
    def state(self) -> ProposalState:
        """What had become of it when it was read."""
        if self.approved is not None:
            return ProposalState.APPROVED if self.approved else ProposalState.REJECTED
        return ProposalState.EXPIRED if self.is_over else ProposalState.OPEN


async def policy(connection: asyncpg.Connection, tenant_id: str) -> Policy:
    """The policy in force, `NO_POLICY` where none was ever set."""
    row = await connection.fetchrow(
        f"""SELECT {_POLICY} FROM approval_policy WHERE tenant_id = $1
        ORDER BY version DESC LIMIT 1""",
        tenant_id,
    )
    return NO_POLICY if row is None else Policy(**row)


async def put_policy(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    required: bool,
    proposal_hours_max: int,
    author: str,
    approver: str,
    reason: str,
    expected_version: int,
) -> Policy:
    """The next version. Errors: `VersionConflict`."""
    row = await connection.fetchrow(
        f"""INSERT INTO approval_policy (tenant_id, version, required, proposal_hours_max, author,
            approver, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING {_POLICY}""",
        tenant_id,
        expected_version + 1,
        required,
        proposal_hours_max,
        author,
        approver,
        reason,
    )
    if row is None:
        actual = (await policy(connection, tenant_id)).version
        raise VersionConflict("approval policy", tenant_id, expected_version, actual)
    return Policy(**row)


async def create(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    kind: str,
    portfolio_id: str,
    request: bytes,
    base_version: int,
    loosened: Strings,
    author: str,
    reason: str,
    hours_max: int,
) -> Proposal:
    """A new proposal; the open one where the same author asks for the same again."""
    digest = hashlib.sha256(request).digest()
    open_id = await connection.fetchval(
        f"""SELECT p.proposal_id {_FROM} WHERE p.tenant_id = $1 AND p.kind = $2 AND p.digest = $3
            AND p.base_version = $4 AND p.author = $5 AND {_STATES[ProposalState.OPEN]}""",
        tenant_id,
        kind,
        digest,
        base_version,
        author,
    )
    if open_id is not None:
        return await get(connection, tenant_id, open_id)
    proposal_id = uuid7()
    await connection.execute(
        """INSERT INTO proposal (tenant_id, proposal_id, kind, portfolio_id, request, digest,
            base_version, loosened, author, reason, expire_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() + $11)""",
        tenant_id,
        proposal_id,
        kind,
        portfolio_id,
        request,
        digest,
        base_version,
        list(loosened),
        author,
        reason,
        timedelta(hours=hours_max),
    )
    return await get(connection, tenant_id, proposal_id)


async def get(connection: asyncpg.Connection, tenant_id: str, proposal_id: UUID) -> Proposal:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_PROPOSAL} {_FROM} WHERE p.tenant_id = $1 AND p.proposal_id = $2",
        tenant_id,
        proposal_id,
    )
    if row is None:
        raise NotFound("proposal", str(proposal_id))
    return _proposal(row)


async def list_page(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    state: ProposalState | None = None,
    granted: Strings | None = None,
    before: UUID | None = None,
    limit: int = 100,
) -> list[Proposal]:
    """Newest first, those before `before`. granted: patterns of LIKE for the portfolio's id."""
    rows = await connection.fetch(
        f"""SELECT {_PROPOSAL} {_FROM} WHERE p.tenant_id = $1
            AND ($2::uuid IS NULL OR p.proposal_id < $2)
            AND ($3::text[] IS NULL OR p.portfolio_id LIKE ANY ($3) AND p.portfolio_id <> '')
            {"" if state is None else f"AND {_STATES[state]}"}
        ORDER BY p.proposal_id DESC LIMIT $4""",
        tenant_id,
        before,
        granted,
        limit,
    )
    return [_proposal(row) for row in rows]


async def decide(
    connection: asyncpg.Connection,
    tenant_id: str,
    proposal: Proposal,
    *,
    approved: bool,
    author: str,
    reason: str,
) -> None:
    """Say what becomes of it; whoever is first decides. Errors: `FailedPrecondition`."""
    made = await connection.fetchval(
        """INSERT INTO proposal_decision (tenant_id, proposal_id, proposer, approved, author,
            reason)
        SELECT tenant_id, proposal_id, author, $3, $4, $5 FROM proposal
        WHERE tenant_id = $1 AND proposal_id = $2 AND expire_time > clock_timestamp()
        ON CONFLICT DO NOTHING RETURNING true""",
        tenant_id,
        proposal.proposal_id,
        approved,
        author,
        reason,
    )
    if made is None:
        raise not_open(await get(connection, tenant_id, proposal.proposal_id))


def not_open(proposal: Proposal) -> FailedPrecondition:
    """Why a proposal can't be decided any more."""
    is_expired = proposal.state is ProposalState.EXPIRED
    reason = "PROPOSAL_EXPIRED" if is_expired else "PROPOSAL_DECIDED"
    why = f"is {proposal.state.lower()}"
    return FailedPrecondition("proposal", str(proposal.proposal_id), why, reason)


def _proposal(row: asyncpg.Record) -> Proposal:
    return Proposal(**{**row, "loosened": tuple(row["loosened"])})
