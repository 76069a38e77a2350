"""`sizing server`: what the service is, as it says itself."""

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, print_json, say


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


def _time(value: object) -> str:
    return f"{value.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"  # type: ignore[attr-defined]
