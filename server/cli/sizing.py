"""Commands on decisions: size, explain, replay, decisions, settle."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    print_json,
)
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1 import sizing_pb2, sizing_service_pb2

    from server.client import Client

DecisionId = Annotated[str, typer.Argument(metavar="[DECISION]", help="Id; default: the newest.")]
_METHODS = {"closed-form": 1, "joint": 2}
_LINE = re.compile(r"^signals\.\w+\[(\d+)\]")


def size(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or JSON.")],
    portfolio: Annotated[str, typer.Option(help="Portfolio to size for.")] = "",
    strategy: Annotated[str, typer.Option(help="Strategy of the signals.")] = "",
    method: Annotated[str, typer.Option(help="closed-form or joint; default: as stored.")] = "",
    limits: Annotated[
        Path | None, typer.Option(exists=True, help="Further limits, TOML or JSON; only tighten.")
    ] = None,
    snapshot: Annotated[str, typer.Option(help="Market snapshot; default: the latest.")] = "",
    scenarios: Annotated[str, typer.Option(help="Scenario matrix, by id.")] = "",
    covariance: Annotated[str, typer.Option(help="Covariance matrix, by id.")] = "",
    request_id: Annotated[str, typer.Option(help="UUID kept for retries; default: new.")] = "",
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Record nothing.")] = False,
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Refuse all if one line is wrong.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sizes a file of signals and shows the table of sizes."""
    import uuid

    import grpc
    from positionsizing.v1 import types_pb2
    from positionsizing.v1.limits_pb2 import Limits

    from server.cli import files

    if method and method not in _METHODS:
        raise typer.BadParameter("must be closed-form or joint", param_hint="--method")
    request = files.read_request(file)
    request.portfolio_id = portfolio or request.portfolio_id
    if not request.portfolio_id:
        raise typer.BadParameter("must be given", param_hint="--portfolio")
    request.strategy_id = strategy or request.strategy_id
    request.market_snapshot_id = snapshot or request.market_snapshot_id
    request.scenario_matrix_id = scenarios or request.scenario_matrix_id
    request.covariance_matrix_id = covariance or request.covariance_matrix_id
    request.request_id = request_id or request.request_id or str(uuid.uuid4())
    request.validate_only |= validate_only
    request.all_or_nothing |= all_or_nothing
    if method:
        request.method = types_pb2.SizingMethod.ValueType(_METHODS[method])
    if limits:
        request.limits.CopyFrom(files.read_message(limits, Limits()))
    if scenarios:
        _fill_sources(request.signals)
    with connect(address) as client:
        try:
            decision = client.sizing.SizePositions(request).decision
        except grpc.RpcError as error:
            if place := _LINE.search(getattr(error, "details", str)() or ""):
                error.add_note(_where(file, int(place[1])))
            raise
    if as_json:
        print_json(decision)
    else:
        show(decision, file)


def _where(file: Path, line: int) -> str:
    """A signal, counted from 0, by its place in the file."""
    if file.suffix.lower() == ".json":
        return f"{file.name} signal {line + 1}"
    return f"{file.name} line {line + 2}"


def _fill_sources(signals: "sizing_pb2.SignalBatch") -> None:
    """Lines that say no edge of their own take it from the scenarios."""
    from positionsizing.v1 import sizing_pb2

    for line, source in enumerate(signals.edge_source):
        if source == sizing_pb2.EDGE_SOURCE_UNSPECIFIED:
            signals.edge_source[line] = sizing_pb2.EDGE_SOURCE_SCENARIOS


def show(decision: "sizing_pb2.SizingDecision", file: Path | None = None) -> None:
    """Prints sizes, refused lines and the summary."""
    from server.cli import render

    out = console()
    out.print(render.sizes_table(decision))
    out.print()
    for error in decision.line_errors:
        where = f"{_where(file, error.line)}, " if file else ""
        out.print(f"refused: {where}{error.field}: {error.message}", style="red", markup=False)
    for line in render.summary_lines(decision):
        out.print(line, markup=False)


