"""Portfolio libraries called as their documentation shows, on the same data and limits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.peer import Array, Call, Task, peer


def _frame(task: Task) -> Any:
    import pandas as pd

    names = [f"A{k:03d}" for k in range(task.size)]
    index = pd.bdate_range("2015-01-01", periods=len(task.returns))
    return pd.DataFrame(task.returns, columns=names, index=index)


@peer("PyPortfolioOpt", "P1 P2 P8 P3")
def pyportfolioopt(task: Task) -> Call:
    import cvxpy as cp
    import pypfopt

    def call() -> Array:
        # It always invests fully: where cash is allowed, cash is one more asset.
        cash = task.code != "P1"
        mean = np.append(task.mean, 0.0) if cash else task.mean
        covariance = np.pad(task.covariance, (0, 1)) if cash else task.covariance
        bounds = list(zip(task.lower, task.upper, strict=True)) + [(0, 1)] * cash
        frontier = pypfopt.EfficientFrontier(mean, covariance, weight_bounds=bounds)
        if task.sectors is not None:
            for row, bound in zip(task.sectors, task.sector_max, strict=True):
                frontier.add_constraint(lambda w, row=row, b=bound: row @ w[: task.size] <= b)
        if task.code == "P1":
            frontier.max_sharpe(risk_free_rate=0.0)
        elif task.code == "P3":
            frontier.convex_objective(
                lambda w: -cp.sum(cp.log(1 + task.returns @ w[: task.size])) / len(task.returns)
            )
        else:
            if task.cost.any():
                frontier.add_objective(lambda w: task.cost @ cp.abs(w[: task.size] - task.holdings))
            frontier.max_quadratic_utility(risk_aversion=task.aversion)
        return frontier.weights[: task.size]

    return call


@peer("skfolio", "P1 P2 P8 P3 P5 P6 P7_maxret_cdar P7_min_cdar P7_min_mdd")
def skfolio_library(task: Task) -> Call:
    import cvxpy as cp
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk, ObjectiveFunction, RiskBudgeting

    frame = _frame(task)
    if task.code == "P6":
        return lambda: RiskBudgeting(risk_measure=RiskMeasure.VARIANCE).fit(frame).weights_
    options: dict[str, Any] = {"min_weights": task.lower[0], "max_weights": task.upper[0]}
    if task.code in ("P2", "P8", "P3"):
        options |= {"budget": None, "min_budget": 0.0, "max_budget": task.budget_max}
    if task.sectors is not None:
        owner = task.sectors.argmax(0)
        options["groups"] = [[f"g{k}" for k in owner]]
        options["linear_constraints"] = [
            f"g{k} <= {bound}" for k, bound in enumerate(task.sector_max)
        ]
    if task.cost.any():
        options |= {"transaction_costs": task.cost[0], "previous_weights": task.holdings}
    goal, measure = {
        "P1": (ObjectiveFunction.MAXIMIZE_RATIO, RiskMeasure.VARIANCE),
        "P2": (ObjectiveFunction.MAXIMIZE_UTILITY, RiskMeasure.VARIANCE),
        "P8": (ObjectiveFunction.MAXIMIZE_UTILITY, RiskMeasure.VARIANCE),
        "P3": (ObjectiveFunction.MAXIMIZE_RETURN, RiskMeasure.VARIANCE),
        "P5": (ObjectiveFunction.MINIMIZE_RISK, RiskMeasure.CVAR),
        "P7_min_cdar": (ObjectiveFunction.MINIMIZE_RISK, RiskMeasure.CDAR),
        "P7_min_mdd": (ObjectiveFunction.MINIMIZE_RISK, RiskMeasure.MAX_DRAWDOWN),
        "P7_maxret_cdar": (ObjectiveFunction.MAXIMIZE_RETURN, RiskMeasure.CDAR),
    }[task.code]
    if task.code in ("P2", "P8"):
        options["risk_aversion"] = task.aversion / 2.0
    if task.code == "P7_maxret_cdar":
        options["max_cdar"] = task.cdar_max
    if task.code == "P3":
        count = len(task.returns)
        options["overwrite_expected_return"] = lambda w: (
            cp.sum(cp.log(1 + task.returns @ w)) / count
        )
    if task.code.startswith("P7") or task.code == "P5":
        options |= {"cvar_beta": task.tail, "cdar_beta": task.tail}
    return lambda: (
        MeanRisk(objective_function=goal, risk_measure=measure, **options).fit(frame).weights_
    )


@peer("Riskfolio", "P1 P3 P3L P5 P6 P7_maxret_cdar P7_min_cdar P7_min_mdd")
def riskfolio_library(task: Task) -> Call:
    import riskfolio as rp

    frame = _frame(task)

    def call() -> Array:
        portfolio = rp.Portfolio(returns=frame, alpha=1.0 - task.tail)
        portfolio.assets_stats(method_mu="hist", method_cov="hist")
        portfolio.upperlng, portfolio.budget = float(task.upper[0]), task.budget_max
        portfolio.nea = None
        if task.code == "P6":
            portfolio.upperlng = 1.0
            found = portfolio.rp_optimization(model="Classic", rm="MV", rf=0.0, hist=True)
            return found.to_numpy().ravel()
        options: dict[str, Any] = {
            "P1": {"rm": "MV", "obj": "Sharpe"},
            "P3": {"rm": "MV", "obj": "MaxRet", "kelly": "exact"},
            "P3L": {"rm": "MV", "obj": "MaxRet", "kelly": "exact"},
            "P5": {"rm": "CVaR", "obj": "MinRisk"},
            "P7_min_cdar": {"rm": "CDaR", "obj": "MinRisk"},
            "P7_min_mdd": {"rm": "MDD", "obj": "MinRisk"},
            "P7_maxret_cdar": {"rm": "CDaR", "obj": "MaxRet"},
        }[task.code]
        if task.code == "P7_maxret_cdar":
            portfolio.upperCDaR = task.cdar_max
        found = portfolio.optimization(model="Classic", rf=0.0, hist=True, **options)
        if found is None:
            raise RuntimeError("no solution")
        return found.to_numpy().ravel()

    return call


@peer("cvxportfolio", "P2")
def cvxportfolio_library(task: Task) -> Call:
    import cvxportfolio as cx
    import pandas as pd

    names = list(_frame(task).columns)
    mean = pd.Series(task.mean, names)
    covariance = pd.DataFrame(task.covariance, names, names)
    held = pd.Series(np.append(task.holdings, 1.0 - task.holdings.sum()), [*names, "cash"]) * 1e6
    frame = _frame(task)
    frame["cash"] = 0.0
    data = cx.UserProvidedMarketData(returns=frame, cash_key="cash", min_history=pd.Timedelta(0))
    goal = (
        cx.ReturnsForecast(mean)
        - 0.5 * task.aversion * cx.FullCovariance(covariance)
        - cx.TransactionCost(a=float(task.cost[0]), b=None)
    )
    exposure = pd.DataFrame(task.sectors.T, index=names)
    limits = [cx.LongOnly(), cx.MaxWeights(float(task.upper[0])), cx.LeverageLimit(1.0)]
    limits.append(cx.FactorMaxLimit(exposure, pd.Series(task.sector_max)))

    def call() -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            policy = cx.SinglePeriodOptimization(goal, limits, include_cash_return=False)
            trades, *_ = policy.execute(held, data)
        after = held + trades
        return after.to_numpy()[:-1] / held.sum()

    return call
