"""A backtest as one HTML page that opens without a network."""

from pathlib import Path
from typing import Any

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.risk.drawdown import drawdowns
from server.cli.errors import CommandError
from server.cli.labels import stage_name
from server.cli.page import subplots, write_page

HEIGHT = 1100


def write_backtest(path: Path, answer: pb.RunBacktestResponse) -> None:
    """Equity, drawdown, exposure and growth by stage of every setting."""
    if not len(answer.results) or not len(answer.results[0].equity):
        raise CommandError("a report needs the series", "leave out summary_only")
    titles = (
        "Equity over its start, log scale",
        "Fall from the peak",
        "Gross weight",
        "Log growth by stage",
    )
    figure = subplots(titles)
    for number, result in enumerate(answer.results):
        _add(figure, result, list(answer.dates), number)
    figure.update_yaxes(type="log", row=1, col=1)
    figure.update_layout(height=HEIGHT, barmode="group", title=_title(answer))
    write_page(path, figure)


def _title(answer: pb.RunBacktestResponse) -> str:
    return (
        f"Backtest, {answer.dates[0]} to {answer.dates[-1]}, "
        f"{answer.overfitting.trials} settings tried, prices {answer.history_hash[:12]}"
    )


def _add(figure: Any, result: pb.BacktestResult, dates: list[str], number: int) -> None:
    import plotly.graph_objects as go
    from plotly.colors import qualitative

    colour = qualitative.Plotly[number % len(qualitative.Plotly)]
    equity = np.array(result.equity)
    alive = equity > 0.0
    falls = np.concatenate(
        [[0.0], np.asarray(drawdowns(equity[alive][1:] / equity[alive][:-1] - 1.0))]
    )
    days = [day for day, is_alive in zip(dates, alive, strict=True) if is_alive]
    look: dict[str, Any] = {
        "name": result.name,
        "legendgroup": result.name,
        "line": {"color": colour},
    }
    figure.add_trace(go.Scatter(x=days, y=equity[alive] / equity[0], **look), row=1, col=1)
    hidden = {**look, "showlegend": False}
    figure.add_trace(go.Scatter(x=days, y=-falls, fill="tozeroy", **hidden), row=2, col=1)
    gross = np.array(result.gross_weight)[alive]
    figure.add_trace(go.Scatter(x=days, y=gross, **hidden), row=3, col=1)
    if not result.HasField("stage_growth"):
        return
    ledger = result.stage_growth
    words = [stage_name(stage) for stage in ledger.stages]
    bars = go.Bar(
        x=[stage_name(ledger.first_stage), *words, "execution"],
        y=[ledger.start, *ledger.steps, ledger.execution],
        name=result.name,
        marker={"color": colour},
        legendgroup=result.name,
        showlegend=False,
    )
    figure.add_trace(bars, row=4, col=1)
