"""Commands that take in what other systems write: fills, from tables and from FIX drop copies."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, print_json, say
from server.cli.errors import CommandError
from server.messaging.executions import Execution, Unbooked

if TYPE_CHECKING:
    from server.client import Client

imports = typer.Typer(no_args_is_help=True, help="What other systems write, taken in.")

_OWN = ("execution_id", "decision_id")


@imports.command()
def fills(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV, CSV.gz, Parquet, or FIX 4.4.")
    ],
    fix: Annotated[bool, typer.Option("--fix", help="FIX messages, whatever its name.")] = False,
    decision_tag: Annotated[
        int, typer.Option(help="FIX field that begins with the decision's id; 11 is ClOrdID.")
    ] = 11,
    refused: Annotated[
        Path | None, typer.Option(help="CSV for what was not booked; default: FILE.refused.csv.")
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Books the fills of a file, each execution once, however often the file is imported.

    A table has execution_id, decision_id, instrument_id, quantity (units, sold below 0), price and
    maybe fee, fee_currency, currency and exchange_rate, as `sizing settle --fills`. What can't be
    booked goes to a file of its own with its reason; the rest is booked, and the exit code is 1.
    """
    is_fix = fix or file.suffix.lower() in (".fix", ".log")
    with connect(address) as client:
        booked, unbooked = book(client, file, is_fix=is_fix, decision_tag=decision_tag)
    target = refused or file.with_name(file.name + ".refused.csv")
    if unbooked:
        _write(target, unbooked)
    if as_json:
        print_json({"booked": booked, "refused": [vars(item) for item in unbooked]})
    else:
        say(f"{booked} executions booked, or booked before")
        for item in unbooked:
            say(f"not booked: {item.where}: {item.reason}: {item.message}")
        if unbooked:
            say(f"{len(unbooked)} not booked are in {target}")
    if unbooked:
        raise typer.Exit(1)


def book(
    client: "Client", file: Path, *, is_fix: bool, decision_tag: int = 11
) -> tuple[int, list[Unbooked]]:
    """Books the executions of a file: how many, and what was not."""
    found = list(_from_fix(file, decision_tag) if is_fix else _from_table(file))
    unbooked = [item for item in found if isinstance(item, Unbooked)]
    booked, decisions = 0, dict[Any, Any]()
    for item in found:
        if isinstance(item, Execution):
            failure = _book(client, item, decisions)
            booked += failure is None
            unbooked += [failure] if failure is not None else []
    return booked, unbooked


def _from_table(path: Path) -> Iterator[Execution]:
    from server.cli.fill_lines import COLUMNS, NEEDED, lines_of
    from server.cli.sheet import read_sheet

    sheet = read_sheet(path)
    sheet.check_columns((*_OWN, *COLUMNS), (*_OWN, *NEEDED))
    own = (sheet.texts(name) for name in _OWN)
    for execution_id, decision_id, line in zip(*own, lines_of(sheet), strict=True):
        if not execution_id:
            hint = "it tells a fill that comes again from a second one"
            raise CommandError(f"{line.where}: execution_id must be given", hint)
        yield Execution(execution_id=execution_id, decision_id=decision_id, **vars(line))


def _from_fix(path: Path, decision_tag: int) -> Iterator[Execution | Unbooked]:
    try:
        from server.messaging.fix import read_reports
    except ImportError as error:
        raise CommandError(
            f"FIX needs {error.name}", "make setup, or in the project: pip install '.[fix]'"
        ) from error
    yield from read_reports(path.read_bytes(), decision_tag)


def _book(client: "Client", item: Execution, decisions: dict[Any, Any]) -> Unbooked | None:
    """Books one execution; what stood against it, or None."""
    import grpc
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli.errors import problem_of
    from server.cli.fill_lines import FillLine
    from server.cli.settle import fills_of

    try:
        if item.decision_id not in decisions:
            wanted = pb.GetDecisionRequest(decision_id=item.decision_id)
            decisions[item.decision_id] = client.sizing.GetDecision(wanted).decision
        decision = decisions[item.decision_id]
        line = FillLine(**{part.name: getattr(item, part.name) for part in fields(FillLine)})

        def settle(lots_now: dict[str, float]) -> None:
            client.sizing.SettleDecision(
                pb.SettleDecisionRequest(
                    request_id=item.request_id,
                    decision_id=item.decision_id,
                    fills=fills_of([line], decision, lots_now),
                )
            )

        key = (item.decision_id, item.instrument_id)
        if key not in decisions:
            decisions[key] = _lot_sizes(client, decision, item.instrument_id)
        newest, *before = decisions[key]
        try:
            settle(newest)
        except grpc.RpcError as error:
            # What was booked before lots changed is the same in the lots of then.
            if not before or problem_of(error).reason != "REQUEST_ID_REUSED":
                raise
            _booked_before(settle, before)
    except CommandError as error:
        return Unbooked(item.where, item.execution_id, "NOT_OF_THE_DECISION", str(error))
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise  # nothing is wrong with the file: import it again
        problem = problem_of(error)
        return Unbooked(item.where, item.execution_id, problem.reason, problem.message)
    return None


def _booked_before(
    settle: Callable[[dict[str, float]], None], lots_before: list[dict[str, float]]
) -> None:
    """Asks in earlier lots for what is booked; raises the last refusal where it isn't that."""
    import grpc

    for place, lots in enumerate(lots_before):
        try:
            settle(lots)
        except (CommandError, grpc.RpcError):
            if place == len(lots_before) - 1:
                raise
        else:
            return


def _lot_sizes(client: "Client", decision: Any, instrument_id: str) -> list[dict[str, float]]:
    """The sizes that a lot of an instrument has had since a decision, newest first, by its name.

    The last is that of the decision: nothing by name.
    """
    from positionsizing.v1 import market_service_pb2 as pb

    request = pb.ListCorporateActionsRequest(instrument_id=instrument_id, page_size=1000)
    since = decision.create_time.ToNanoseconds()
    return [
        *(
            {instrument_id: item.action.lot_size_change.lot_size}
            for item in client.market.ListCorporateActions(request).actions
            if item.action.HasField("lot_size_change") and item.create_time.ToNanoseconds() > since
        ),
        {},
    ]


def _write(path: Path, unbooked: list[Unbooked]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("where", "execution_id", "reason", "message"))
        out.writerows((u.where, u.execution_id, u.reason, u.message) for u in unbooked)