def explain(
    decision_id: DecisionId = "",
    instrument: Annotated[list[str] | None, typer.Option(help="Only this one; repeat.")] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Explains every line of a decision: its way from raw Kelly to lots, in words."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli import render
    from server.cli.words import enum_words

    with connect(address) as client:
        wanted = pb.GetDecisionRequest(decision_id=decision_id or newest(client))
        answer = client.sizing.GetDecision(wanted)
    decision = answer.decision
    if as_json:
        print_json(answer)
        return
    names = list(decision.sizes.instrument_ids)
    for name in instrument or ():
        if name not in names:
            raise CommandError(f"{name!r} is not in this decision", f"it has {', '.join(names)}")
    out = console()
    for line, name in enumerate(names):
        if instrument and name not in instrument:
            continue
        out.print(render.line_table(decision, line))
        for sentence in render.line_words(decision, line):
            out.print(f"  {sentence}", markup=False)
        out.print()
    out.print(render.totals_table(decision))
    out.print()
    for sentence in render.summary_lines(decision):
        out.print(sentence, markup=False)
    state = enum_words(pb.SettlementState, answer.settlement_state, "SETTLEMENT_STATE_")
    out.print(f"orders: {state}")


def newest(client: "Client") -> str:
    """Id of the newest decision."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    found = client.sizing.ListDecisions(pb.ListDecisionsRequest(page_size=1)).decisions
    if not found:
        raise CommandError("no decision is recorded yet", "sizing size FILE --portfolio PORTFOLIO")
    return str(found[0].decision_id)


def replay(
    decision_id: DecisionId = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Computes a decision again from its recorded inputs; exit code 1 if lots differ."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    with connect(address) as client:
        wanted = pb.ReplayDecisionRequest(decision_id=decision_id or newest(client))
        answer = client.sizing.ReplayDecision(wanted)
    if as_json:
        print_json(
            {
                "decision_id": wanted.decision_id,
                "lots_equal": answer.lots_equal,
                "weight_difference_max": answer.weight_difference_max,
                "lines_different": list(answer.lines_different),
                "version_differences": list(answer.version_differences),
            }
        )
    else:
        typer.echo(replay_words(wanted.decision_id, answer))
    if not answer.lots_equal:
        sys.exit(1)


def replay_words(decision_id: str, answer: object) -> str:
    """The outcome of a replay in words."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    assert isinstance(answer, pb.ReplayDecisionResponse)
    n_lines = len(answer.replayed.sizes.instrument_ids)
    n_different = len(answer.lines_different)
    outcome = "the same lots" if answer.lots_equal else f"other lots in {n_different} lines"
    difference = answer.weight_difference_max
    weights = f"weights within {difference:.1e}" if difference else "the same weights"
    said = f"replayed {decision_id}: {n_lines} lines, {outcome}, {weights}"
    return "\n".join([said, *(f"  since then, {item}" for item in answer.version_differences)])


def decisions(
    portfolio: Annotated[str, typer.Option(help="Only of this portfolio.")] = "",
    strategy: Annotated[str, typer.Option(help="Only of this strategy.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists decisions, newest first."""
    from positionsizing.v1 import sizing_service_pb2 as pb
    from positionsizing.v1 import types_pb2

    from server.cli.render import table
    from server.cli.words import enum_words

    wanted = pb.ListDecisionsRequest(portfolio_id=portfolio, strategy_id=strategy, page_size=limit)
    with connect(address) as client:
        answer = client.sizing.ListDecisions(wanted)
    if as_json:
        print_json(answer)
        return
    names = ("decision", "time", "portfolio", "strategy", "status")
    out = table("Decisions", *names, "lines", "number", left=names)
    for item in answer.decisions:
        status = enum_words(types_pb2.SizingStatus, item.status, "SIZING_STATUS_")
        moment = f"{item.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        identity = (item.decision_id, moment, item.portfolio_id, item.strategy_id, status)
        out.add_row(*identity, str(item.line_count), str(item.portfolio_sequence))
    console().print(out)


def settle(
    decision_id: DecisionId = "",
    filled: Annotated[bool, typer.Option("--filled", help="All lots, at the sized price.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it; free what is held.")] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Books a decision as filled, or cancels it; its reservation is freed."""
    import uuid

    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli.words import enum_words

    if filled == cancel:
        raise typer.BadParameter("give one of --filled and --cancel")
    with connect(address) as client:
        request = pb.SettleDecisionRequest(
            request_id=str(uuid.uuid4()), decision_id=decision_id or newest(client), close=cancel
        )
        if filled:
            request.fills.CopyFrom(_open_fills(client, request.decision_id))
        answer = client.sizing.SettleDecision(request)
    if as_json:
        print_json(answer)
        return
    state = enum_words(pb.SettlementState, answer.settlement_state, "SETTLEMENT_STATE_")
    typer.echo(f"decision {request.decision_id}: {state}")


def _open_fills(client: "Client", decision_id: str) -> "sizing_service_pb2.Fills":
    """What is still open of a decision, filled at the prices it was sized at."""
    from positionsizing.v1 import market_service_pb2, portfolio_service_pb2
    from positionsizing.v1 import sizing_service_pb2 as pb

    wanted = pb.GetDecisionRequest(decision_id=decision_id)
    decision = client.sizing.GetDecision(wanted).decision
    held = portfolio_service_pb2.ListReservationsRequest(
        portfolio_id=decision.portfolio_id, page_size=1000
    )
    for reservation in client.portfolios.ListReservations(held).reservations:
        if reservation.decision_id == decision_id:
            break
    else:
        raise CommandError(f"nothing is open of decision {decision_id}", "sizing explain shows it")
    snapshot = client.market.GetMarketSnapshot(
        market_service_pb2.GetMarketSnapshotRequest(
            snapshot_id=decision.versions.market_snapshot_id
        )
    ).snapshot
    price = dict(zip(snapshot.instrument_ids, snapshot.price, strict=True))
    return pb.Fills(
        instrument_ids=reservation.instrument_ids,
        lots=reservation.trade_lots_open,
        price=[price[name] for name in reservation.instrument_ids],
    )
