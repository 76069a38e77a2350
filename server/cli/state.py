"""`sizing state`: what may be sized, by every scope that has a say, with who said so and why."""

from typing import Any

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Group,
    Strategy,
    connect,
    console,
    print_json,
    scope_words,
)


def state(
    portfolio_id: str = typer.Argument("", metavar="[PORTFOLIO]", help="With all scopes above it."),
    group: Group = "",
    strategy: Strategy = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows the trading state of the firm and of the scopes named; the strictest holds.

    Exit code 0 whatever the state is. `sizing portfolio halt` and `resume` change it.
    """
    from google.protobuf.json_format import MessageToDict
    from positionsizing.v1 import portfolio_service_pb2 as pb
    from positionsizing.v1 import types_pb2

    from server.cli.labels import enum_words
    from server.cli.render import table

    scopes = [pb.Scope()]
    with connect(address) as client:
        if portfolio_id:
            wanted = pb.GetPortfolioRequest(portfolio_id=portfolio_id)
            group = group or client.portfolios.GetPortfolio(wanted).portfolio.group_id
        if group:
            scopes.append(pb.Scope(group_id=group))
        if strategy:
            scopes.append(pb.Scope(strategy_id=strategy))
        if portfolio_id:
            scopes.append(pb.Scope(portfolio_id=portfolio_id))
        found = [
            client.portfolios.GetTradingState(pb.GetTradingStateRequest(scope=scope))
            for scope in scopes
        ]
    if as_json:
        print_json(
            [
                {
                    "scope": MessageToDict(scope, preserving_proto_field_name=True),
                    **MessageToDict(item, preserving_proto_field_name=True),
                }
                for scope, item in zip(scopes, found, strict=True)
            ]
        )
        return
    left = ("scope", "state", "since", "by", "reason")
    out = table("Trading state", *left, left=left, drop=("by", "since"))
    for scope, item in zip(scopes, found, strict=True):
        word = enum_words(types_pb2.TradingState, item.trading_state, "TRADING_STATE_")
        since = by = reason = ""
        change: Any = getattr(item, "change", None)  # services of 0.1.0 don't say it
        if change is not None and change.version:
            since = f"{change.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
            by, reason = change.author, change.reason
        out.add_row(scope_words(scope), word, since, by, reason)
    strictest = max(item.trading_state for item in found)
    words = enum_words(types_pb2.TradingState, strictest, "TRADING_STATE_")
    out.caption = f"together: {words}"
    console().print(out)
