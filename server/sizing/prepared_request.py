"""A request with everything it is computed from: arrays, policies, and what is wrong with it."""

from dataclasses import dataclass

from compute.inputs import Inputs
from compute.parameters import AlgorithmChoice
from compute.signals import LineError
from server.portfolios.book_at_rest import NOTHING_AT_REST, BookAtRest
from server.sizing import decision_inputs
from server.sizing.request import SizingRequest


@dataclass(frozen=True)
class PreparedRequest:
    """A request with everything it is computed from; pure data."""

    request: SizingRequest
    inputs: Inputs
    errors: list[LineError]
    context: decision_inputs.DecisionInputs
    algorithm: AlgorithmChoice | None = None
    """Of method CUSTOM."""
    at_rest: BookAtRest = NOTHING_AT_REST
    """What tells of limits that the book which the decision starts from may be beyond."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The instrument of each line."""
        return self.request.instrument_ids
