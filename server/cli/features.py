"""Commands on stored features: sets, values of files, what was known when."""

from collections.abc import Iterator
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
from server.cli.market import TIME, parse_time

if TYPE_CHECKING:
    from positionsizing.v1 import feature_service_pb2 as pb

features = typer.Typer(
    no_args_is_help=True, help="Features of instruments, with when they became known."
)
Name = Annotated[str, typer.Argument(metavar="SET", help="Which set.")]
ROWS = 10_000
"""Of a file in one call."""
_KNOWN = ("instrument_id", "as_of_time", "known_time")


@features.command("set")
def set_(
    name: Name,
    feature: Annotated[list[str], typer.Option(help="A feature of it; repeat.")],
    feature_version: Annotated[str, typer.Option(help="Version of what makes them.")] = "",
    age_max: Annotated[
        float, typer.Option(min=0.0, help="Older values are not used, in hours; 0: any age.")
    ] = 0.0,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Declares a set; what it has can't be changed later."""
    from positionsizing.v1 import feature_service_pb2 as pb

    asked = pb.FeatureSet(feature_set_id=name, features=feature, feature_version=feature_version)
    if age_max:
        asked.age_max.FromSeconds(round(age_max * 3600.0))
    with connect(address) as client:
        answer = client.features.PutFeatureSet(pb.PutFeatureSetRequest(feature_set=asked))
    if as_json:
        print_json(answer)
    else:
        say(f"set {name}: {', '.join(feature)} (schema {answer.feature_set.schema_hash[:12]})")


@features.command("list")
def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Lists sets."""
    from positionsizing.v1 import feature_service_pb2 as pb

    from server.cli.render import table

    with connect(address) as client:
        answer = client.features.ListFeatureSets(pb.ListFeatureSetsRequest())
    if as_json:
        print_json(answer)
        return
    left = ("set", "features", "version", "schema")
    out = table("Feature sets", "set", "features", "version", "schema", "age at most", left=left)
    for item in answer.feature_sets:
        age = f"{item.age_max.ToSeconds() / 3600.0:g} h" if item.HasField("age_max") else "any"
        names = ", ".join(item.features)
        out.add_row(item.feature_set_id, names, item.feature_version, item.schema_hash[:12], age)
    console().print(out)


@features.command()
def put(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Values: CSV, CSV.gz or Parquet."),
    ],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Adds the values of a file: instrument_id, as_of_time, known_time, and a column a feature.

    Without known_time they become known now. Again is no error; what is stored stays as it is.
    """
    from positionsizing.v1 import feature_service_pb2 as pb

    total = pb.PutFeaturesResponse()
    with connect(address) as client:
        for request in _requests(name, file):
            total.added_rows += client.features.PutFeatures(request).added_rows
    if as_json:
        print_json(total)
    else:
        say(f"{total.added_rows} rows are new in set {name}")


@features.command()
def show(
    name: Name,
    instrument: Annotated[list[str], typer.Argument(help="Of which instruments.")],
    at: Annotated[str, typer.Option(help=f"Known before this time, {TIME}; default: now.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows what was known of instruments before a moment."""
    from positionsizing.v1 import feature_service_pb2 as pb

    from server.cli.render import table

    request = pb.GetFeaturesRequest(feature_set_id=name, instrument_ids=instrument)
    if at:
        request.moment.FromDatetime(parse_time(at, "--at"))
    with connect(address) as client:
        answer = client.features.GetFeatures(request)
    if as_json:
        print_json(answer)
        return
    columns = ("instrument", "as of", "known", *answer.feature_set.features)
    out = table(f"Set {name}", *columns, left=("instrument", "as of", "known"))
    for item in answer.known:
        if not item.HasField("as_of_time"):
            out.add_row(item.instrument_id, "nothing known", *([""] * (len(columns) - 2)))
            continue
        as_of, known = (
            f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}" for time in (item.as_of_time, item.known_time)
        )
        words = [f"{value:.6g}" for value in item.values]
        out.add_row(
            item.instrument_id, as_of + (" (stale)" if item.is_stale else ""), known, *words
        )
    console().print(out)


def _requests(name: str, file: Path) -> "Iterator[pb.PutFeaturesRequest]":
    """The values of a file, so many rows a call. Errors name the file, the row and the column."""
    from positionsizing.v1 import feature_service_pb2 as pb
    from positionsizing.v1 import sizing_pb2

    from server.cli.learn_files import times
    from server.cli.sheet import read_sheet

    sheet = read_sheet(file, keep_case=True)
    sheet.check_columns(sheet.columns, _KNOWN[:2])
    names = sheet.texts("instrument_id")
    moments = {
        column: list(times(sheet, column)) for column in _KNOWN[1:] if column in sheet.columns
    }
    values = {column: sheet.numbers(column) for column in sheet.columns if column not in _KNOWN}
    for first in range(0, len(names), ROWS):
        part = slice(first, first + ROWS)
        request = pb.PutFeaturesRequest(
            feature_set_id=name,
            instrument_ids=names[part],
            features=[
                sizing_pb2.FeatureColumn(name=column, values=cells[part])
                for column, cells in values.items()
            ],
        )
        for column, cells in moments.items():
            for time in cells[part]:
                getattr(request, f"{column}s").add().FromDatetime(time)
        yield request
