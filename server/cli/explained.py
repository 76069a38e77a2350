"""Commands on why decisions are what they are: diff, and the ladder of `explain`."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json
from server.cli.layout import Table

if TYPE_CHECKING:
    from positionsizing.v1 import explanation_service_pb2 as pb

    from server.client import Client

TIMEOUT_S = 300.0
"""Sixty-four joint problems take a while."""


def diff(
    first: Annotated[str, typer.Argument(help="Id of the decision to start from.")],
    second: Annotated[str, typer.Argument(help="Id of the decision to explain.")],
    top: Annotated[int, typer.Option(min=1, help="Instruments to show, the largest first.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Says why the sizes of two decisions differ: which inputs changed, and what each change did.

    The difference of each position is divided among the groups of inputs that changed (Shapley
    values of all their combinations); the parts add up to it.
    """
    from positionsizing.v1 import explanation_service_pb2 as pb

    request = pb.CompareDecisionsRequest(first_decision_id=first, second_decision_id=second)
    with connect(address) as client:
        answer = client.explanation.CompareDecisions(request, timeout=TIMEOUT_S)
    if as_json:
        print_json(answer)
        return
    out = console()
    if not answer.groups:
        out.print("both decisions were computed from the same inputs")
        return
    out.print(shares_table(answer, top))
    out.print()
    out.print(inputs_table(answer))
    for item in answer.refused:
        groups = ", ".join(_group(group) for group in item.second_groups) or "nothing"
        out.print(f"{groups} of the second, all else of the first: not sized, {item.message}")
    if not answer.replays_equal:
        out.print(
            "computed again by this release, the decisions have other lots than were answered"
        )


def shares_table(answer: "pb.CompareDecisionsResponse", top: int) -> Table:
    """One row an instrument: both positions, and what each group of inputs did to it."""
    from server.cli.render import table

    groups = [_group(group) for group in answer.groups]
    out = table(
        "Positions in units, and what changed them",
        *("instrument", "first", "second", "change", *groups),
        left=("instrument",),
    )
    width = len(groups)
    for place, name in enumerate(answer.instrument_ids[:top]):
        before, after = answer.quantity_first[place], answer.quantity_second[place]
        shares = answer.shares[place * width : (place + 1) * width]
        changes = [f"{share:+,.6g}" if share else "" for share in shares]
        out.add_row(name, f"{before:,.6g}", f"{after:,.6g}", f"{after - before:+,.6g}", *changes)
    return out


def inputs_table(answer: "pb.CompareDecisionsResponse") -> Table:
    """One row an input that differs."""
    from server.cli.render import table

    names = ("group", "input", "first", "second")
    out = table("Inputs that differ", *names, left=names)
    for item in answer.differences:
        out.add_row(_group(item.group), item.input, item.first, item.second)
    return out


def print_ladders(client: "Client", decision_id: str, names: list[str], *, as_json: bool) -> None:
    """Shows the ladder of each of these instruments of a decision."""
    from positionsizing.v1 import explanation_service_pb2 as pb

    answers = {}
    for name in names:
        request = pb.GetLimitLadderRequest(decision_id=decision_id, instrument_id=name)
        answers[name] = client.explanation.GetLimitLadder(request, timeout=TIMEOUT_S)
    if as_json:
        from google.protobuf.json_format import MessageToDict

        print_json(
            {
                name: MessageToDict(answer, preserving_proto_field_name=True)
                for name, answer in answers.items()
            }
        )
        return
    out = console()
    for name, answer in answers.items():
        out.print(ladder_table(name, answer))
        if not answer.rungs:
            out.print("  no limit holds it: the stake is what edge and parameters ask for")
        if answer.end_reason:
            out.print(f"  it ends there: {answer.end_reason}")
        out.print()


def ladder_table(name: str, answer: "pb.GetLimitLadderResponse") -> Table:
    """The limits in the order in which they hold, then the stages of the stake up to raw Kelly."""
    from server.cli.labels import limit_text, percent, stage_label
    from server.cli.render import table

    out = table(
        f"{name}: what holds it, and the size without",
        *("held by", "weight", "without it", "lots", "without it ", "growth gained"),
        left=("held by",),
        drop=("growth gained",),
    )
    for rung in answer.rungs:
        is_open = rung.HasField("lots_without")
        out.add_row(
            limit_text(rung.limit, rung.limit_bound, rung.limit_name),
            percent(rung.weight),
            percent(rung.weight_without) if is_open else "",
            f"{rung.lots:,}",
            f"{rung.lots_without:,}" if is_open else "",
            f"{rung.growth_gained:+.2e}" if is_open else "",
        )
    steps = list(zip(answer.stages, answer.stage_weight, strict=True))
    for place in range(len(steps) - 1, 0, -1):
        word, why = stage_label(steps[place][0])
        without = percent(steps[place - 1][1])
        out.add_row(f"{word}: {why}", percent(steps[place][1]), without, "", "", "")
    return out


def _group(number: int) -> str:
    from positionsizing.v1 import explanation_service_pb2 as pb

    from server.cli.labels import enum_words

    return enum_words(pb.InputGroup, number, "INPUT_GROUP_")
