"""Evidence about an edge that is carried from one period to the next.

Periods follow each other without overlapping, so the e-value of all is the product of theirs: the
wealth of a bettor who stakes in each what the ones before have left.
"""

from dataclasses import dataclass
from math import log

from compute.analytics.forecasts import E_VALUE_GONE, from_log


@dataclass(frozen=True)
class RunningEvidence:
    """Decisions and bets so far, and the logarithms of both e-values (`BetForecast`)."""

    decisions: int = 0
    bets: int = 0
    log_gone: float = 0.0
    log_edge: float = 0.0

    def with_period(
        self, decisions: int, bets: int, e_value_gone: float, e_value_edge: float
    ) -> "RunningEvidence":
        """After another period. E-values are those of its bets alone, above 0."""
        return RunningEvidence(
            self.decisions + decisions,
            self.bets + bets,
            self.log_gone + log(e_value_gone),
            self.log_edge + log(e_value_edge),
        )

    @property
    def e_value_gone(self) -> float:
        """That the edge is gone."""
        return from_log(self.log_gone)

    @property
    def e_value_edge(self) -> float:
        """That there is an edge."""
        return from_log(self.log_edge)

    @property
    def is_gone(self) -> bool:
        """Whether the edge is to be doubted; may be looked at after every period."""
        return self.e_value_gone >= E_VALUE_GONE
