"""`sizing server` and `sizing usage`: what the service is, and what was asked of it."""

from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json, say
from server.cli.market import TIME, parse_time


def server(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Shows release, contract, bounds and what is switched on."""
    from positionsizing.v1 import server_service_pb2 as pb

    with connect(address) as client:
        answer = client.server.GetServerInfo(pb.GetServerInfoRequest())
    if as_json:
        print_json(answer)
        return
    build, limits = answer.build, answer.limits
    say(f"release {answer.version} at {address}, since {_time(answer.start_time)}")
    say(f"contract {answer.contract.package}, sha256 {answer.contract.sha256[:16]}")
    say(
        f"Python {build.python_version}, JAX {build.jax_version}, {build.platform}, "
        f"schema {build.schema_version}"
    )
    say(
        f"at most {limits.lines_max:,} lines and {limits.message_bytes_max:,} bytes a request; "
        f"joint problems of {limits.joint_assets_max:,} instruments and "
        f"{limits.joint_scenarios_max:,} scenarios"
    )
    say(
        f"{limits.in_flight_max:,} calls at once, now {limits.in_flight_now_max:,} short ones "
        "(fewer while answers are slow); "
        f"{limits.deadline_default.ToTimedelta().total_seconds():g} s where no deadline is set"
    )
    say(f"on: {', '.join(answer.features) or 'nothing more'}")
    say(f"tenant {answer.tenant_id}, its clock {_time(answer.time)}")


def usage(
    by: Annotated[
        list[str] | None,
        typer.Option(help="hour or day, subject, method: a line for each; repeatable."),
    ] = None,
    start: Annotated[str, typer.Option("--from", help=f"First hour, {TIME}.")] = "",
    end: Annotated[str, typer.Option("--to", help=f"Hours before, {TIME}.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows what callers have asked for: calls, refusals, lines and seconds, by day and caller."""
    from positionsizing.v1 import server_service_pb2 as pb

    from server.cli.render import table

    request = pb.ListUsageRequest()
    known = {
        name.removeprefix("USAGE_DIMENSION_").lower(): number
        for name, number in pb.UsageDimension.items()
        if number
    }
    for name in by or ["day", "subject"]:
        if name not in known:
            raise typer.BadParameter(f"--by {name}: choose from {', '.join(known)}")
        request.by.append(known[name])
    if start:
        request.start_time.FromDatetime(parse_time(start, "--from"))
    if end:
        request.end_time.FromDatetime(parse_time(end, "--to"))
    with connect(address) as client:
        answer = client.server.ListUsage(request)
    if as_json:
        print_json(answer)
        return
    left = [
        name for name in ("time", "subject", "method") if any(_has(u, name) for u in answer.usage)
    ]
    out = table("Usage", *left, "calls", "refused", "lines", "seconds", left=left)
    for item in answer.usage:
        said = {"time": f"{item.time.ToDatetime():%Y-%m-%d %H:%M}"}
        said |= {"subject": item.subject, "method": item.method}
        numbers = item.call_count, item.refused_count, item.line_count
        counts = [f"{number:,}" for number in numbers]
        out.add_row(*(said[name] for name in left), *counts, f"{item.busy_seconds:,.1f}")
    console().print(out)
    if not answer.usage:
        say("nothing was asked for; what was in the last 10 seconds may be missing")


def _has(item: object, name: str) -> bool:
    return item.HasField("time") if name == "time" else bool(getattr(item, name))  # type: ignore[attr-defined]


def _time(value: object) -> str:
    return f"{value.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"  # type: ignore[attr-defined]
