"""Commands on portfolios: made, shown, listed, renamed, closed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Group,
    Reason,
    connect,
    console,
    print_json,
    say,
)
from server.cli.errors import CommandError
from server.cli.portfolio_shown import show_portfolio

if TYPE_CHECKING:
    from positionsizing.v1 import portfolio_service_pb2


portfolio = typer.Typer(no_args_is_help=True, help="Holdings, limits, trading state.")

PortfolioId = Annotated[str, typer.Argument(metavar="PORTFOLIO", help="Id of the portfolio.")]
SomePortfolio = Annotated[str, typer.Argument(metavar="[PORTFOLIO]", help="Id, or an option.")]
HoldingsFile = Annotated[
    Path | None,
    typer.Option(
        "--holdings",
        exists=True,
        dir_okay=False,
        help="Table: instrument_id,quantity[,average_price].",
    ),
]

CashIn = Annotated[
    list[str] | None,
    typer.Option("--cash-in", metavar="CURRENCY=AMOUNT", help="An account, e.g. EUR=5000; repeat."),
]


@portfolio.command()
def create(
    portfolio_id: PortfolioId,
    currency: Annotated[str, typer.Option(help="Base currency, ISO 4217.")] = "USD",
    cash: Annotated[float, typer.Option(help="Cash, base currency.")] = 0.0,
    cash_in: CashIn = None,
    holdings: HoldingsFile = None,
    group: Annotated[str, typer.Option(help="Group whose limits it shares.")] = "",
    name: Annotated[str, typer.Option(help="Name for people.")] = "",
    time_zone: Annotated[str, typer.Option(help="Of its trading day, IANA; default: UTC.")] = "",
    universe: Annotated[
        str, typer.Option(help="Of the market snapshots it is priced at; default: no name.")
    ] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Creates a portfolio; the same one again is no error."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli import files

    wanted = pb.Portfolio(
        portfolio_id=portfolio_id,
        display_name=name,
        base_currency=currency,
        group_id=group,
        cash=cash,
        holdings=files.read_holdings(holdings) if holdings else None,
        cash_balances=balances(cash_in),
        time_zone=time_zone,
        universe_id=universe,
    )
    with connect(address) as client, files.naming_lines(holdings):
        made = client.portfolios.CreatePortfolio(pb.CreatePortfolioRequest(portfolio=wanted))
    show_portfolio(made.portfolio, as_json)


@portfolio.command()
def show(
    portfolio_id: PortfolioId, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS
) -> None:
    """Shows cash, holdings and trading state."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    with connect(address) as client:
        found = client.portfolios.GetPortfolio(pb.GetPortfolioRequest(portfolio_id=portfolio_id))
    show_portfolio(found.portfolio, as_json)
    if found.HasField("trading_day") and not as_json:
        day = found.trading_day
        passed = ", day_loss_max passed" if day.HasField("pass_time") else ""
        zone = found.portfolio.time_zone
        say(f"  {day.day} ({zone}): {-day.loss:+.2%} of {day.equity_start:,.2f}{passed}")


@portfolio.command("list")
def list_portfolios(
    group: Group = "",
    closed: Annotated[bool, typer.Option("--closed", help="Closed ones too.")] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists portfolios by id."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli.portfolio_shown import cash_words, state_words
    from server.cli.render import table

    answer = pb.ListPortfoliosResponse(next_page_token="")
    request = pb.ListPortfoliosRequest(group_id=group, include_closed=closed, page_size=1000)
    with connect(address) as client:
        while True:
            page = client.portfolios.ListPortfolios(request)
            answer.portfolios.extend(page.portfolios)
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if as_json:
        print_json(answer)
        return
    names: tuple[str, ...] = ("portfolio", "name", "group", "state")
    if has_universes := any(item.universe_id for item in answer.portfolios):
        names += ("universe",)
    drop = ("version", "group", "name")
    out = table("Portfolios", *names, "cash", "version", left=names, drop=drop)
    for item in answer.portfolios:
        identity = (item.portfolio_id, item.display_name, item.group_id, state_words(item))
        of = (item.universe_id,) if has_universes else ()
        out.add_row(*identity, *of, cash_words(item), str(item.version))
    console().print(out)


@portfolio.command()
def rename(
    portfolio_id: PortfolioId,
    name: Annotated[str, typer.Argument(help="New name for people.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Changes the name for people; the id stays."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    request = pb.RenamePortfolioRequest(portfolio_id=portfolio_id, display_name=name)
    with connect(address) as client:
        show_portfolio(client.portfolios.RenamePortfolio(request).portfolio, as_json)


@portfolio.command()
def close(
    portfolio_id: PortfolioId,
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Closes a portfolio for good, once nothing is held or reserved.

    Its id stays taken, and its decisions and history stay readable: records are never deleted.
    """
    from positionsizing.v1 import portfolio_service_pb2 as pb

    request = pb.ClosePortfolioRequest(portfolio_id=portfolio_id, reason=reason)
    with connect(address) as client:
        show_portfolio(client.portfolios.ClosePortfolio(request).portfolio, as_json)


def balances(given: list[str] | None) -> "list[portfolio_service_pb2.CashBalance]":
    """Amounts by currency as they are written on the command line."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli.sheet import parse_number

    out = []
    for text in given or ():
        code, equals, amount = text.partition("=")
        if not (code and equals):
            raise CommandError(f"{text!r} is no amount of cash", "write CURRENCY=AMOUNT: EUR=5000")
        out.append(pb.CashBalance(currency=code, amount=parse_number(amount, "amount", text)))
    return out
