"""Commands on models: bets to learn from, training, stages, scores."""

from collections.abc import Iterator
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
    print_json,
    say,
)

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
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write past bets here.")] = None,
    signals: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write signals of the last close here.")
    ] = None,
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
        str, typer.Option(help="logistic, log-pool, wealth-mixture or size-multiplier.")
    ] = "logistic",
    member: Annotated[
        list[str] | None,
        typer.Option(help="Of an ensemble: features of one member, by commas; repeat."),
    ] = None,
    calibration: Annotated[
        str, typer.Option(help="none, platt, beta or isotonic; by default by the number of bets.")
    ] = "",
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
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Trains a model on past bets and says what it was worth on those it had not seen."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.learn_files import read_rows

    request = pb.TrainModelRequest(
        request_id=str(uuid4()),
        model_id=model_id,
        kind=_named(pb.ModelKind, "MODEL_KIND_", kind, "--kind"),
        rows=read_rows(file),
        members=[pb.ModelMember(features=_names(item)) for item in member or ()],
        feature_version=feature_version,
        folds=folds,
        ridge=ridge,
        trials_before=trials_before,
    )
    if calibration:
        request.calibration = _named(
            pb.CalibrationKind, "CALIBRATION_KIND_", calibration, "--calibration"
        )
    if embargo:
        request.embargo.FromSeconds(embargo * DAY_S)
    if age_max:
        request.feature_age_max.FromSeconds(age_max * DAY_S)
    out = console()
    with connect(address) as client, out.status("training, in a process of the service"):
        answer = client.learning.TrainModel(request, timeout=TIMEOUT_S)
    if as_json:
        print_json(answer)
        return
    for line in _model_lines(answer.model):
        say(line)


@learn.command("list")
def list_models(
    stage: Annotated[str, typer.Option(help="candidate, shadow, live or retired.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists models."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_words
    from server.cli.render import table

    wanted: Any = _named(pb.ModelStage, "MODEL_STAGE_", stage, "--stage") if stage else 0
    request = pb.ListModelsRequest(stage=wanted, page_size=limit)
    with connect(address) as client:
        answer = client.learning.ListModels(request)
    if as_json:
        print_json(answer)
        return
    left = ("model", "kind", "stage", "trained until", "proven")
    out = table("Models", "model", "kind", "stage", "bets", "trained until", "proven", left=left)
    for item in answer.models:
        out.add_row(
            item.model_id,
            enum_words(pb.ModelKind, item.kind, "MODEL_KIND_"),
            enum_words(pb.ModelStage, item.stage, "MODEL_STAGE_"),
            str(item.report.rows),
            f"{item.report.trained_until_time.ToDatetime():%Y-%m-%d}",
            "yes" if item.report.is_proven else "no",
        )
    console().print(out)


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
    for line in _model_lines(answer.model):
        say(line)
    for item in answer.stages:
        name = enum_words(pb.ModelStage, item.stage, "MODEL_STAGE_")
        say(f"{item.create_time.ToDatetime():%Y-%m-%d %H:%M} {name}, {item.author}: {item.reason}")
    if answer.HasField("score_since"):
        say("on bets scored since:")
        for line in _score_lines(answer.score_since):
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

    request = pb.PromoteModelRequest(
        request_id=str(uuid4()),
        model_id=model,
        stage=_named(pb.ModelStage, "MODEL_STAGE_", to, "--to"),
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

    request = pb.ScoreModelRequest(request_id=str(uuid4()), model_id=model, rows=read_rows(file))
    with connect(address) as client:
        answer = client.learning.ScoreModel(request)
    if as_json:
        print_json(answer)
        return
    for line in _score_lines(answer.score_since):
        say(line)


def _model_lines(model: "pb.Model") -> Iterator[str]:
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_words

    report = model.report
    kind = enum_words(pb.ModelKind, model.kind, "MODEL_KIND_")
    stage = enum_words(pb.ModelStage, model.stage, "MODEL_STAGE_")
    yield f"model {model.model_id}: {kind}, {stage}, hash {model.hash[:12]}"
    yield f"features: {', '.join(model.features)} (schema {model.feature_schema_hash[:12]})"
    first = f"{report.tested_from_time.ToDatetime():%Y-%m-%d}"
    yield f"{report.rows} bets, {report.tested_rows} tested out of sample from {first} on"
    kinds = [enum_words(pb.CalibrationKind, k, "CALIBRATION_KIND_") for k in report.calibrations]
    if kinds:
        ridges = ", ".join(f"{ridge:g}" for ridge in report.ridges)
        yield f"calibration {', '.join(kinds)}; ridge {ridges}"
    if len(report.weights) > 1:
        weights = ", ".join(f"{weight:.3f}" for weight in report.weights)
        yield f"weights {weights}; regret {report.regret:.4f} of at most {report.regret_max:.4f}"
    if report.HasField("score"):
        yield from _score_lines(report.score)
    growth = report.growth
    yield f"growth of its bets {growth.mean:+.2e}{_ends(growth)}"
    yield "may go live" if report.is_proven else "has not beaten the bars: may not go live"


def _score_lines(score: "pb.ForecastScore") -> Iterator[str]:
    yield (
        f"log loss {score.log_loss:.5f} on {score.rows} bets; miscalibration "
        f"{score.miscalibration:.5f}, discrimination {score.discrimination:.5f}"
    )
    for name, bar in (("climatology", score.climatology), ("the odds", score.implied)):
        verdict = "beaten" if bar.is_beaten else "not beaten"
        yield (
            f"{name} {bar.log_loss:.5f}: growth over it {bar.growth.mean:+.2e} a bet"
            f"{_ends(bar.growth)}, e-value {bar.e_value:.3g}: {verdict}"
        )
    yield f"e-value that the edge is gone {score.e_value_gone:.3g} (20 is strong)"


def _ends(found: object) -> str:
    low, high = getattr(found, "low", 0.0), getattr(found, "high", 0.0)
    has = found.HasField("low")  # type: ignore[attr-defined]
    return f" ({low:+.2e} to {high:+.2e})" if has else ""


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _named(enum: object, prefix: str, text: str, option: str) -> Any:
    """The value of an enum that people write in small letters."""
    known = enum.DESCRIPTOR.values_by_name  # type: ignore[attr-defined]
    found = known.get(prefix + text.upper().replace("-", "_"))
    if found is None or found.number == 0:
        words = [name.removeprefix(prefix).lower().replace("_", "-") for name in known]
        raise typer.BadParameter(f"must be one of: {', '.join(words[1:])}", param_hint=option)
    return found.number
