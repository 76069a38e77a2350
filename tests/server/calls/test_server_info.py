"""What a server says of itself."""

import hashlib
import platform
from datetime import UTC, datetime
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from positionsizing.v1 import server_service_pb2 as pb

from compute.shapes import KernelRegistry
from server.app import App
from server.version import VERSION
from storage import embedded
from storage.postgres.migrations import newest_version
from tests.server.support.service_client import Client, refusal, sizing_request, started

PROTOS = Path(__file__).parents[3] / "protos"


async def info(client: Client) -> pb.GetServerInfoResponse:
    answer: pb.GetServerInfoResponse = await client.server.GetServerInfo(pb.GetServerInfoRequest())
    return answer


def sha256_of_files(folder: Path) -> str:
    """The digest as a client makes it out of what protoc makes of the contract's files."""
    sources = sorted(str(p.relative_to(PROTOS)) for p in PROTOS.glob("positionsizing/v1/*.proto"))
    target = folder / "contract.binpb"
    known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [f"-I{PROTOS}", f"-I{known}", f"--descriptor_set_out={target}", *sources]
    assert protoc.main(["protoc", *arguments]) == 0
    lines = []
    for file in descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file:
        assert not any(message.enum_type for message in file.message_type)
        todo = [(file.package, message) for message in file.message_type]
        while todo:
            owner, message = todo.pop()
            name = f"{owner}.{message.name}"
            lines += [f"{name} {f.name}={f.number} {f.type}" for f in message.field]
            todo += [(name, nested) for nested in message.nested_type]
        for enum in file.enum_type:
            lines += [f"{file.package}.{enum.name} {v.name}={v.number}" for v in enum.value]
        for service in file.service:
            for method in service.method:
                types = f"{method.input_type[1:]} {method.output_type[1:]}"
                lines.append(f"{file.package}.{service.name}.{method.name} {types}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


async def test_a_server_says_what_it_is(client: Client, app: App, tmp_path: Path) -> None:
    told = await info(client)
    assert told.version == VERSION
    assert told.contract.package == "positionsizing.v1"
    assert told.contract.sha256 == sha256_of_files(tmp_path)
    assert "positionsizing.v1.SizingService" in told.contract.services
    assert told.build.python_version == platform.python_version()
    assert told.build.schema_version == newest_version()
    assert told.limits.in_flight_max == app.config.in_flight_max
    assert 1 <= told.limits.in_flight_now_max <= told.limits.in_flight_max
    assert told.tenant_id == app.config.tenant_id
    assert "row-security" in told.features
    assert not {"authentication", "broker", "tls"} & set(told.features)
    now = datetime.now(UTC)
    assert told.start_time.ToDatetime(tzinfo=UTC) < told.time.ToDatetime(tzinfo=UTC) <= now
    again = await info(client)
    for answer in (told, again):  # it follows the latency of calls
        answer.limits.ClearField("in_flight_now_max")
    assert (again.contract, again.limits, again.start_time) == (
        told.contract, told.limits, told.start_time,
    )  # fmt: skip


async def test_it_says_how_many_may_come_in_now(client: Client, app: App) -> None:
    door = app._admission
    before, door._limit = door._limit, 17.9
    told = await info(client)
    door._limit = before
    assert told.limits.in_flight_now_max == min(17, app.config.in_flight_max)


async def test_its_bounds_are_those_that_refuse(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    settings = {"lines_max": 3, "metrics_port": 0, "quota_lines_per_s": 10.0}
    async with (
        started(postgres_server, kernels, tmp_path, **settings) as app,
        Client.connected(app.port) as client,
    ):
        told = await info(client)
        assert told.limits.lines_max == 3
        assert told.limits.joint_assets_max == app.config.joint_assets[-1]
        assert told.limits.deadline_default.ToTimedelta().total_seconds() == 60.0
        assert {"metrics", "quotas"} <= set(told.features)
        portfolio_id = await client.ready()
        await client.size(sizing_request(portfolio_id, [f"I{i}" for i in range(3)]))
        found = await refusal(
            client.size(sizing_request(portfolio_id, [f"I{i}" for i in range(4)]))
        )
        assert "3" in found.message
