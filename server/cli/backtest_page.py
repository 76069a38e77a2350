"""A backtest as one HTML page that opens without a network."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.risk.drawdown import drawdowns
from server.cli.errors import CommandError
from server.cli.labels import stage_name
from server.cli.measure_words import MEASURES, REASONS, measure_row, worded
from server.cli.page import Output, subplots, write_page
from server.cli.page_tables import Plot

HEIGHT = 275
"""Of a plot."""
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
COLUMNS = (*MONTHS, "Year")
GREY = "#777"


def write_backtest(output: Output, answer: pb.RunBacktestResponse) -> None:
    """Wealth, drawdown, exposure, growth by stage, measures and months of every setting."""
    if not len(answer.results) or not len(answer.results[0].equity):
        raise CommandError("a report needs the series", "leave out summary_only")
    shown = [(item.name, item.calendar_returns) for item in answer.results]
    if answer.HasField("benchmark"):
        shown.append((answer.benchmark.name, answer.benchmark.calendar_returns))
    plots = [
        Plot("Equity over its start, log scale", "wealth", "date", "wealth"),
        Plot("Fall from the peak, the start included", "drawdown", "date", "drawdown"),
        Plot("Gross weight", "gross_weight", "date", "gross_weight"),
        Plot("Log growth by stage", "stage_growth", "stage", "log_growth"),
        *(Plot(f"{name}: {_MONTHLY}", "monthly_returns", "month", "year") for name, _ in shown),
        Plot("Measures", "measures", "measure", "value"),  # last: a table has no axes to count
    ]
    kinds = ["table" if plot.table == "measures" else "xy" for plot in plots]
    figure = subplots(plots, specs=[[{"type": kind}] for kind in kinds])
    for number, result in enumerate(answer.results):
        _add(figure, result, list(answer.dates), number)
    if answer.HasField("benchmark"):
        wealth = np.array(answer.benchmark.wealth)
        _path(figure, list(answer.dates), wealth, _look(answer.benchmark.name, GREY, "dot"))
    for place, (name, returns) in enumerate(shown):
        _months(figure, name, returns, row=5 + place)
    _measures(figure, answer, row=len(plots))
    figure.update_yaxes(type="log", row=1, col=1)
    figure.update_layout(height=HEIGHT * len(plots), barmode="group", title=_title(answer))
    write_page(output, figure)


_MONTHLY = "returns by month, last session over the last before it"


def _title(answer: pb.RunBacktestResponse) -> str:
    return (
        f"Backtest, {answer.dates[0]} to {answer.dates[-1]}, "
        f"{answer.overfitting.trials} settings tried, prices {answer.history_hash[:12]}"
    )


def _look(name: str, colour: str, dash: str = "solid") -> dict[str, Any]:
    return {"name": name, "legendgroup": name, "line": {"color": colour, "dash": dash}}


def _path(figure: Any, dates: list[str], equity: Any, look: dict[str, Any]) -> None:
    """Wealth and falls of one path, up to its ruin."""
    import plotly.graph_objects as go

    alive = equity > 0.0
    moved = equity[alive][1:] / equity[alive][:-1] - 1.0
    falls = np.concatenate([[0.0], drawdowns(moved)])
    days = [day for day, is_alive in zip(dates, alive, strict=True) if is_alive]
    figure.add_trace(go.Scatter(x=days, y=equity[alive] / equity[0], **look), row=1, col=1)
    hidden = {**look, "showlegend": False}
    figure.add_trace(go.Scatter(x=days, y=-falls, fill="tozeroy", **hidden), row=2, col=1)


def _add(figure: Any, result: pb.BacktestResult, dates: list[str], number: int) -> None:
    import plotly.graph_objects as go
    from plotly.colors import qualitative

    colour = qualitative.Plotly[number % len(qualitative.Plotly)]
    equity = np.array(result.equity)
    look = _look(result.name, colour)
    _path(figure, dates, equity, look)
    alive = equity > 0.0
    days = [day for day, is_alive in zip(dates, alive, strict=True) if is_alive]
    gross = go.Scatter(x=days, y=np.array(result.gross_weight)[alive], **look, showlegend=False)
    figure.add_trace(gross, row=3, col=1)
    if not result.HasField("stage_growth"):
        return
    ledger = result.stage_growth
    words = [stage_name(stage) for stage in ledger.stages]
    execution = ledger.execution if ledger.HasField("execution") else None
    bars = go.Bar(
        x=[stage_name(ledger.first_stage), *words, "execution"],
        y=[ledger.start, *ledger.steps, execution],
        name=result.name,
        marker={"color": colour},
        legendgroup=result.name,
        showlegend=False,
    )
    figure.add_trace(bars, row=4, col=1)


def _measures(figure: Any, answer: pb.RunBacktestResponse, row: int) -> None:
    """Each measure with its convention, and why it is not defined where it isn't."""
    import plotly.graph_objects as go

    columns = [(item.name, item.measures) for item in answer.results]
    if answer.HasField("benchmark"):
        columns.append((answer.benchmark.name, answer.benchmark.measures))
    cells = [[worded(found, measure) for measure in MEASURES] for _, found in columns]
    words = [[getattr(item, part) for item in MEASURES] for part in ("label", "convention")]
    table = go.Table(
        header={"values": ["measure", "convention", *(name for name, _ in columns)]},
        cells={"values": [*words, *cells], "align": "left"},
        name="measures",
        customdata=[measure_row(n, f, item) for n, f in columns for item in MEASURES],
    )
    figure.add_trace(table, row=row, col=1)


def _months(figure: Any, name: str, returns: Iterable[pb.CalendarReturn], row: int) -> None:
    """A year a row, a month a column, the whole year last."""
    import plotly.graph_objects as go

    by_place = {(item.year, item.month): item for item in returns}
    years = sorted({year for year, _ in by_place})
    cells = [[by_place[year, month] for month in (*range(1, 13), 0)] for year in years]
    heat = go.Heatmap(
        name=name,
        x=list(COLUMNS),
        y=[str(year) for year in years],
        z=[[item.value if item.HasField("value") else None for item in line] for line in cells],
        text=[[_month_words(item) for item in line] for line in cells],
        texttemplate="%{text}",
        hovertemplate="%{y} %{x}: %{text}<extra></extra>",
        colorscale="RdBu",
        zmid=0.0,
        showscale=False,
    )
    figure.add_trace(heat, row=row, col=1)
    figure.update_yaxes(type="category", autorange="reversed", row=row, col=1)


def _month_words(item: pb.CalendarReturn) -> str:
    if item.HasField("value"):
        return f"{item.value:+.1%}"
    return REASONS[item.undefined_reason]
