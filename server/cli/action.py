"""`sizing action`: splits, changes of lot size and multiplier, dividends."""

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Reason,
    connect,
    console,
    print_json,
    say,
)
from server.cli.errors import CommandError
from server.cli.market import TIME, parse_time

if TYPE_CHECKING:
    from positionsizing.v1 import corporate_action_pb2, market_service_pb2

action = typer.Typer(no_args_is_help=True, help="Splits, changes of contracts, dividends.")

Instrument = Annotated[str, typer.Argument(metavar="INSTRUMENT", help="Of the newest market.")]
Effective = Annotated[
    str, typer.Option("--effective", help=f"{TIME}; default: see ApplyCorporateAction.")
]
Fractions = Annotated[str, typer.Option("--fractions", help="keep or pay, for parts of a unit.")]
CashPrice = Annotated[
    float | None, typer.Option("--cash-price", help="Paid for a new unit; default: its price.")
]
RequestId = Annotated[str, typer.Option(help="UUID kept for retries; default: new.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")]

_POLICIES = {"": 0, "keep": 1, "pay": 2}


@action.command()
def split(
    instrument: Instrument,
    ratio: Annotated[str, typer.Argument(metavar="NEW:OLD", help="2:1 doubles, 1:10 is reverse.")],
    fractions: Fractions = "",
    cash_price: CashPrice = None,
    effective: Effective = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    request_id: RequestId = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Applies a split to every portfolio, open trade and limit, and to the newest market."""
    from positionsizing.v1 import corporate_action_pb2 as pb

    from server.cli.sheet import parse_number

    new, colon, old = ratio.partition(":")
    if not colon:
        raise CommandError(f"{ratio!r} is no ratio", "write NEW:OLD, such as 2:1")
    details = pb.Split(
        new_units=parse_number(new, "units", ratio),
        old_units=parse_number(old, "units", ratio),
        fraction_policy=_policy(fractions),
        cash_price=cash_price,
    )
    given = (effective, reason, dry_run, request_id, as_json, address)
    _apply(instrument, {"split": details}, *given)


@action.command()
def lot(
    instrument: Instrument,
    lot_size: Annotated[float, typer.Argument(help="Units of a lot from now on.")],
    effective: Effective = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    request_id: RequestId = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Changes the lot size; open trades are counted in the new lots."""
    from positionsizing.v1 import corporate_action_pb2 as pb

    details = pb.LotSizeChange(lot_size=lot_size)
    given = (effective, reason, dry_run, request_id, as_json, address)
    _apply(instrument, {"lot_size_change": details}, *given)


@action.command()
def multiplier(
    instrument: Instrument,
    value: Annotated[float, typer.Argument(help="Money a point from now on.")],
    fractions: Fractions = "",
    cash_price: CashPrice = None,
    effective: Effective = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    request_id: RequestId = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Changes the multiplier; quantities change so that exposure stays."""
    from positionsizing.v1 import corporate_action_pb2 as pb

    details = pb.MultiplierChange(
        multiplier=value, fraction_policy=_policy(fractions), cash_price=cash_price
    )
    given = (effective, reason, dry_run, request_id, as_json, address)
    _apply(instrument, {"multiplier_change": details}, *given)


@action.command()
def dividend(
    instrument: Instrument,
    amount: Annotated[float, typer.Argument(help="For one unit, in the instrument's currency.")],
    effective: Effective = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    request_id: RequestId = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Books a cash dividend to who holds, from who is short; the price falls by it."""
    from positionsizing.v1 import corporate_action_pb2 as pb

    details = pb.CashDividend(amount=amount)
    given = (effective, reason, dry_run, request_id, as_json, address)
    _apply(instrument, {"cash_dividend": details}, *given)


@action.command("list")
def list_actions(
    instrument: Annotated[str, typer.Argument(help="Default: all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists recorded actions, the last first."""
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli.render import table

    request = pb.ListCorporateActionsRequest(instrument_id=instrument, page_size=limit)
    with connect(address) as client:
        answer = client.market.ListCorporateActions(request)
    if as_json:
        print_json(answer)
        return
    names = ("instrument", "action", "effective", "by", "reason")
    out = table("Corporate actions", *names, left=names, drop=("by", "reason"))
    for item in answer.actions:
        moment = f"{item.action.effective_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        words = _words(item.action)
        out.add_row(item.action.instrument_id, words, moment, item.author, item.reason)
    console().print(out)


def _policy(text: str) -> Any:
    if text not in _POLICIES:
        raise CommandError(f"--fractions is {text!r}", "write keep or pay")
    return _POLICIES[text]


def _apply(
    instrument: str,
    what: dict[str, Any],
    effective: str,
    reason: str,
    dry_run: bool,
    request_id: str,
    as_json: bool,
    address: str,
) -> None:
    from positionsizing.v1 import corporate_action_pb2
    from positionsizing.v1 import market_service_pb2 as pb

    wanted = corporate_action_pb2.CorporateAction(instrument_id=instrument, **what)
    if effective:
        wanted.effective_time.FromDatetime(parse_time(effective, "--effective"))
    request = pb.ApplyCorporateActionRequest(
        request_id=request_id or str(uuid.uuid4()),
        action=wanted,
        reason=reason,
        validate_only=dry_run,
    )
    with connect(address) as client:
        answer = client.market.ApplyCorporateAction(request)
    if as_json:
        print_json(answer)
    else:
        _show(answer, dry_run)


def _show(answer: "market_service_pb2.ApplyCorporateActionResponse", dry_run: bool) -> None:
    from server.cli.labels import booked, units
    from server.cli.render import table

    names = ("portfolio", "before", "after", "fraction", "cash", "open trades")
    done = "would be" if dry_run else "is"
    title = f"{answer.action.instrument_id}: {_words(answer.action)} {done} applied"
    out = table(title, *names, left=("portfolio",), drop=("open trades", "fraction"))
    for item in answer.effects:
        code = item.cash_currency
        cash = f"{booked(item.cash_change, code)} {code}" if code else ""
        out.add_row(
            item.portfolio_id,
            units(item.quantity_before),
            units(item.quantity_after),
            f"{item.fraction:.6g}" if item.fraction else "",
            cash,
            str(len(item.decision_ids)),
        )
    console().print(out)
    for snapshot_id in answer.market_snapshot_ids:
        say(f"  newest market: {snapshot_id}")
    if not (answer.market_snapshot_ids or dry_run):
        say("  the newest market shows it already")


def _words(action: "corporate_action_pb2.CorporateAction") -> str:
    match action.WhichOneof("action"):
        case "split":
            return f"split {action.split.new_units:g}:{action.split.old_units:g}"
        case "lot_size_change":
            return f"lot size {action.lot_size_change.lot_size:g}"
        case "multiplier_change":
            return f"multiplier {action.multiplier_change.multiplier:g}"
    return f"dividend {action.cash_dividend.amount:g}"
