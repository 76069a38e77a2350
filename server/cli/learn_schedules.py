"""Commands on models that the service trains by itself."""

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
from server.cli.learn import DAY_S, member_of

schedule = typer.Typer(
    no_args_is_help=True, help="Models trained every so many days from a stored universe."
)
Name = Annotated[str, typer.Argument(help="Which schedule.")]


@schedule.command("set")
def set_(
    name: Name,
    universe: Annotated[str, typer.Option(help="Universe of prices; `sizing history load`.")],
    every: Annotated[int | None, typer.Option(help="Days between trainings. Default: 7.")] = None,
    promotion: Annotated[
        str, typer.Option(help="by-hand, or with-evidence: what beats the bars goes live.")
    ] = "by-hand",
    retirement: Annotated[
        str, typer.Option(help="When the edge is gone: refuse, predecessor or keep.")
    ] = "refuse",
    kind: Annotated[
        str, typer.Option(help="logistic, boosted-trees, network, log-pool or wealth-mixture.")
    ] = "logistic",
    member: Annotated[
        list[str] | None,
        typer.Option(help="Of an ensemble: features of one member, by commas; repeat."),
    ] = None,
    horizon: Annotated[int | None, typer.Option(help="Bars until a bet is over.")] = None,
    width: Annotated[float | None, typer.Option(help="Barriers, in deviations.")] = None,
    cost: Annotated[float | None, typer.Option(help="Cost of a round trip.")] = None,
    feature_set: Annotated[
        str, typer.Option(help="Set whose features are read as well, as they were known.")
    ] = "",
    stored: Annotated[
        list[str] | None, typer.Option(help="A feature of the set; repeat. Default: all.")
    ] = None,
    folds: Annotated[int, typer.Option(help="Blocks of the walk-forward.")] = 5,
    embargo: Annotated[int, typer.Option(min=0, help="Days between teaching and testing.")] = 0,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Has versions of a model trained from now on, or changes how. The first within a minute."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_value

    training = pb.TrainModelRequest(
        kind=enum_value(pb.ModelKind, "MODEL_KIND_", kind, "--kind"),
        members=[member_of(item) for item in member or ()],
        folds=folds,
        feature_set_id=feature_set,
        stored_features=stored or (),
    )
    if embargo:
        training.embargo.FromSeconds(embargo * DAY_S)
    asked = pb.ModelSchedule(
        schedule_id=name,
        universe_id=universe,
        training=training,
        horizon_bars=horizon,
        barrier_width=width,
        cost_rate=cost,
        interval_days=every,
        promotion=enum_value(pb.PromotionPolicy, "PROMOTION_POLICY_", promotion, "--promotion"),
        retirement=enum_value(
            pb.RetirementPolicy, "RETIREMENT_POLICY_", retirement, "--retirement"
        ),
    )
    with connect(address) as client:
        answer = client.learning.SetModelSchedule(pb.SetModelScheduleRequest(schedule=asked))
    if as_json:
        print_json(answer)
    else:
        say(f"models {name} are trained from universe {universe}")


@schedule.command("list")
def list_(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Shows schedules, the version that decides, and what went wrong last."""
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.cli.labels import enum_words
    from server.cli.render import table

    with connect(address) as client:
        answer = client.learning.ListModelSchedules(pb.ListModelSchedulesRequest())
    if as_json:
        print_json(answer)
        return
    left = ("schedule", "universe", "live", "newest", "promotion", "retirement", "next", "failure")
    out = table("Model schedules", *left, left=left)
    for item in answer.schedules:
        out.add_row(
            item.schedule_id,
            item.universe_id,
            item.live_model_id or "none",
            item.newest_model_id or "none",
            enum_words(pb.PromotionPolicy, item.promotion, "PROMOTION_POLICY_"),
            enum_words(pb.RetirementPolicy, item.retirement, "RETIREMENT_POLICY_"),
            f"{item.next_train_time.ToDatetime():%Y-%m-%d %H:%M}",
            item.failure,
        )
    console().print(out)


@schedule.command()
def delete(name: Name, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Ends a schedule. Its models stay; lines that name the schedule are refused."""
    from positionsizing.v1 import learning_service_pb2 as pb

    with connect(address) as client:
        answer = client.learning.DeleteModelSchedule(
            pb.DeleteModelScheduleRequest(schedule_id=name)
        )
    if as_json:
        print_json(answer)
    else:
        say(f"schedule {name} ended")
