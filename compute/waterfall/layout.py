"""Names of the rows in the arrays that the sizing kernel reads and writes.

One stacked array in and one out keep the cost of a call at two transfers, whatever the number of
columns. Weights are signed fractions of equity. `projection.NO_LIMIT` stands
for a limit that is not set.
"""

from enum import Enum, IntEnum, auto
from functools import reduce
from operator import or_
from typing import Any


class Line(IntEnum):
    """Rows of the per-line input, shape (len(Line), n)."""

    ACTIVE = 0
    """1 for a line to size; 0 for padding and refused lines, which keep their position."""
    SIDE = 1
    """+1 long, -1 short."""
    SOURCE = 2
    """A `Source`."""
    WIN_PROBABILITY = 3
    PAYOFF = 4
    LOSS_FRACTION = 5
    EXPECTED_RETURN = 6
    VOLATILITY = 7
    EDGE_ERROR = 8
    """Standard error of the win probability or of the expected return."""
    CONFIDENCE = 9
    """How sure the caller is of the edge, in (0, 1]; 1 is certain."""
    EXACT_STAKE = 10
    """Kelly from scenarios, where `SOURCE` says so."""
    EXACT_STAKE_AFTER_COST = 11
    EXACT_ERROR = 12
    """Standard error of the stake from scenarios."""
    WEIGHT_BEFORE = 13
    """Held and reserved."""
    ANNUAL_VOLATILITY = 14
    STOP_LOSS = 15
    """Loss per unit of weight at the stop, fees included; 0 where there is no stop."""
    WEIGHT_MIN = 16
    WEIGHT_MAX = 17
    ADV_WEIGHT_MAX = 18
    BUY_MAX = 19
    """Largest change of weight upwards."""
    TARGET = 20
    """Weight from the joint optimum, where `Scalar.USE_TARGET` is 1."""
    SHRINKAGE = 21
    """Numeric Baker-McHale shrinkage, used where `Scalar.SHRINK` is 2."""
    PAYOFF_ERROR = 22
    """Standard error of the payoff, from a history."""
    LOSS_FRACTION_ERROR = 23
    ADV_WEIGHT_MIN = 24
    """As `ADV_WEIGHT_MAX`, for short positions; <= 0 unless trades are pending."""
    SELL_MAX = 25
    """Largest change of weight downwards, >= 0: what is reserved to be bought is not for sale."""
    COST = 26
    """Trading cost per unit of stake and period (`trading_costs.py`)."""
    OPEN_BUY = 27
    """Weight reserved to be bought and not yet filled, >= 0."""
    OPEN_SELL = 28
    RATE_LONG = 29
    """Margin of a long position, as a fraction of its notional."""
    RATE_SHORT = 30
    FEE = 31
    """Proportional fee on the trade."""
    CORRELATION = 32
    """By what the correlation penalty multiplies the stake, in [0, 1]; 1 for none."""
    TRADE_COST = 33
    """Of one trade, per unit of notional."""
    IMPACT = 34
    """Cost of impact over the 3/2 power of the weight traded, a period."""
    EXACT_STAKE_HELD = 35
    """Kelly from scenarios where reducing costs `COST`."""
    EXACT_MEAN = 36
    """Mean excess outcome after cost, from scenarios."""
    BAND_LOW = 37
    """Stake up to which what is held is bought, after the Kelly fraction; see `BAND_HIGH`."""
    BAND_HIGH = 38
    """Stake down to which what is held is sold; below 0 where there is no band."""
    ROBUST = 39
    """By what the worst case of the edge multiplies the stake, in [0, 1]; 1 for none."""
    AIM = 40
    """By what the decay of the edge multiplies the weight to aim at, in [0, 1]; 1 for none."""
    LOT = 41
    """Weight of one lot."""
    STAYS = 42
    """`Inputs.stays`: permissions and bounds of the line leave that much of what is held."""


