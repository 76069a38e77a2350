"""Sizing by risk: volatility targets, fixed risk to a stop, risk budgets, drawdown control."""

from compute.risk.budget import risk_budget_scale as risk_budget_scale
from compute.risk.drawdown import drawdown_controlled_fraction as drawdown_controlled_fraction
from compute.risk.normal import loss_limited_fraction as loss_limited_fraction
from compute.risk.normal import normal_expected_shortfall as normal_expected_shortfall
from compute.risk.normal import normal_value_at_risk as normal_value_at_risk
from compute.risk.stop import loss_at_stop as loss_at_stop
from compute.risk.stop import quantity_for_risk as quantity_for_risk
from compute.risk.stop import stake_for_risk as stake_for_risk
from compute.risk.volatility import ewma_volatility as ewma_volatility
from compute.risk.volatility import volatility_target_weight as volatility_target_weight
