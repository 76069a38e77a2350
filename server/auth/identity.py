"""Who calls: tenant, subject, scopes and granted portfolios."""

import re
from dataclasses import dataclass
from enum import StrEnum

ALL = ("*",)
"""A grant of every portfolio of the tenant."""
TENANT_ID = r"[A-Za-z0-9._:\-]{1,128}"
"""What the ids of tenants look like."""
_TENANT = re.compile(TENANT_ID)
_LIKE = re.compile(r"[\\%_]")
_SUBJECT = re.compile(r"[!-~]{1,256}")


class Kind(StrEnum):
    """What stands behind a call."""

    HUMAN = "human"
    SERVICE = "service"
    TOPIC = "topic"
    LOCAL = "local"
    """Authentication is off: somebody on this machine."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose credential has been verified.

    Raises `ValueError` where tenant or subject have characters that ids don't have.
    """

    tenant_id: str
    subject: str
    """Author in histories, such as "user:ann" or "key:7f3a12cd"."""
    scopes: frozenset[str]
    """Such as "sizing.size"."""
    portfolios: tuple[str, ...] = ALL
    """Exact ids, or prefixes that end in "*"."""
    kind: Kind = Kind.SERVICE
    expire_time: float = float("inf")
    """Seconds since 1970."""
    certificate: bytes | None = None
    """SHA-256 of the client certificate that the credential is bound to; None: to none."""

    def __post_init__(self) -> None:
        if not _TENANT.fullmatch(self.tenant_id):
            raise ValueError("no tenant id")
        kind, colon, name = self.subject.partition(":")
        if not _SUBJECT.fullmatch(self.subject) or not kind or (colon and not name):
            raise ValueError("no subject")

    @property
    def has_all_portfolios(self) -> bool:
        """Whether the whole firm is granted."""
        return "*" in self.portfolios

    @property
    def granted(self) -> tuple[str, ...] | None:
        """The grants as SQL's LIKE has them; None where everything is granted."""
        if self.has_all_portfolios:
            return None
        return tuple(
            _LIKE.sub(r"\\\g<0>", grant.removesuffix("*")) + "%" * grant.endswith("*")
            for grant in self.portfolios
        )

    def is_granted(self, portfolio_id: str) -> bool:
        """Whether a portfolio is granted. No id stands for the whole firm."""
        if not portfolio_id:
            return self.has_all_portfolios
        return any(
            portfolio_id.startswith(grant[:-1]) if grant.endswith("*") else portfolio_id == grant
            for grant in self.portfolios
        )


def topic(tenant_id: str, name: str) -> Identity:
    """Whoever the broker lets write to a topic that this service reads."""
    return Identity(tenant_id, f"topic:{name}", frozenset(), kind=Kind.TOPIC)
