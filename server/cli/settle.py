"""`sizing settle`: what has become of the orders of one decision, named by its id."""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, print_json, say
from server.cli.errors import CommandError
from server.cli.fill_lines import TERMS, FillLine, parsed, read

if TYPE_CHECKING:
    from positionsizing.v1 import portfolio_service_pb2, sizing_pb2, sizing_service_pb2

    from server.client import Client


def settle(
    decision_id: Annotated[str, typer.Argument(metavar="DECISION", help="Id of the decision.")],
    filled: Annotated[
        bool, typer.Option("--filled", help="All open lots, at the prices they were sized at.")
    ] = False,
    fill: Annotated[
        list[str] | None,
        typer.Option(
            help="INSTRUMENT=UNITS@PRICE[,NAME=VALUE...], e.g. KO=1200@61.2,fee=3; repeat. Names: "
            "fee, fee_currency, currency, exchange_rate."
        ),
    ] = None,
    fills: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="CSV: instrument_id,quantity,price, and the names of --fill.",
        ),
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End it: what is not filled is freed.")
    ] = False,
    settle_in: Annotated[
        str, typer.Option(help="Currency whose cash the fills move; default: see the guide.")
    ] = "",
    confirm_prices: Annotated[
        bool,
        typer.Option("--confirm-prices", help="The prices are right, however far from the market."),
    ] = False,
    request_id: Annotated[str, typer.Option(help="UUID kept for retries; default: new.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Books fills of a decision, or ends its orders; what is done with frees its reservation.

    UNITS are signed like the trade: bought above 0, sold below. PRICE is the average fill price in
    the instrument's currency, or in `currency`; the fee is in the portfolio's base currency, or in
    `fee_currency`; `exchange_rate` is base currency for one unit of the price's. --cancel may
    stand beside fills: the rest is then freed. `sizing decisions` lists ids.
    """
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli.labels import enum_words

    if not (filled or fill or fills or cancel):
        raise typer.BadParameter("give --filled, --fill, --fills or --cancel")
    if filled and (fill or fills):
        raise typer.BadParameter("give either --filled or the fills")
    lines = [parsed(text) for text in fill or ()] + (read(fills) if fills else [])
    with connect(address) as client:
        decision = client.sizing.GetDecision(
            pb.GetDecisionRequest(decision_id=decision_id)
        ).decision
        request = pb.SettleDecisionRequest(
            request_id=request_id or str(uuid.uuid4()),
            decision_id=decision_id,
            close=cancel,
            confirm_prices=confirm_prices,
        )
        if filled:
            request.fills.CopyFrom(_open_fills(client, decision))
        elif lines:
            lots_now, inverse = _lot_sizes(client, decision), _inverse(client, decision, lines)
            request.fills.CopyFrom(fills_of(lines, decision, lots_now, inverse))
        if settle_in:
            request.fills.settlement_currency.extend([settle_in] * len(request.fills.lots))
        answer = client.sizing.SettleDecision(request)
    if as_json:
        print_json(answer)
        return
    state = enum_words(pb.SettlementState, answer.settlement_state, "SETTLEMENT_STATE_")
    say(f"decision {decision_id} of portfolio {decision.portfolio_id}: {state}")
    rest = answer.remainder
    for name, lots in zip(rest.instrument_ids, rest.trade_lots_open, strict=True):
        say(f"  still open: {name} {lots:+,} lots")


def fills_of(
    lines: list[FillLine],
    decision: "sizing_pb2.SizingDecision",
    lots_now: Mapping[str, float] | None = None,
    inverse: Collection[str] = (),
) -> "sizing_service_pb2.Fills":
    """Fills in whole lots; those of one instrument together, at the price that is worth the same.

    That is their mean by lots, sum n p / sum n; of inverse futures, which are worth 1 / p, the
    harmonic one, sum n / sum (n / p). lots_now: the size of a lot where it isn't that of the
    decision any more. inverse: the inverse futures among those with several fills. Raises
    `CommandError`, also where fills of one instrument have different currencies or rates.
    """
    from positionsizing.v1 import sizing_service_pb2 as pb

    sizes = decision.sizes
    lot_size = dict(zip(sizes.instrument_ids, sizes.lot_size, strict=True)) | dict(lots_now or {})
    lots: dict[str, int] = {}
    paid: dict[str, float] = {}
    fees: dict[str, float] = {}
    first: dict[str, FillLine] = {}
    for line in lines:
        where, name, units, price = line.where, line.instrument_id, line.quantity, line.price
        if name not in lot_size:
            raise CommandError(f"{where}: {name} is not in decision {decision.decision_id}")
        count = round(units / lot_size[name])
        if count == 0 or abs(count * lot_size[name] - units) > 1e-9 * abs(units):
            raise CommandError(
                f"{where}: {units:,.12g} units are no whole lots of {lot_size[name]:,.12g}"
            )
        if lots.get(name, count) * count < 0:
            raise CommandError(f"{where}: {name} was bought in one fill and sold in another")
        lots[name] = lots.get(name, 0) + count
        worth = 1.0 / price if name in inverse else price
        paid[name] = paid.get(name, 0.0) + count * worth
        fees[name] = fees.get(name, 0.0) + line.fee
        if first.setdefault(name, line).terms != line.terms:
            raise CommandError(
                f"{where}: fills of {name} differ in {', '.join(TERMS)}", "settle them by turns"
            )
    return pb.Fills(
        instrument_ids=list(lots),
        lots=list(lots.values()),
        price=[
            count / paid[name] if name in inverse else paid[name] / count
            for name, count in lots.items()
        ],
        fee=list(fees.values()),
        **{
            name: [getattr(line, name) for line in first.values()]
            for name in TERMS
            if any(getattr(line, name) for line in first.values())
        },
    )


def _inverse(
    client: "Client", decision: "sizing_pb2.SizingDecision", lines: list[FillLine]
) -> set[str]:
    """The inverse futures among the instruments with several fills."""
    from positionsizing.v1 import market_service_pb2 as pb

    several = {
        name for name, count in Counter(line.instrument_id for line in lines).items() if count > 1
    }
    if not several:
        return set()
    wanted = pb.GetMarketSnapshotRequest(snapshot_id=decision.versions.market_snapshot_id)
    snapshot = client.market.GetMarketSnapshot(wanted).snapshot
    kinds = zip(snapshot.instrument_ids, snapshot.contract_kind, strict=False)
    inverse = {name for name, kind in kinds if kind == pb.CONTRACT_KIND_INVERSE_FUTURE}
    return inverse & several


def _open_fills(
    client: "Client", decision: "sizing_pb2.SizingDecision"
) -> "sizing_service_pb2.Fills":
    """What is still open of a decision, filled at the prices it was sized at.

    Where a corporate action has changed an instrument since, at its newest price in the portfolio's
    universe.
    """
    from positionsizing.v1 import market_service_pb2, portfolio_service_pb2
    from positionsizing.v1 import sizing_service_pb2 as pb

    reservation = _reservation(client, decision)
    wanted = market_service_pb2.GetMarketSnapshotRequest(
        snapshot_id=decision.versions.market_snapshot_id
    )
    snapshot = client.market.GetMarketSnapshot(wanted).snapshot
    price = dict(zip(snapshot.instrument_ids, snapshot.price, strict=True))
    actions = market_service_pb2.ListCorporateActionsRequest(page_size=1000)
    changed = {
        item.action.instrument_id
        for item in client.market.ListCorporateActions(actions).actions
        if item.action.effective_time.ToNanoseconds() > snapshot.as_of_time.ToNanoseconds()
    }
    if changed & set(reservation.instrument_ids):
        asked = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=decision.portfolio_id)
        universe_id = client.portfolios.GetPortfolio(asked).portfolio.universe_id
        latest = market_service_pb2.GetMarketSnapshotRequest(universe_id=universe_id)
        newest = client.market.GetMarketSnapshot(latest).snapshot
        now = dict(zip(newest.instrument_ids, newest.price, strict=True))
        price |= {name: now[name] for name in changed if name in now}
    return pb.Fills(
        instrument_ids=reservation.instrument_ids,
        lots=reservation.trade_lots_open,
        price=[price[name] for name in reservation.instrument_ids],
    )


def _lot_sizes(client: "Client", decision: "sizing_pb2.SizingDecision") -> dict[str, float]:
    """The size of a lot of what is still open; empty where nothing is."""
    try:
        found = _reservation(client, decision)
    except CommandError:  # told by the service, which knows why
        return {}
    return dict(zip(found.instrument_ids, found.lot_size, strict=True))


def _reservation(
    client: "Client", decision: "sizing_pb2.SizingDecision"
) -> "portfolio_service_pb2.Reservation":
    """The open reservation of a decision."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    request = pb.ListReservationsRequest(portfolio_id=decision.portfolio_id, page_size=1000)
    while True:
        page = client.portfolios.ListReservations(request)
        for reservation in page.reservations:
            if reservation.decision_id == decision.decision_id:
                return reservation
        if not page.next_page_token:
            text = f"nothing is open of decision {decision.decision_id}"
            raise CommandError(text, f"look: sizing explain {decision.decision_id}")
        request.page_token = page.next_page_token
