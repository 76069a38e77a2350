"""Growth-optimal stakes: closed forms and their variants, one line of a batch at a time.

Every function is pure, works element by element on float64 arrays of one shape (scalars
broadcast) and can be used inside ``jit``, ``vmap`` and ``grad``. Nothing raises on values: NaN
in a line gives NaN for that line alone, and ``validate`` says beforehand what is wrong with it.

Start with ``classic`` (two outcomes), ``continuous`` (mean and volatility) and ``exact`` (a whole
distribution); ``fractional`` and ``confidence`` shrink a stake, ``interval`` says how sure it is.
"""

from compute.kelly.classic import growth_rate as growth_rate
from compute.kelly.classic import kelly_fraction as kelly_fraction
from compute.kelly.classic import kelly_sensitivity as kelly_sensitivity
from compute.kelly.classic import kelly_stake as kelly_stake
from compute.kelly.confidence import numeric_shrinkage as numeric_shrinkage
from compute.kelly.confidence import shrinkage as shrinkage
from compute.kelly.continuous import continuous_growth_rate as continuous_growth_rate
from compute.kelly.continuous import continuous_kelly_fraction as continuous_kelly_fraction
from compute.kelly.costs import fee_kelly_fraction as fee_kelly_fraction
from compute.kelly.exact import exact_growth_rate as exact_growth_rate
from compute.kelly.exact import exact_kelly_fraction as exact_kelly_fraction
from compute.kelly.exclusive import horse_race as horse_race
from compute.kelly.fractional import ever_fall_probability as ever_fall_probability
from compute.kelly.fractional import growth_ratio as growth_ratio
from compute.kelly.fractional import multiplier_for_drawdown as multiplier_for_drawdown
from compute.kelly.interval import Interval as Interval
from compute.kelly.interval import continuous_standard_error as continuous_standard_error
from compute.kelly.interval import exact_standard_error as exact_standard_error
from compute.kelly.interval import kelly_standard_error as kelly_standard_error
from compute.kelly.interval import normal_interval as normal_interval
from compute.kelly.interval import posterior_interval as posterior_interval
from compute.kelly.many import many_growth_rate as many_growth_rate
from compute.kelly.many import many_kelly_fractions as many_kelly_fractions
from compute.kelly.no_trade import no_trade_region as no_trade_region
from compute.kelly.risk_constrained import drawdown_exponent as drawdown_exponent
from compute.kelly.risk_constrained import risk_constrained_kelly as risk_constrained_kelly
from compute.kelly.robust import robust_kelly as robust_kelly
from compute.kelly.simultaneous import equicorrelation_penalty as equicorrelation_penalty
from compute.kelly.validate import Problem as Problem