class Scalar(IntEnum):
    """Entries of the scalar input, shape (len(Scalar),).

    One that is called as a sizing parameter is that parameter, `projection.NO_LIMIT` where there is
    none, unless `pipeline.scalar_inputs` says otherwise.
    """

    RISK_FREE_RATE = 0
    TRADE_RATE = 1
    """Part of the way to the weight aimed at that is traded; 1 for all of it."""
    SHRINK = 2
    """0 none, 1 Baker-McHale closed form, 2 the `SHRINKAGE` row."""
    KELLY_FRACTION = 3
    INTERVAL_DEVIATIONS = 4
    VOLATILITY_TARGET = 5
    STOP_RISK_MAX = 6
    RISK_BUDGET = 7
    USE_TARGET = 8
    ALLOW_SHORT = 9
    ALLOW_FLIP = 10
    REDUCING = 11
    TRADE_MIN = 12
    TURNOVER_MAX = 13
    FREE = 14
    """Equity less margin, reservations and buffer, as a fraction of equity (`margin.py`)."""
    SALES_AT_ONCE = 15
    """1 where purchases may use what the sales of the decision bring."""


class Exposure(IntEnum):
    """Rows of the bounds on sums of weights, shape (len(Exposure), g).

    Column by column: the groups, padding, then the whole portfolio, then what the portfolio may
    use of the gross exposure it shares with others.
    """

    OTHER_GROSS = 0
    """Gross weight of members outside the batch."""
    OTHER_NET = 1
    GROSS_MAX = 2
    NET_MIN = 3
    NET_MAX = 4


class Family(Enum):
    """Which formula sizes an edge."""

    BET = "win probability, payoff and loss fraction"
    MOMENTS = "expected return and volatility"
    SCENARIOS = "outcomes with probabilities"


class Source(IntEnum):
    """What an edge comes from. The numbers are those of the contract.

    With each: its family, and whether kernels see it; else it becomes another before.
    """

    family: Family
    is_seen: bool

    def __new__(cls, number: int, family: Family = Family.BET, is_seen: bool = True) -> "Source":
        """The source of a number of the contract."""
        source = int.__new__(cls, number)
        source._value_ = number
        source.family, source.is_seen = family, is_seen
        return source

    WIN_LOSS = 1, Family.BET
    RETURN_VOLATILITY = 2, Family.MOMENTS
    SCENARIOS = 3, Family.SCENARIOS
    HISTORY = 4, Family.BET
    STORED_HISTORY = 5, Family.BET, False
    """`HISTORY`, once it is read."""
    MODEL = 6, Family.BET, False
    """A bet as soon as the model has been asked (`learn/predicted.py`)."""
    REGIMES = 7, Family.MOMENTS, False
    """`RETURN_VOLATILITY` of the mixture that is predicted (`adapt/regime_edges.py`)."""


def is_of(source: Any, family: Family) -> Any:
    """Which entries of a row of sources are of a family, as a mask of NumPy or JAX."""
    return reduce(or_, (source == number for number in _SEEN[family]))


_SEEN = {
    family: tuple(int(one) for one in Source if one.is_seen and one.family is family)
    for family in Family
}
"""Numbers of the sources of a family that are seen: looked up for each decision."""


class Stage(IntEnum):
    """Stages of the waterfall in the order applied; rows of the output, after which `Extra`.

    A new one stands where it is applied; the contract names it, with any free number.
    """

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count

    RAW_KELLY = auto()
    COST = auto()
    CONFIDENCE = auto()
    ROBUST = auto()
    KELLY_FRACTION = auto()
    CORRELATION = auto()
    TRADING_COST = auto()
    VOLATILITY_TARGET = auto()
    STOP_RISK = auto()
    RISK_BUDGET = auto()
    JOINT_OPTIMUM = auto()
    TRADE_RATE = auto()
    PERMISSION = auto()
    MINIMUM_TRADE = auto()
    INSTRUMENT_LIMIT = auto()
    LIQUIDITY = auto()
    GROUP_LIMIT = auto()
    EXPOSURE_LIMIT = auto()
    SHARED_LIMIT = auto()
    TURNOVER_LIMIT = auto()
    CASH = auto()
    RECONCILE = auto()
    BOOK_LIMIT = auto()
    """On the host (`limits/book_stage.py`), after what the kernel returns."""


COMPILED_STAGES = tuple(stage for stage in Stage if stage is not Stage.BOOK_LIMIT)
"""Those that the kernel returns."""


class Extra(IntEnum):
    """Rows of the output that follow the stages."""

    WEIGHT_LOW = 0
    WEIGHT_HIGH = 1
    EXPOSURE_CUT = 2
    """Column of the exposure bound that cut the line last, or -1."""
    EXPOSURE_CUT_KIND = 3
    """0 gross, 1 net maximum, 2 net minimum."""
