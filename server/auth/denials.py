"""Why callers are denied: one answer for all of them, the cause for the log and the metrics."""

from collections import Counter

import grpc

from server.calls.errors import Refusal

CAUSES = (
    "no_credential",
    "two_credentials",
    "malformed",
    "unknown_key",
    "bad_signature",
    "expired",
    "not_yet_valid",
    "wrong_audience",
    "wrong_issuer",
    "bad_claims",
    "wrong_certificate",
    "unknown_tenant",
    "blocked",
    "scope",
    "portfolio",
)


class Denied(Exception):
    """A credential is not accepted. `cause` is one of `CAUSES` and is not told to the caller."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Denials:
    """Counts of denials by cause."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, cause: str) -> None:
        """One more."""
        self.counts[cause] += 1


def unauthenticated() -> Refusal:
    """UNAUTHENTICATED, in the same words whatever is wrong with the credential."""
    return Refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        "UNAUTHENTICATED",
        "the call has no valid credential: send one header 'authorization: Bearer ...'",
    )
