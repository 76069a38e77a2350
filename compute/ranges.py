"""The range of every number that callers may give: one table, by message and field.

A number outside is not a position anybody holds or a price anybody pays, but a slip of a decimal
point, of a unit or of a program. Sized all the same it would be wrong by that factor, and far
enough outside it overflows. The comments of the contract name the same ranges.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OUTCOMES_MAX = 8192
"""The longest history that is compiled for (`kernels.HISTORY_BUCKETS`)."""

TINY = 1e-100
"""No number but 0 may be nearer to 0: what is divided by it overflows."""

COUNT_MAX = 9e15
"""Beyond 2^53 a double no longer counts one by one."""


@dataclass(frozen=True)
class Range:
    """From `least` to `most`, both included; with `or_zero` also 0, where 0 stands for none."""

    least: float
    most: float
    unit: str = ""
    or_zero: bool = False
    hint: str = ""
    """Asked of who is beyond `most`, most likely by a factor of a hundred."""

    @property
    def text(self) -> str:
        """Completes 'it must be ...'."""
        zero = "0 or " if self.or_zero else ""
        return f"{zero}from {_plain(self.least)} to {_plain(self.most)}"

    def advice(self, value: float) -> str:
        """What would be right instead of `value`."""
        told = self.text + (f" ({self.unit})" if self.unit else "")
        if 0.0 < abs(value) < TINY:
            return f"{told}, and 0 rather than nearer to 0 than {_plain(TINY)}"
        return f"{told}; {self.hint}" if self.hint and value > self.most else told

    def holds(self, values: Floats) -> bool:
        """Whether all are inside; NaN is not."""
        low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
        if self.least <= low and high <= self.most and (low > TINY or high < -TINY):
            return True
        return not self.wrong(values).any()

    def wrong(self, values: Floats) -> NDArray[np.bool_]:
        """Which are outside, NaN among them."""
        inside = (values >= self.least) & (values <= self.most) & (np.abs(values) >= TINY)
        zero = self.or_zero or self.least <= 0.0 <= self.most
        return ~(inside | (values == 0.0)) if zero else ~inside


def _plain(number: float) -> str:
    """As people write it: 0.05, 1e9, 1e-6."""
    text = f"{number:.12g}"
    if "e" not in text and abs(number) >= 1e6 and number == float(f"{number:.3g}"):
        text = f"{number:.0e}" if number == float(f"{number:.0e}") else f"{number:.2e}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


_PERCENT = "is this percent? 12 % is 0.12"
_SMALL, _LARGE = 1e-9, 1e9
_NEAR_0, _NEAR_1 = 1e-6, 0.999999
_WEIGHT = Range(0.0, _LARGE, "a fraction of equity; 5 % is 0.05")
_SIGNED_WEIGHT = Range(-_LARGE, _LARGE, "a fraction of equity; 5 % is 0.05")
_MONEY = Range(0.0, 1e18, "money")
_PRICE = Range(1e-12, 1e12, "a price")
_STOP = Range(1e-12, 1e12, "a price, or 0 for none", or_zero=True)
_RETURN = Range(-1.0, 1.0, "a return per period, as a fraction", hint=_PERCENT)
_RATE = Range(0.0, 0.5, "a fraction", hint=_PERCENT)
_ANNUAL = Range(0.0, 1.0, "a rate a year, as a fraction", hint=_PERCENT)
_SHARE = Range(0.0, 1e6, "a share of daily volume")
_PROBABILITY = Range(0.0, 1.0, "a probability", hint=_PERCENT)
_UNIT = Range(0.0, 1.0, "a coefficient")
_INNER = Range(_NEAR_0, _NEAR_1, "a fraction", hint=_PERCENT)
_LEVEL = Range(0.5, 0.99999, "a confidence level", hint=_PERCENT)
_RISK = Range(_SMALL, _LARGE, "a fraction of equity; 5 % is 0.05")
_NUMBER = Range(-_LARGE, _LARGE)
_POSITIVE = Range(_SMALL, _LARGE)
_NONNEGATIVE = Range(0.0, _LARGE)
_MULTIPLIER = Range(1e-6, 1e6, "a multiplier")
_VERSION = Range(0, COUNT_MAX, "a version")
_PAGE = Range(0, 2**31 - 1, "entries")

RANGES: dict[str, Range] = {
    # Signals: a wrong number refuses its line (`signals.check`).
    "SignalBatch.win_probability": _PROBABILITY,
    "SignalBatch.payoff": Range(_SMALL, 1e6, "gain over stake"),
    "SignalBatch.loss_fraction": Range(_SMALL, 1.0, "loss over stake", hint=_PERCENT),
    "SignalBatch.expected_return": _RETURN,
    "SignalBatch.volatility": Range(
        _NEAR_0, 5.0, "a standard deviation, as a fraction", hint="is this percent? 25 % is 0.25"
    ),
    "SignalBatch.confidence": Range(1e-6, 1.0, "a share; 1 is certain", hint=_PERCENT),
    "SignalBatch.win_probability_error": Range(0.0, 1.0, "a standard error", hint=_PERCENT),
    "SignalBatch.expected_return_error": Range(0.0, 1.0, "a standard error", hint=_PERCENT),
    "SignalBatch.stop_price": _STOP,
    "SignalBatch.holding_periods": Range(0.01, 1e6, "periods, or 0 for not known", or_zero=True),
    "SignalBatch.cost_rate": _RATE,
    "SignalBatch.edge_half_life_periods": Range(
        0.01, 1e6, "periods, or 0 for an edge that stays", or_zero=True
    ),
    "SignalBatch.history_outcome": Range(-1.0, 1e6, "a return on the stake, as a fraction"),
    "SignalBatch.history_length": Range(0, OUTCOMES_MAX, "outcomes"),
    # Markets and matrices.
    "MarketSnapshot.price": Range(-1e12, 1e12, "a price"),
    "MarketSnapshot.volatility": Range(
        0.0, 5.0, "a year's standard deviation", hint="is this percent? 25 % is 0.25"
    ),
    "MarketSnapshot.average_daily_volume": Range(0.0, 1e18, "units"),
    "MarketSnapshot.spread": Range(0.0, 1.0, "a fraction of the price", hint=_PERCENT),
    "MarketSnapshot.lot_size": Range(1e-12, 1e12, "units"),
    "MarketSnapshot.stop_price": _STOP,
    "MarketSnapshot.multiplier": Range(1e-12, 1e12, "currency units for one point"),
    "MarketSnapshot.margin_rate_long": Range(1e-4, 10.0, "a fraction of the value"),
    "MarketSnapshot.margin_rate_short": Range(1e-4, 10.0, "a fraction of the value"),
    "MarketSnapshot.initial_margin_long": _MONEY,
    "MarketSnapshot.initial_margin_short": _MONEY,
    "MarketSnapshot.underlying_price": Range(1e-12, 1e12, "a price, or 0 for none", or_zero=True),
    "MarketSnapshot.delta": Range(1e-6, 10.0, "its size, of a put"),
    "MarketSnapshot.quantity_min": Range(0.0, 1e18, "units"),
    "MarketSnapshot.notional_min": _MONEY,
    "MarketSnapshot.quantity_max": Range(0.0, 1e18, "units, or 0 for none"),
    "MarketSnapshot.fee_rate": Range(0.0, 0.5, "a fraction of the value", hint=_PERCENT),
    "MarketSnapshot.fee_per_unit": _MONEY,
    "MarketSnapshot.fee_fixed": _MONEY,
    "MarketSnapshot.fee_min": _MONEY,
    "ExchangeRate.rate": Range(1e-12, 1e12),
    "Matrix.scenario_probability": Range(1e-12, 1.0, "a probability"),
    "DenseMatrix.values": _NUMBER,
    "MatrixProvenance.observation_count": Range(0, 1e9, "periods"),
    "MatrixProvenance.smallest_eigenvalue": _NUMBER,
    "MatrixProvenance.repair_distance": Range(0.0, 1e9),
    "MatrixProvenance.log_likelihood": Range(-1e12, 1e12, "nats a period"),
    "MatrixProvenance.log_likelihood_sample": Range(-1e12, 1e12, "nats a period"),
    "EstimatorNumber.value": _NUMBER,
    "UpperTriangle.values": _NUMBER,
    "FactorForm.loadings": _NUMBER,
    "FactorForm.factor_covariance": _NUMBER,
    "FactorForm.specific_variance": _NONNEGATIVE,
    "History.values": Range(-1.0, 1e12, "a price, or a return of at least -1"),
    "History.missing": Range(0, 5e6, "places"),
    "ListHistoriesRequest.page_size": _PAGE,
    # Edges.
    "EstimateEdgeRequest.history_outcome": Range(-1.0, 1e6, "a return on the stake, as a fraction"),
    "EstimateEdgeRequest.history_length": Range(0, OUTCOMES_MAX, "outcomes"),
    "EstimateEdgeRequest.half_life": Range(0.5, 1e6, "outcomes"),
    "EstimateEdgeRequest.prior_wins": Range(1e-6, 1e6, "pseudo wins"),
    "EstimateEdgeRequest.prior_losses": Range(1e-6, 1e6, "pseudo losses"),
    "EstimateEdgeRequest.risk_free_rate": Range(-0.5, 0.5, "a return per period", hint=_PERCENT),
    "EstimateEdgeRequest.interval_probability": _INNER,
    "EstimateEdgeRequest.prior_mean": _RETURN,
    "EstimateEdgeRequest.prior_error": Range(0.0, 1.0, "a standard error", hint=_PERCENT),
    "EdgeView.coefficients": _NUMBER,
    "EdgeView.expected_return": _RETURN,
    "EdgeView.error": Range(0.0, 1.0, "a standard error", hint=_PERCENT),
    # Books.
    "Portfolio.cash": Range(-1e18, 1e18, "money"),
    "SetHoldingsRequest.cash": Range(-1e18, 1e18, "money"),
    "RenamePortfolioRequest.expected_version": _VERSION,
    "SetHoldingsRequest.expected_version": _VERSION,
    "Holdings.quantity": Range(-1e18, 1e18, "units"),
    "Holdings.average_price": Range(1e-12, 1e12, "a price, or 0 for not known", or_zero=True),
    "Fills.lots": Range(-COUNT_MAX, COUNT_MAX, "lots"),
    "Fills.price": Range(-1e12, 1e12, "a price"),
    "Fills.exchange_rate": Range(1e-12, 1e12, "a rate, or 0 for the market's", or_zero=True),
    "Fills.fee": _MONEY,
    # Limits.
    "Limits.weight_max": _WEIGHT,
    "Limits.notional_max": _MONEY,
    "Limits.gross_notional_max": _MONEY,
    "Limits.leverage_max": Range(0.0, _LARGE, "times equity"),
    "Limits.net_weight_min": _SIGNED_WEIGHT,
    "Limits.net_weight_max": _SIGNED_WEIGHT,
    "Limits.turnover_max": _WEIGHT,
    "Limits.cash_buffer": Range(0.0, 1.0, "a fraction of equity", hint=_PERCENT),
    "Limits.fee_rate": _RATE,
    "Limits.short_margin_rate": Range(0.0, 10.0, "of the short notional", hint=_PERCENT),
    "Limits.adv_trade_max": _SHARE,
    "Limits.adv_position_max": _SHARE,
    "Limits.trade_notional_min": _MONEY,
    "Limits.trade_notional_max": _MONEY,
    "Limits.trade_weight_min": _WEIGHT,
    "Limits.exit_days_max": Range(0.0, 1e6, "days"),
    "Limits.participation_rate": Range(1e-6, 1.0, "a share of daily volume", hint=_PERCENT),
    "Limits.positions_max": Range(0, 1_000_000, "positions"),
    "InstrumentLimit.weight_max": _WEIGHT,
    "InstrumentLimit.notional_max": _MONEY,
    "InstrumentLimit.quantity_max": Range(0.0, 1e18, "units"),
    "GroupLimit.gross_weight_max": _WEIGHT,
    "GroupLimit.net_weight_min": Range(-_LARGE, 0.0, "a fraction of equity"),
    "GroupLimit.net_weight_max": _WEIGHT,
    "JointLimits.volatility_max": _RISK,
    "JointLimits.var_max": _RISK,
    "JointLimits.var_level": _LEVEL,
    "JointLimits.cvar_max": _RISK,
    "JointLimits.cvar_level": _LEVEL,
    "JointLimits.cdar_max": _RISK,
    "JointLimits.cdar_level": _LEVEL,
    "JointLimits.wealth_floor": _INNER,
    "JointLimits.wealth_floor_probability": _INNER,
    "LinearLimit.coefficients": _NUMBER,
    "LinearLimit.lower": _NUMBER,
    "LinearLimit.upper": _NUMBER,
    "LinearLimit.soft_price": _POSITIVE,
    "SharedLimits.gross_notional_max": _MONEY,
    "SharedLimits.instrument_notional_max": _MONEY,
    "SetLimitsRequest.expected_version": _VERSION,
    "GetLimitsRequest.version": _VERSION,
    "BenchmarkWeights.weights": Range(0.0, 1.0, "a fraction", hint=_PERCENT),
    # Parameters.
    "AlgorithmParameter.value": Range(-1e12, 1e12),
    "SizingParameters.kelly_fraction": Range(_NEAR_0, 1.0, "of Kelly", hint=_PERCENT),
    "SizingParameters.risk_free_rate": Range(-0.5, 0.5, "a return per period", hint=_PERCENT),
    "SizingParameters.cost_rate": _RATE,
    "SizingParameters.impact_coefficient": Range(0.0, 10.0, "about 0.7"),
    "RobustEdge.radius": Range(0.0, 10.0, "in the unit of the set"),
    "SizingParameters.trade_rate": Range(_NEAR_0, 1.0, "a part of the way", hint=_PERCENT),
    "SizingParameters.volatility_target": Range(
        _NEAR_0, 5.0, "a year's standard deviation", hint=_PERCENT
    ),
    "SizingParameters.stop_risk_max": Range(_SMALL, 1.0, "a fraction of equity", hint=_PERCENT),
    "SizingParameters.risk_budget": Range(_SMALL, 1e3, "a fraction of equity"),
    "SizingParameters.interval_probability": _INNER,
    "SizingParameters.fill_deviation_max": Range(1e-6, 10.0, "a fraction of the price"),
    "SizingParameters.price_jump_max": Range(1e-6, 1e6, "a fraction of the price"),
    "SizingParameters.equity_jump_max": Range(1e-6, 1e6, "a fraction of equity"),
    "SizingParameters.prior_wins": Range(1e-6, 1e6, "pseudo wins"),
    "SizingParameters.prior_losses": Range(1e-6, 1e6, "pseudo losses"),
    "SizingParameters.periods_per_year": Range(1.0, 1e6, "periods"),
    "SizingParameters.drawdown_floor": Range(
        _NEAR_0, _NEAR_1, "of the highest equity", hint=_PERCENT
    ),
    "VolatilityModel.periods_per_year": Range(1.0, 4e7, "periods"),
    "VolatilityModel.half_life": Range(1.0, 1000.0, "periods"),
    "VolatilityModel.band": Range(0.0, 1.0, "a part of the volatility", hint=_PERCENT),
    "VolatilityModel.observations_min": Range(1, 1000, "returns"),
    "GarchModel.alpha": _UNIT,
    "GarchModel.beta": _UNIT,
    "GarchModel.gamma": _UNIT,
    "GarchModel.long_run_volatility": Range(
        _NEAR_0, 5.0, "a year's standard deviation", hint="is this percent? 25 % is 0.25"
    ),
    "ConditionRule.multiplier": Range(0.0, 1.0, "of the Kelly fraction", hint=_PERCENT),
    "ConditionRule.stale_multiplier": Range(0.0, 1.0, "of the Kelly fraction", hint=_PERCENT),
    "ConditionRule.enter": _NUMBER,
    "ConditionRule.leave": _NUMBER,
    "ConditionRule.dwell": Range(0, 100, "observations"),
    "Condition.value": _NUMBER,
    "ScheduleRow.multiplier": Range(0.0, 1.0, "of the Kelly fraction", hint=_PERCENT),
    "DrawdownTolerance.wealth_floor": _INNER,
    "DrawdownTolerance.probability": _INNER,
    "SetParametersRequest.expected_version": _VERSION,
    # Requests.
    "SizePositionsRequest.expected_portfolio_version": _VERSION,
    "Variation.price_multiplier": _MULTIPLIER,
    "Variation.edge_multiplier": Range(1e-6, 1e6, "a multiplier", or_zero=True),
    "Variation.equity_multiplier": _MULTIPLIER,
    "Variation.volatility_multiplier": _MULTIPLIER,
    "InstrumentShock.price_multiplier": _MULTIPLIER,
    "InstrumentShock.edge_multiplier": Range(1e-6, 1e6, "a multiplier", or_zero=True),
    "InstrumentShock.volatility_multiplier": _MULTIPLIER,
    "ListMarketSnapshotsRequest.page_size": _PAGE,
    "ListPortfoliosRequest.page_size": _PAGE,
    "ListReservationsRequest.page_size": _PAGE,
    "ListDecisionsRequest.page_size": _PAGE,
    "ListParameterVersionsRequest.page_size": _PAGE,
    # Joint problems.
    "Objective.risk_aversion": Range(0.0, 1e6),
    "Objective.tail_level": Range(_NEAR_0, 0.99999, "a confidence level", hint=_PERCENT),
    "Objective.budgets": _POSITIVE,
    "ObjectiveTerm.weight": _POSITIVE,
    "OptimizationProblem.mean": _NUMBER,
    "OptimizationProblem.weight_min": _NUMBER,
    "OptimizationProblem.weight_max": _NUMBER,
    "OptimizationProblem.budget_min": _NUMBER,
    "OptimizationProblem.budget_max": _NUMBER,
    "OptimizationProblem.gross_max": _NONNEGATIVE,
    "OptimizationProblem.turnover_max": _NONNEGATIVE,
    "OptimizationProblem.holdings": _NUMBER,
    "OptimizationProblem.trade_max": _NONNEGATIVE,
    "OptimizationProblem.linear_cost": _NONNEGATIVE,
    "OptimizationProblem.impact_cost": _NONNEGATIVE,
    "OptimizationProblem.drawdown_max": _NONNEGATIVE,
    "OptimizationProblem.cash_return": Range(-0.5, 0.5, "a return per period", hint=_PERCENT),
    "LotRules.lot_weight": Range(1e-12, _LARGE, "a fraction of equity"),
    "LotRules.trade_min": _NONNEGATIVE,
    "LotRules.position_min": _NONNEGATIVE,
    "LotRules.names_max": Range(1, 2**31 - 1, "instruments"),
    "TraceFrontierRequest.point_count": Range(2, 200, "points, or 0 for 20", or_zero=True),
    # Backtests and simulated futures.
    "PriceTable.close": Range(1e-12, 1e12, "a price, or 0 where missing", or_zero=True),
    "PriceTable.open": Range(1e-12, 1e12, "a price, or 0 where missing", or_zero=True),
    "PriceTable.dividend": Range(0.0, 1e12, "money a unit"),
    "PriceTable.split": Range(1e-6, 1e6, "units for one"),
    "PriceTable.volume": Range(0.0, 1e18, "units"),
    "MeanReturnStrategy.sessions": Range(2, 2520, "sessions"),
    "TradingCosts.commission_fixed": Range(0.0, 1e6, "money a trade"),
    "TradingCosts.commission_rate": _RATE,
    "TradingCosts.slippage_rate": _RATE,
    "TradingCosts.credit_rate": _ANNUAL,
    "TradingCosts.debit_rate": _ANNUAL,
    "TradingCosts.borrow_rate": _ANNUAL,
    "BacktestSetting.cash": Range(1e-6, 1e15, "money"),
    "BacktestSetting.lot_size": Range(1e-12, 1e12, "units"),
    "BacktestSetting.rebalance_sessions": Range(1, 100_000, "sessions"),
    "RunBacktestRequest.sessions_per_year": Range(1.0, 400.0, "sessions"),
    "RunBacktestRequest.trials_before": Range(0, 1_000_000_000, "settings"),
    "RunBacktestRequest.risk_free_rate": Range(0.0, 0.1, "a rate a session", hint=_PERCENT),
    "TunedRange.low": Range(-1e18, 1e18),
    "TunedRange.high": Range(-1e18, 1e18),
    "TuneParametersRequest.trials": Range(16, 1024, "settings"),
    "TuneParametersRequest.segments": Range(3, 20, "segments"),
    "TuneParametersRequest.quantile": Range(0.0, 0.5, "a quantile", hint=_PERCENT),
    "TuneParametersRequest.locked_share": Range(0.05, 0.5, "a part of the sessions", hint=_PERCENT),
    "TuneParametersRequest.trials_before": Range(0, 1_000_000_000, "settings"),
    "TuneParametersRequest.seed": Range(0, 4_294_967_295),
    "NormalReturns.mean": Range(-10.0, 10.0, "a return a year, as a fraction", hint=_PERCENT),
    "NormalReturns.volatility": Range(_NEAR_0, 10.0, "a year's standard deviation", hint=_PERCENT),
    "NormalReturns.degrees_of_freedom": Range(2.000001, 1e6),
    "BootstrapReturns.excess_returns": Range(-1.0, 100.0, "a return, as a fraction"),
    "BootstrapReturns.block_length": Range(1.0, 1e6, "steps"),
    "SimulateGrowthRequest.fractions": Range(-100.0, 100.0, "a fraction of equity"),
    "SimulateGrowthRequest.years": Range(0.001, 1000.0, "years"),
    "SimulateGrowthRequest.steps_per_year": Range(1, 252, "steps"),
    "SimulateGrowthRequest.paths": Range(100, 20_000, "paths"),
    "SimulateGrowthRequest.levels": _INNER,
    "SimulateGrowthRequest.risk_free_rate": _ANNUAL,
    "SimulateGrowthRequest.seed": Range(0, COUNT_MAX),
    # Learning.
    "FeatureColumn.values": _NUMBER,
    "TrainingRows.payoff": Range(_SMALL, 1e6, "gain over stake"),
    "TrainingRows.loss_fraction": Range(_SMALL, 1.0, "loss over stake", hint=_PERCENT),
    "TrainingRows.win_probability": _PROBABILITY,
    "TrainModelRequest.folds": Range(2, 50, "blocks, or 0 for 5", or_zero=True),
    "TrainModelRequest.ridge": _NONNEGATIVE,
    "TrainModelRequest.kelly_fraction": Range(_NEAR_0, 1.0, "of Kelly", hint=_PERCENT),
    "TrainModelRequest.trials_before": Range(0, 1_000_000_000, "models"),
    "ListModelsRequest.page_size": _PAGE,
}
