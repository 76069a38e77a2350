"""Commands on what a portfolio owns: its books, its cash by currency, its equity."""

import uuid
from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, Reason, connect, print_json, say
from server.cli.errors import CommandError
from server.cli.portfolio import CashIn, HoldingsFile, PortfolioId, balances
from server.cli.portfolio_shown import show_portfolio

commands = typer.Typer()

_KINDS = ("payment", "income", "conversion")


@commands.command()
def set_holdings(
    portfolio_id: PortfolioId,
    cash: Annotated[float, typer.Option(help="New cash, base currency.")],
    holdings: HoldingsFile = None,
    cash_in: CashIn = None,
    payment: Annotated[
        float | None, typer.Option(help="Paid in (out: below 0) of the change; default: all.")
    ] = None,
    confirm_equity: Annotated[
        bool, typer.Option("--confirm-equity", help="Right, however far the equity moves.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Replaces cash and holdings; without a file nothing is held.

    Accounts in other currencies that no --cash-in names are closed.
    """
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli import files

    request = pb.SetHoldingsRequest(
        portfolio_id=portfolio_id,
        cash=cash,
        holdings=files.read_holdings(holdings) if holdings else None,
        confirm_equity=confirm_equity,
        cash_balances=balances(cash_in),
        payment=payment,
    )
    with connect(address) as client, files.naming_lines(holdings):
        show_portfolio(client.portfolios.SetHoldings(request).portfolio, as_json)


@commands.command()
def time_zone(
    portfolio_id: PortfolioId,
    zone: Annotated[str, typer.Argument(help="IANA, e.g. America/New_York.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sets the zone whose midnight begins the trading day."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    request = pb.SetTimeZoneRequest(portfolio_id=portfolio_id, time_zone=zone)
    with connect(address) as client:
        show_portfolio(client.portfolios.SetTimeZone(request).portfolio, as_json)


@commands.command()
def universe(
    portfolio_id: PortfolioId,
    universe_id: Annotated[
        str, typer.Argument(metavar="UNIVERSE", help='Of market snapshots; "": the one without.')
    ],
    reason: Annotated[str, typer.Option(help="Why, for the history; required.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sets the universe of market snapshots whose newest the portfolio is priced at."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    request = pb.SetUniverseRequest(
        portfolio_id=portfolio_id, universe_id=universe_id, reason=reason
    )
    with connect(address) as client:
        show_portfolio(client.portfolios.SetUniverse(request).portfolio, as_json)


@commands.command()
def cash(
    portfolio_id: PortfolioId,
    changes: Annotated[
        list[str], typer.Argument(metavar="CURRENCY=AMOUNT...", help="e.g. EUR=900 USD=-1000.")
    ],
    kind: Annotated[str, typer.Option(help="payment, income or conversion.")],
    reason: Reason = "",
    request_id: Annotated[str, typer.Option(help="UUID kept for retries; default: new.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Moves cash: what is paid in or out, income and costs, conversions.

    A payment is neither gain nor loss. A conversion has one amount below 0 and one above.
    """
    from positionsizing.v1 import portfolio_service_pb2 as pb

    if kind not in _KINDS:
        raise CommandError(f"--kind is {kind!r}", f"write one of {', '.join(_KINDS)}")
    request = pb.AdjustCashRequest(
        request_id=request_id or str(uuid.uuid4()),
        portfolio_id=portfolio_id,
        changes=balances(changes),
        kind=pb.CashFlowKind.Value(f"CASH_FLOW_KIND_{kind.upper()}"),
        reason=reason,
    )
    with connect(address) as client:
        show_portfolio(client.portfolios.AdjustCash(request).portfolio, as_json)


@commands.command()
def rebase(
    portfolio_id: PortfolioId,
    reason: Annotated[str, typer.Option(help="Why, for the history; required.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sets the high-water mark of the drawdown floor to today's equity.

    A portfolio at its floor is sized again after that.
    """
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli.labels import money

    request = pb.RebaseHighWaterMarkRequest(portfolio_id=portfolio_id, reason=reason)
    with connect(address) as client:
        answer = client.portfolios.RebaseHighWaterMark(request)
    if as_json:
        print_json(answer)
    else:
        done = answer.rebase
        say(f"high-water mark {money(done.equity_before)} is now {money(done.equity_after)}")


@commands.command()
def confirm_equity(
    portfolio_id: PortfolioId,
    reason: Annotated[str, typer.Option(help="Why, for the history; required.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Accepts the equity after a jump, so that the portfolio is sized again."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli.labels import money

    request = pb.ConfirmEquityRequest(portfolio_id=portfolio_id, reason=reason)
    with connect(address) as client:
        answer = client.portfolios.ConfirmEquity(request)
    if as_json:
        print_json(answer)
        return
    was = money(answer.equity_before) if answer.HasField("equity_before") else "none"
    now = money(answer.equity) if answer.HasField("equity") else "not known"
    say(f"equity {now} of {portfolio_id} is accepted; before: {was}")
