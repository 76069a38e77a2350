"""Fills as other systems tell them, and those that can't be booked."""

import uuid
from dataclasses import dataclass

_NAMESPACE = uuid.UUID("5c1f7ac6-6d1c-4b3a-9c60-2f7f1f3a7a11")
"""Of the request ids that executions get, so that each is booked once, whoever imports it again."""


@dataclass(frozen=True)
class Execution:
    """One fill of a file; units signed like the trade, the rest as in `Fills` of the contract."""

    where: str
    execution_id: str
    decision_id: str
    instrument_id: str
    quantity: float
    price: float
    fee: float = 0.0
    currency: str = ""
    exchange_rate: float = 0.0
    fee_currency: str = ""

    @property
    def request_id(self) -> str:
        """The same for the same execution of the same decision."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.decision_id} {self.execution_id}"))


@dataclass(frozen=True)
class Unbooked:
    """What was not booked: where it stands, a reason for programs, and words."""

    where: str
    execution_id: str
    reason: str
    message: str
