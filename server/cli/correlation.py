"""Commands on correlations: estimates from a history, and clusters."""

from typing import Annotated, Any

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Report,
    Tables,
    connect,
    console,
    print_json,
)
from server.cli.market import parse_time
from server.cli.page import Output

correlation = typer.Typer(no_args_is_help=True, help="Estimated matrices, and clusters.")

_ESTIMATORS = (
    "sample, ewma, ledoit-wolf, ledoit-wolf-nonlinear, denoised, detoned, principal-factors, "
    "given-factors, dcc, stress"
)


def _value(enum: object, prefix: str, text: str, option: str) -> Any:
    name = prefix + text.upper().replace("-", "_")
    values = dict(enum.items())  # type: ignore[attr-defined]
    if name not in values:
        known = ", ".join(
            key.removeprefix(prefix).lower().replace("_", "-") for key, n in values.items() if n
        )
        raise typer.BadParameter(f"must be one of {known}", param_hint=option)
    return values[name]


@correlation.command()
def estimate(
    universe: Annotated[str, typer.Argument(help="Universe whose history is used.")],
    kind: Annotated[str, typer.Option(help="covariance, correlation or scenarios.")] = "covariance",
    estimator: Annotated[str, typer.Option(help=_ESTIMATORS)] = "",
    as_of: Annotated[str, typer.Option(help="Last observation, ISO 8601; default: all.")] = "",
    start: Annotated[str, typer.Option(help="First observation; default: the earliest.")] = "",
    gaps: Annotated[
        str, typer.Option(help="refuse, complete, pairwise or carry-forward.")
    ] = "refuse",
    repair: Annotated[bool, typer.Option("--repair", help="Nearest matrix if indefinite.")] = False,
    decay: Annotated[float | None, typer.Option(help="Of ewma; default 0.97.")] = None,
    noise_variance: Annotated[
        float | None, typer.Option(help="Of denoised and detoned: part that is noise; default 1.")
    ] = None,
    shock: Annotated[
        float | None, typer.Option(help="Of dcc, with --persistence; default: fitted.")
    ] = None,
    persistence: Annotated[float | None, typer.Option(help="Of dcc; default: fitted.")] = None,
    factors: Annotated[
        list[str] | None, typer.Option("--factor", help="For given-factors.")
    ] = None,
    matrix_id: Annotated[str, typer.Option("--id", help="Default: made.")] = "",
    refresh: Annotated[
        bool | None,
        typer.Option(
            "--refresh/--no-refresh", help="Again whenever the history moves, or no longer."
        ),
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Estimates a matrix from a stored history and stores it, the latest of its universe."""
    from positionsizing.v1 import correlation_service_pb2 as pb
    from positionsizing.v1 import history_service_pb2 as history_pb
    from positionsizing.v1 import market_service_pb2 as market_pb

    from server.cli.render import table

    request = pb.EstimateMatrixRequest(
        universe_id=universe,
        kind=_value(market_pb.MatrixKind, "MATRIX_KIND_", kind, "--kind"),
        gap_policy=_value(history_pb.GapPolicy, "GAP_POLICY_", gaps, "--gaps"),
        matrix_id=matrix_id,
        factor_ids=factors or (),
        refresh=refresh,
    )
    if estimator:
        prefix = "COVARIANCE_ESTIMATOR_"
        request.estimator = _value(pb.CovarianceEstimator, prefix, estimator, "--estimator")
    if repair:
        request.indefinite_policy = market_pb.INDEFINITE_POLICY_NEAREST
    for field, number in (
        ("decay", decay),
        ("noise_variance", noise_variance),
        ("dcc_shock", shock),
        ("dcc_persistence", persistence),
    ):
        if number is not None:
            setattr(request.settings, field, number)
    for text, name, option in ((as_of, "as_of_time", "--as-of"), (start, "start_time", "--start")):
        if text:
            getattr(request, name).FromDatetime(parse_time(text, option))
    with connect(address) as client:
        answer = client.correlations.EstimateMatrix(request)
    if as_json:
        print_json(answer)
        return
    typer.echo(f"matrix {answer.matrix_id}: {kind} of {answer.instrument_count} instruments")
    found = answer.provenance
    out = table("", "provenance", "value", left=("provenance",))
    span = (found.first_observation_time, found.last_observation_time)
    first, last = (f"{moment.ToDatetime():%Y-%m-%d}" for moment in span)
    out.add_row("estimator", found.estimator)
    out.add_row("periods", f"{found.observation_count}, {first} to {last}")
    for item in found.settings:
        out.add_row(item.name.replace("_", " "), f"{item.value:.6g}")
    if kind != "scenarios":
        out.add_row("smallest eigenvalue", f"{found.smallest_eigenvalue:.3g}")
        out.add_row("repaired by", f"{found.repair_distance:.3g}")
        for name, label in (
            ("log_likelihood", "log likelihood, held out"),
            ("log_likelihood_sample", "the same of the sample"),
        ):
            known = found.HasField(name)  # type: ignore[arg-type]
            out.add_row(label, f"{getattr(found, name):.4f}" if known else "none: singular")
    console().print(out)


@correlation.command()
def refreshes(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Lists the matrices that are estimated again when their histories move."""
    from positionsizing.v1 import correlation_service_pb2 as pb
    from positionsizing.v1 import market_service_pb2 as market_pb

    from server.cli.labels import enum_words
    from server.cli.render import table

    with connect(address) as client:
        answer = client.correlations.ListMatrixRefreshes(pb.ListMatrixRefreshesRequest())
    if as_json:
        print_json(answer)
        return
    columns = ("universe", "kind", "estimator", "latest matrix", "looked at", "failure")
    out = table("Estimated again when the history moves", *columns, left=columns)
    for row in answer.refreshes:
        kind = row.request.kind or market_pb.MATRIX_KIND_COVARIANCE
        estimator = row.request.estimator or pb.COVARIANCE_ESTIMATOR_LEDOIT_WOLF
        out.add_row(
            row.request.universe_id,
            enum_words(market_pb.MatrixKind, kind, "MATRIX_KIND_"),
            enum_words(pb.CovarianceEstimator, estimator, "COVARIANCE_ESTIMATOR_").replace(
                " ", "-"
            ),
            row.matrix_id,
            f"{row.update_time.ToDatetime():%Y-%m-%d %H:%M}",
            row.failure,
        )
    console().print(out)


@correlation.command()
def clusters(
    matrix_id: Annotated[str, typer.Argument(help="Id of a correlation or covariance.")],
    count: Annotated[int, typer.Option(min=0, help="How many; 0: the largest gap.")] = 0,
    linkage: Annotated[str, typer.Option(help="single, complete, average or ward.")] = "ward",
    report: Report = None,
    tables: Tables = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Clusters instruments by their correlation."""
    from positionsizing.v1 import correlation_service_pb2 as pb
    from positionsizing.v1 import market_service_pb2 as market_pb

    from server.cli.render import table

    request = pb.ClusterInstrumentsRequest(
        matrix_id=matrix_id,
        cluster_count=count,
        linkage=_value(pb.Linkage, "LINKAGE_", linkage, "--linkage"),
    )
    output = Output(report, tables)
    with connect(address) as client:
        answer = client.correlations.ClusterInstruments(request)
        if output:
            from server.cli.correlation_page import write_correlation

            stored = client.market.GetMatrix(market_pb.GetMatrixRequest(matrix_id=matrix_id))
            write_correlation(output, stored.matrix, answer)
    if as_json:
        print_json(answer)
        return
    out = table("Clusters", "cluster", "instruments", left=("instruments",))
    for number in range(1, answer.cluster_count + 1):
        members = [
            name
            for name, cluster in zip(answer.instrument_ids, answer.cluster, strict=True)
            if cluster == number
        ]
        out.add_row(str(number), ", ".join(members))
    console().print(out)
    typer.echo(
        f"mean correlation within clusters {answer.correlation_within:.3f}, "
        f"between them {answer.correlation_between:.3f}"
    )
    for line in output.lines():
        typer.echo(line)
