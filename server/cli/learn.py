"""Commands on models: bets to learn from, training, stages, scores."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    file_to_write,
    print_json,
    say,
)
from server.cli.learn_words import model_lines, score_lines

if TYPE_CHECKING:
    from positionsizing.v1 import learning_service_pb2 as pb

learn = typer.Typer(no_args_is_help=True, help="Models that say probabilities from features.")

TIMEOUT_S = 3600.0
DAY_S = 86_400

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Id of the model.")]
Bets = Annotated[
    Path,
    typer.Argument(exists=True, dir_okay=False, help="Bets: CSV, CSV.gz or Parquet, a row a bet."),
]


@learn.command()
def bets(
    prices: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Closes: CSV, CSV.gz or Parquet.")
    ],
    out: Annotated[Path | None, file_to_write("Write past bets here.")] = None,
    signals: Annotated[Path | None, file_to_write("Write signals of the last close here.")] = None,
    horizon: Annotated[int, typer.Option(min=1, max=252, help="Bars until a bet is over.")] = 10,
    width: Annotated[
        float, typer.Option(min=0.05, max=5.0, help="Barriers, in deviations of the horizon.")
    ] = 0.5,
    cost: Annotated[
        float, typer.Option(min=0.0, max=0.1, help="Cost of a round trip, as a fraction.")
    ] = 0.001,
) -> None:
    """Makes bets out of closes: features known at each close, and which barrier came first.

    Both files come from the same function, so that what is served is what was learned.
    """
    from server.cli import learn_files
    from server.cli.history_files import read_history

    if out is None and signals is None:
        raise typer.BadParameter("give --out, --signals, or both")
    history = read_history(prices, "prices")
    if out is not None:
        say(f"{learn_files.write_bets(history, out, horizon, width, cost)} bets: {out}")
    if signals is not None:
        count = learn_files.write_signals(history, signals, horizon, width, cost)
        say(f"{count} signals: {signals}")


@learn.command()
def train(
    file: Bets,
    model_id: Annotated[str, typer.Option("--id", help="Id of the new model.")],
    kind: Annotated[
        str,
        typer.Option(
            help="logistic, boosted-trees, network, log-pool, wealth-mixture or size-multiplier."
        ),
    ] = "logistic",
    member: Annotated[
        list[str] | None,
        typer.Option(
            help="Of an ensemble: features of one member, by commas, and what it is if no logistic "
            "regression, boosted-trees:a,b; repeat."
        ),
    ] = None,
    calibration: Annotated[
        str,
        typer.Option(
            help="none, platt, beta, isotonic or venn-abers; by default by the number of bets."
        ),
    ] = "",
    trees: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Trees made elsewhere, as JSON."),
    ] = None,
    trees_format: Annotated[str, typer.Option(help="nodes or xgboost.")] = "nodes",
    trees_until: Annotated[
        datetime | None, typer.Option(help="When the data of the trees ended, in UTC.")
    ] = None,
    rising: Annotated[
        list[str] | None,
        typer.Option(help="Of trees: a feature with which the probability never falls; repeat."),
    ] = None,
    falling: Annotated[
        list[str] | None, typer.Option(help="One with which it never rises; repeat.")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=0, help="Members, each taught by a sequential bootstrap; 0: none.")
    ] = 0,
    combinatorial: Annotated[
        str, typer.Option(help="N,k: cross-validation of all choices of k of N groups, beside.")
    ] = "",
    feature_set: Annotated[
        str, typer.Option(help="Set that features are read from, as they were known.")
    ] = "",
    stored: Annotated[
        list[str] | None, typer.Option(help="A feature of the set; repeat. Default: all.")
    ] = None,
    refuse_unbounded: Annotated[
        bool, typer.Option(help="Refuse lines while its intervals miss too often.")
    ] = False,
    folds: Annotated[int, typer.Option(help="Blocks of the walk-forward.")] = 5,
    embargo: Annotated[
        int, typer.Option(min=0, help="Days kept free between teaching and testing.")
    ] = 0,
    ridge: Annotated[float | None, typer.Option(help="Ridge; by default chosen.")] = None,
    feature_version: Annotated[str, typer.Option(help="Version of what makes features.")] = "",
    age_max: Annotated[
        int, typer.Option(min=0, help="Oldest features predicted from, in days; 0: any.")
    ] = 0,
    trials_before: Annotated[int, typer.Option(min=0, help="Models tried before on them.")] = 0,
    job: Annotated[
        bool, typer.Option("--job", help="Only start it, and say the job's id; see sizing jobs.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Trains a model on past bets and says what it was worth on those it had not seen."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_value
    from server.cli.learn_files import read_rows

    request = pb.TrainModelRequest(
        request_id=str(uuid4()),
        model_id=model_id,
        kind=enum_value(pb.ModelKind, "MODEL_KIND_", kind, "--kind"),
        rows=read_rows(file, may_lack_features=bool(feature_set)),
        members=[member_of(item) for item in member or ()],
        feature_version=feature_version,
        folds=folds,
        ridge=ridge,
        trials_before=trials_before,
        refuse_unbounded=refuse_unbounded,
        feature_set_id=feature_set,
        stored_features=stored or (),
        rising_features=rising or (),
        falling_features=falling or (),
        bootstrap_draws=draws,
    )
    if combinatorial:
        request.combinatorial.CopyFrom(_combinatorial(combinatorial))
    if trees is not None:
        request.imported_trees.document = trees.read_text()
        request.imported_trees.format = enum_value(
            pb.TreeFormat, "TREE_FORMAT_", trees_format, "--trees-format"
        )
        if trees_until is not None:
            request.imported_trees.trained_until_time.FromDatetime(trees_until)
    if calibration:
        request.calibration = enum_value(
            pb.CalibrationKind, "CALIBRATION_KIND_", calibration, "--calibration"
        )
    if embargo:
        request.embargo.FromSeconds(embargo * DAY_S)
    if age_max:
        request.feature_age_max.FromSeconds(age_max * DAY_S)
    if job:
        from positionsizing.v1 import job_service_pb2

        from server.cli.long_work import start

        work = job_service_pb2.StartJobRequest(train_model=request, about=model_id)
        with connect(address) as client:
            start(client, work, as_json=as_json)
        return
    out = console()
    with connect(address) as client, out.status("training, in a process of the service"):
        answer = client.learning.TrainModel(request, timeout=TIMEOUT_S)
    if as_json:
        print_json(answer)
        return
    for line in model_lines(answer.model):
        say(line)


def _combinatorial(text: str) -> "pb.CombinatorialValidation":
    from positionsizing.v1 import learning_service_pb2 as pb

    try:
        groups, tested = (int(part) for part in text.split(","))
    except ValueError as error:
        text = "two whole numbers are needed, such as 6,2"
        raise typer.BadParameter(text, param_hint="--combinatorial") from error
    return pb.CombinatorialValidation(groups=groups, tested_groups=tested)


@learn.command("list")
def list_models(
    stage: Annotated[str, typer.Option(help="candidate, shadow, live or retired.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists models."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_value, enum_words
    from server.cli.render import table

    wanted: Any = enum_value(pb.ModelStage, "MODEL_STAGE_", stage, "--stage") if stage else 0
    request = pb.ListModelsRequest(stage=wanted, page_size=limit)
    with connect(address) as client:
        answer = client.learning.ListModels(request)
    if as_json:
        print_json(answer)
        return
    left = ("model", "kind", "stage", "trained until", "proven")
    out = table("Models", "model", "kind", "stage", "bets", "trained until", "proven", left=left)
    for item in answer.models:
        stage = enum_words(pb.ModelStage, item.stage, "MODEL_STAGE_")
        if item.damage:
            out.add_row(item.model_id, "damaged", stage, "", "", "no")
            continue
        out.add_row(
            item.model_id,
            enum_words(pb.ModelKind, item.kind, "MODEL_KIND_"),
            stage,
            str(item.report.rows),
            f"{item.report.trained_until_time.ToDatetime():%Y-%m-%d}",
            "yes" if item.report.is_proven else "no",
        )
    console().print(out)
    for item in answer.models:
        if item.damage:
            say(f"{item.model_id}: {item.damage}; restore the database")


@learn.command()
def show(model: Model, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Shows a model: its record, its stages, what it was worth since."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_words

    with connect(address) as client:
        answer = client.learning.GetModel(pb.GetModelRequest(model_id=model))
    if as_json:
        print_json(answer)
        return
    for line in model_lines(answer.model):
        say(line)
    for item in answer.stages:
        name = enum_words(pb.ModelStage, item.stage, "MODEL_STAGE_")
        say(f"{item.create_time.ToDatetime():%Y-%m-%d %H:%M} {name}, {item.author}: {item.reason}")
    if answer.HasField("score_since"):
        say("on bets scored since:")
        for line in score_lines(answer.score_since):
            say(f"  {line}")


@learn.command()
def promote(
    model: Model,
    to: Annotated[str, typer.Option(help="shadow, live or retired.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Moves a model to another stage. Only models that beat the bars with evidence go live."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_value

    request = pb.PromoteModelRequest(
        request_id=str(uuid4()),
        model_id=model,
        stage=enum_value(pb.ModelStage, "MODEL_STAGE_", to, "--to"),
        reason=reason,
    )
    with connect(address) as client:
        answer = client.learning.PromoteModel(request)
    if as_json:
        print_json(answer)
    else:
        say(f"model {model} is {to}")


@learn.command()
def score(
    model: Model, file: Bets, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS
) -> None:
    """Scores a model on bets that came after those it was trained on."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.learn_files import read_rows

    request = pb.ScoreModelRequest(
        request_id=str(uuid4()), model_id=model, rows=read_rows(file, may_lack_features=True)
    )
    with connect(address) as client:
        answer = client.learning.ScoreModel(request)
    if as_json:
        print_json(answer)
        return
    for line in score_lines(answer.score_since):
        say(line)


def member_of(text: str) -> "pb.ModelMember":
    """A member, written as features with commas, or as a kind, a colon and these."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_value

    kind, colon, names = text.partition(":")
    known = {
        name.removeprefix("MODEL_KIND_").lower().replace("_", "-")
        for name in dict(pb.ModelKind.items())
    }
    if not colon or kind not in known:  # names of features may have colons
        return pb.ModelMember(features=feature_names(text))
    asked = enum_value(pb.ModelKind, "MODEL_KIND_", kind, "--member")
    return pb.ModelMember(features=feature_names(names), kind=asked)


def feature_names(text: str) -> list[str]:
    """The features of a member, written with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
