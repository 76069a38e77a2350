"""`sizing learn calibrate`: what probabilities of a model of one's own really mean."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json, say


def calibrate(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="CSV or Parquet of win_probability,won by time."
        ),
    ],
    kind: Annotated[
        str, typer.Option(help="none, platt, beta, isotonic, venn-abers; default: by their number.")
    ] = "",
    asked: Annotated[
        list[float] | None, typer.Option("--ask", help="A claim to be calibrated; again for more.")
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """What claimed win probabilities mean, by how the bets ended, and whether a map helps."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_value, enum_words
    from server.cli.learn_files import answers
    from server.cli.render import table
    from server.cli.sheet import read_sheet

    sheet = read_sheet(file)
    sheet.check_columns(sheet.columns, ("win_probability", "won"))
    prefix = "CALIBRATION_KIND_"
    request = pb.CalibrateForecastsRequest(
        win_probability=sheet.numbers("win_probability"),
        won=list(answers(sheet)),
        asked=asked or [0.1 * k for k in range(1, 10)],
    )
    if kind:
        request.kind = enum_value(pb.CalibrationKind, prefix, kind, "--kind")
    with connect(address) as client:
        answer = client.learning.CalibrateForecasts(request)
    if as_json:
        print_json(answer)
        return
    words = enum_words(pb.CalibrationKind, answer.kind, prefix)
    out = table(f"{len(request.won)} bets, {words}", "claimed", "means", "give or take")
    columns = (request.asked, answer.win_probability, answer.win_probability_error)
    for claim, p, error in zip(*columns, strict=True):
        out.add_row(f"{claim:.1%}", f"{p:.1%}", f"{error:.1%}")
    console().print(out)
    say(f"log loss {answer.log_loss:.4f}, of which {answer.miscalibration:.4f} is miscalibration")
    if answer.HasField("forward"):
        then = answer.forward
        gain = then.log_loss_claimed - then.log_loss_calibrated
        say(f"on the last {then.bets} bets, unseen, the map gains {gain:+.4f} of growth a bet")
