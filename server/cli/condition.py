"""Commands on market conditions, which rules of the sizing parameters react to."""

from typing import Annotated

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
from server.cli.market import TIME, parse_time

condition = typer.Typer(no_args_is_help=True, help="Market conditions that size rules react to.")


@condition.command()
def put(
    condition_id: Annotated[str, typer.Argument(help="Which condition.")],
    value: Annotated[float | None, typer.Option(help="A number.")] = None,
    category: Annotated[str, typer.Option(help="A name, instead of a number.")] = "",
    portfolio: Annotated[str, typer.Option(help="Of this portfolio only.")] = "",
    strategy: Annotated[str, typer.Option(help="Of this strategy only.")] = "",
    instrument: Annotated[str, typer.Option(help="Of this instrument only.")] = "",
    as_of: Annotated[str, typer.Option(help=f"When it was so, {TIME}; default: now.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Adds an observation."""
    from positionsizing.v1 import condition_service_pb2 as pb

    seen = pb.Condition(
        condition_id=condition_id,
        value=value,
        category=category,
        portfolio_id=portfolio,
        strategy_id=strategy,
        instrument_id=instrument,
    )
    if as_of:
        seen.as_of_time.FromDatetime(parse_time(as_of, "--as-of"))
    with connect(address) as client:
        answer = client.conditions.PutCondition(pb.PutConditionRequest(condition=seen))
    if as_json:
        print_json(answer)
    else:
        say(f"condition {condition_id} stored")


@condition.command("list")
def list_conditions(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Shows the newest observation of each condition."""
    from positionsizing.v1 import condition_service_pb2 as pb

    from server.cli.render import table

    with connect(address) as client:
        answer = client.conditions.ListConditions(pb.ListConditionsRequest())
    if as_json:
        print_json(answer)
        return
    left = ("condition", "of", "is", "since")
    out = table("Market conditions", *left, left=left)
    for item in answer.conditions:
        told = f"{item.value:.8g}" if item.HasField("value") else item.category
        owner = item.portfolio_id or item.strategy_id or item.instrument_id or "the firm"
        out.add_row(
            item.condition_id, owner, told, f"{item.as_of_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        )
    console().print(out)
