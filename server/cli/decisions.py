"""Commands on decisions that were made: explain, replay, decisions."""

import math
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
    say,
)
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1 import sizing_pb2

    from server.client import Client

DecisionId = Annotated[str, typer.Argument(metavar="[DECISION]", help="Id; default: the newest.")]
NewestOf = Annotated[
    str,
    typer.Option("--portfolio", help="The newest decision of this portfolio, instead of an id."),
]


def explain(
    decision_id: DecisionId = "",
    portfolio: NewestOf = "",
    instrument: Annotated[list[str] | None, typer.Option(help="Only this one; repeat.")] = None,
    top: Annotated[
        int, typer.Option(min=0, help="Lines to explain, the largest trades first; 0: all.")
    ] = 5,
    why_not_larger: Annotated[
        bool, typer.Option("--why-not-larger", help="The limits that hold each, one after another.")
    ] = False,
    archive: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder that it has been archived in."),
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Explains every line of a decision: its way from raw Kelly to lots, in words."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli import render
    from server.cli.explained import print_ladders
    from server.cli.labels import enum_words
    from server.cli.optimum import prices_table
    from server.cli.retention import from_archive

    if archive is not None:
        if why_not_larger or not decision_id:
            raise CommandError("--archive needs an id, and can't say --why-not-larger", "name one")
        answer = from_archive(archive, decision_id)
    else:
        with connect(address) as client:
            wanted = pb.GetDecisionRequest(
                decision_id=decision_named(client, decision_id, portfolio)
            )
            answer = client.sizing.GetDecision(wanted)
    decision = answer.decision
    if as_json and not why_not_larger:
        print_json(answer)
        return
    names = list(decision.sizes.instrument_ids)
    for name in instrument or ():
        if name not in names:
            raise CommandError(
                f"{name!r} is not in this decision",
                f"it has {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}",
            )
    out = console()
    chosen = [i for i, name in enumerate(names) if not instrument or name in instrument]
    n_chosen = len(chosen)
    if top and n_chosen > top:
        chosen = sorted([i for i in _largest_trades(decision.sizes) if i in chosen][:top])
    if why_not_larger:
        with connect(address) as client:
            print_ladders(client, decision.decision_id, [names[i] for i in chosen], as_json=as_json)
        return
    if len(chosen) < n_chosen:
        out.print(
            f"{len(names)} lines; the {top} largest trades. --top 0 shows all, --instrument one\n"
        )
    for line in chosen:
        out.print(render.line_table(decision, line))
        for sentence in render.line_words(decision, line):
            out.print(f"  {sentence}")
        out.print()
    out.print(render.totals_table(decision))
    for sentence in render.prediction_words(decision) + render.adjustment_words(decision):
        out.print(f"  {sentence}")
    out.print()
    if decision.certificate.shadow_prices:
        out.print(prices_table(decision))
        out.print()
    for sentence in render.summary_lines(decision):
        out.print(sentence)
    if answer.settlement_state:
        state = enum_words(pb.SettlementState, answer.settlement_state, "SETTLEMENT_STATE_")
        out.print(f"orders: {state}")


def _largest_trades(sizes: "sizing_pb2.PositionSizes") -> list[int]:
    """Lines by the value of their trade, then of their position; what is closed comes first."""

    def value(line: int) -> tuple[float, float]:
        held = abs(sizes.quantity[line])
        units = abs(sizes.trade_lots[line]) * sizes.lot_size[line]
        notional = abs(sizes.notional[line])
        # The price of what is closed is not in the answer.
        traded = units * notional / held if held else units and math.inf
        return traded, notional

    return sorted(range(len(sizes.instrument_ids)), key=value, reverse=True)


def decision_named(client: "Client", decision_id: str, portfolio: str) -> str:
    """The id that was given, or that of the newest decision: of a portfolio, or of all."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    if decision_id and portfolio:
        raise typer.BadParameter(
            "name a decision, or a portfolio for its newest", param_hint="--portfolio"
        )
    if decision_id:
        return decision_id
    wanted = pb.ListDecisionsRequest(portfolio_id=portfolio, page_size=1)
    found = client.sizing.ListDecisions(wanted).decisions
    if not found:
        of = f" of {portfolio!r}" if portfolio else ""
        way = f"sizing size FILE --portfolio {portfolio or 'PORTFOLIO'}"
        raise CommandError(f"no decision{of} is recorded yet", way)
    return str(found[0].decision_id)


def replay(
    decision_id: DecisionId = "",
    portfolio: NewestOf = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Computes a decision again from its recorded inputs; exit code 1 if lots differ."""
    from positionsizing.v1 import sizing_service_pb2 as pb

    with connect(address) as client:
        wanted = pb.ReplayDecisionRequest(
            decision_id=decision_named(client, decision_id, portfolio)
        )
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
        say(replay_words(wanted.decision_id, answer))
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
    ids: Annotated[bool, typer.Option("--ids", help="Print ids only, one a line.")] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists decisions, newest first."""
    from positionsizing.v1 import sizing_service_pb2 as pb
    from positionsizing.v1 import types_pb2

    from server.cli.labels import enum_words
    from server.cli.render import table

    wanted = pb.ListDecisionsRequest(portfolio_id=portfolio, strategy_id=strategy, page_size=limit)
    with connect(address) as client:
        answer = client.sizing.ListDecisions(wanted)
    if as_json:
        print_json(answer)
        return
    if ids:
        for item in answer.decisions:
            typer.echo(item.decision_id)
        return
    names = ("decision", "time", "portfolio", "strategy", "status")
    out = table(
        "Decisions",
        *names,
        "lines",
        "number",
        left=names,
        drop=("number", "lines", "strategy", "status"),
    )
    for item in answer.decisions:
        status = enum_words(types_pb2.SizingStatus, item.status, "SIZING_STATUS_")
        moment = f"{item.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        identity = (item.decision_id, moment, item.portfolio_id, item.strategy_id, status)
        out.add_row(*identity, str(item.line_count), str(item.portfolio_sequence))
    console().print(out)
