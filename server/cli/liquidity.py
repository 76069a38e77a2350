"""Commands on liquidity: how liquid instruments were, and how fast to trade."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json, say
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1 import history_service_pb2

_NAMED_MAX = 5


def liquidity(
    prices: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Closes: a row a day, a column a name."),
    ],
    volumes: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Units traded, in the same shape.")
    ],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Amihud's illiquidity and the value traded of each instrument, the most liquid first."""
    from positionsizing.v1 import liquidity_service_pb2 as pb

    from server.cli.history_files import read_history
    from server.cli.labels import money
    from server.cli.render import table

    closes, traded = read_history(prices, "prices"), read_history(volumes, "amounts")
    days, columns = _days(closes), list(closes.instrument_ids)
    for what, wanted, found in (
        ("columns", columns, list(traded.instrument_ids)),
        ("days", days, _days(traded)),
    ):
        if wanted != found:
            raise CommandError(f"{volumes} has not the {what} of {prices}", _apart(wanted, found))
    request = pb.MeasureLiquidityRequest()
    request.prices.dates.extend(days)
    request.prices.instrument_ids.extend(columns)
    request.prices.close.extend(closes.values)
    request.prices.volume.extend(traded.values)
    with connect(address) as client:
        answer = client.liquidity.MeasureLiquidity(request)
    if as_json:
        print_json(answer)
        return
    out = table(
        "Liquidity",
        *("rank", "instrument", "value traded", "illiquidity, of a million", "days", "left out"),
        left=("instrument",),
    )
    order = sorted(range(len(answer.rank)), key=lambda i: (answer.rank[i] == 0, answer.rank[i]))
    for i in order:
        out.add_row(
            str(answer.rank[i] or "-"),
            answer.instrument_ids[i],
            money(answer.value_traded[i]),
            f"{1e6 * answer.illiquidity[i]:.3%}" if answer.rank[i] else "-",
            str(answer.session_count[i]),
            str(answer.left_out_count[i]),
        )
    console().print(out)


def _days(history: "history_service_pb2.History") -> list[str]:
    return [time.ToDatetime().date().isoformat() for time in history.observation_times]


def _apart(wanted: list[str], found: list[str]) -> str:
    """How to make the second list the first."""
    if lacking := [name for name in wanted if name not in found]:
        return f"add {_some(lacking)}"
    if surplus := [name for name in found if name not in wanted]:
        return f"leave out {_some(surplus)}"
    return "write them in the same order"


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def execution(
    trades: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="CSV of instrument_id,quantity."),
    ],
    portfolio: Annotated[str, typer.Option("--portfolio", help="That trades.")],
    snapshot: Annotated[str, typer.Option(help="Market snapshot; default: the newest.")] = "",
    days: Annotated[float, typer.Option(help="In which all is traded.")] = 1.0,
    periods: Annotated[int, typer.Option(help="Of equal length.")] = 10,
    aversion: Annotated[
        float | None,
        typer.Option(help="Of risk, 1 / money; default: 1 / (2 x Kelly fraction x equity)."),
    ] = None,
    covariance: Annotated[
        str, typer.Option(help="Matrix of a day's returns: orders are scheduled together.")
    ] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """How fast to trade, so that impact and the risk of waiting cost least (Almgren-Chriss)."""
    from positionsizing.v1 import liquidity_service_pb2 as pb

    from server.cli.files import read_quantities
    from server.cli.labels import money, units
    from server.cli.render import table

    given = read_quantities(trades)
    request = pb.PlanExecutionRequest(
        portfolio_id=portfolio,
        market_snapshot_id=snapshot,
        instrument_ids=given.instrument_ids,
        quantities=given.quantity,
        days=days,
        period_count=periods,
        risk_aversion=aversion,
        covariance_matrix_id=covariance,
    )
    with connect(address) as client:
        answer = client.liquidity.PlanExecution(request)
    if as_json:
        print_json(answer)
        return
    out = table(
        f"Execution over {days:g} days, risk aversion {answer.risk_aversion:.3g}",
        *("instrument", "cost", "deviation", "straight", "deviation of that", "half done in"),
        left=("instrument",),
    )
    for plan in answer.schedules:
        half = next(
            time
            for time, left in zip(answer.times, plan.left, strict=True)
            if abs(left) <= abs(plan.left[0]) / 2
        )
        amounts = (plan.expected_cost, plan.cost_deviation)
        straight = (plan.straight_cost, plan.straight_deviation)
        out.add_row(plan.instrument_id, *map(money, (*amounts, *straight)), f"{half:g} days")
    console().print(out)
    if answer.HasField("basket"):
        basket = answer.basket
        for words, cost, deviation in (
            ("together", basket.expected_cost, basket.cost_deviation),
            ("each as if alone", basket.apart_cost, basket.apart_deviation),
            ("straight", basket.straight_cost, basket.straight_deviation),
        ):
            say(f"the basket {words}: {money(cost)}, give or take {money(deviation)}")
    for plan in answer.schedules:
        parts = ", ".join(units(trade, sign="+") for trade in plan.trades)
        say(f"{plan.instrument_id}: {parts}")
