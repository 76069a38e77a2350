"""What is asked for, out of the messages: arrays, names and choices, checked as a whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from compute.limits.policy import Limits
from compute.methods import Method
from compute.parameters import AlgorithmChoice, EffectiveParameters
from compute.signals import Feature, LineError, Signals, check_features
from server.calls.errors import FieldViolation


@dataclass(frozen=True)
class HistoryAsked:
    """The stored history that edges are to be estimated from."""

    universe_id: str
    start: datetime | None


@dataclass(frozen=True)
class RegimesAsked:
    """The filter whose predicted regimes lines are mixed by; instrument_id: empty for their own."""

    model_id: str
    instrument_id: str


@dataclass(frozen=True)
class SizingRequest:
    """Sizes wanted for one portfolio; pure data.

    Ids are empty and choices None where the request says nothing. signals: prices in the
    instruments' own currencies. limits: in the currency that they name. content: the message as it
    is hashed. limits_content: that of `limits`, which tells one set of limits from another.
    """

    portfolio_id: str
    strategy_id: str
    instrument_ids: tuple[str, ...]
    signals: Signals
    signals_time: datetime | None = None
    features: tuple[Feature, ...] = ()
    feature_schema_hash: str = ""
    model_id: str = ""
    history: HistoryAsked | None = None
    regimes: RegimesAsked | None = None
    market_snapshot_id: str = ""
    scenario_matrix_id: str = ""
    covariance_matrix_id: str = ""
    expected_portfolio_version: int | None = None
    limits: Limits | None = None
    limits_content: bytes = b""
    method: Method | None = None
    algorithm: AlgorithmChoice | None = None
    reservation_ttl_s: float | None = None
    all_or_nothing: bool = False
    include_sensitivities: bool = False
    include_cash_needs: bool = False
    content: bytes = b""

    @property
    def n_lines(self) -> int:
        """Signals of the request."""
        return len(self.instrument_ids)

    @cached_property
    def feature_errors(self) -> list[LineError]:
        """The features given that are no numbers, see `check_features`."""
        return check_features(self.features)

    def method_with(self, parameters: EffectiveParameters) -> Method:
        """The method: its own, else that of the parameters in force."""
        return self.method or parameters.method


@dataclass(frozen=True)
class SizingCall:
    """A call for one portfolio or several.

    method: of the contract. content: the whole message as it is stored and compared. request_id:
    None where nothing is to be recorded. view: what of an answer its caller reads.
    """

    method: str
    parts: tuple[SizingRequest, ...]
    content: bytes
    request_id: UUID | None
    view: Callable[[bytes], bytes]

    @property
    def is_for_several(self) -> bool:
        """Whether portfolios are sized together, dividing what they share."""
        return self.method == "SizePortfolios"


def path_of(error: LineError) -> str:
    """The field path of a line error."""
    return f"signals.{error.column}[{error.line}]"


def violations_of(errors: Sequence[LineError]) -> list[FieldViolation]:
    """Line errors as what is wrong with a request."""
    return [FieldViolation(path_of(item), item.reason, item.message) for item in errors]
