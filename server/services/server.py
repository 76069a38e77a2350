"""ServerService: what this server is."""

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from google.protobuf.descriptor import Descriptor, FileDescriptor
from positionsizing.v1 import events_pb2, sizing_algorithm_pb2
from positionsizing.v1 import server_service_pb2 as pb

from server.calls.admission import Admission
from server.calls.contract import SERVICES
from server.calls.errors import FieldViolation, invalid, invalid_fields
from server.calls.request_context import Call
from server.config import Config
from server.convert.names import PAGE_SIZE_MAX, optional_moment, timestamp
from server.convert.ranges import number_violations
from server.version import VERSION
from storage.postgres import usage
from storage.postgres.migrations import newest_version
from storage.postgres.pool import Database
from storage.postgres.usage import Dimension, Sum

PACKAGE = "positionsizing.v1"
SUMS_MAX = 10_000
_DIMENSIONS = {
    pb.USAGE_DIMENSION_HOUR: Dimension.HOUR,
    pb.USAGE_DIMENSION_DAY: Dimension.DAY,
    pb.USAGE_DIMENSION_SUBJECT: Dimension.SUBJECT,
    pb.USAGE_DIMENSION_METHOD: Dimension.METHOD,
}


class ServerService:
    """See `protos/positionsizing/v1/server_service.proto`."""

    def __init__(self, config: Config, database: Database, admission: Admission) -> None:
        self._admission = admission
        self._database = database
        self._start_time = datetime.now(UTC)
        self._info = pb.GetServerInfoResponse(
            version=VERSION,
            contract=pb.ContractInfo(
                package=PACKAGE,
                sha256=hashlib.sha256("\n".join(contract_lines()).encode()).hexdigest(),
                services=sorted(service.full_name for service in SERVICES.values()),
            ),
            limits=_limits(config),
            build=pb.ServerBuild(
                python_version=platform.python_version(),
                jax_version=version("jax"),
                platform=f"{platform.system()}-{platform.machine()}",
                schema_version=newest_version(),
            ),
            features=_features(config, database),
            start_time=timestamp(self._start_time),
        )

    async def get_server_info(
        self, call: Call, request: pb.GetServerInfoRequest
    ) -> pb.GetServerInfoResponse:
        """The same at any time but for the clock, the caller's tenant and how many may come in."""
        del request
        answer = pb.GetServerInfoResponse()
        answer.CopyFrom(self._info)
        answer.limits.in_flight_now_max = self._admission.limit
        answer.tenant_id = call.tenant_id
        answer.time.CopyFrom(timestamp(datetime.now(UTC)))
        return answer

    async def list_usage(self, call: Call, request: pb.ListUsageRequest) -> pb.ListUsageResponse:
        """Sums of what callers have asked for."""
        if found := list(_usage_violations(request)):
            raise invalid_fields(found)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            sums = await usage.sums(
                connection,
                call.tenant_id,
                [_DIMENSIONS[dimension] for dimension in request.by],
                start=optional_moment(request, "start_time"),
                end=optional_moment(request, "end_time"),
                limit=SUMS_MAX + 1,
            )
        if len(sums) > SUMS_MAX:
            text = f"makes more than {SUMS_MAX} sums; ask for fewer dimensions or hours"
            raise invalid("by", "TOO_MANY", text)
        return pb.ListUsageResponse(usage=map(_usage, sums))


def _usage_violations(request: pb.ListUsageRequest) -> Iterator[FieldViolation]:
    yield from number_violations(request)
    for place, dimension in enumerate(request.by):
        if dimension not in _DIMENSIONS:
            yield FieldViolation(f"by[{place}]", "UNKNOWN_VALUE", "is not known")
        elif dimension in request.by[:place]:
            yield FieldViolation(f"by[{place}]", "DUPLICATE", "is given twice")
    if {pb.USAGE_DIMENSION_HOUR, pb.USAGE_DIMENSION_DAY} <= set(request.by):
        yield FieldViolation("by", "NOT_APPLICABLE", "names hours and days: give one of them")


def _usage(found: Sum) -> pb.Usage:
    message = pb.Usage(
        subject=found.subject or "", method=found.method or "", **asdict(found.count)
    )
    if found.time is not None:
        message.time.CopyFrom(timestamp(found.time))
    return message


def contract_lines() -> list[str]:
    """The contract, a line a field, value and method, sorted; what clients may compare."""
    files: dict[str, FileDescriptor] = {}
    roots = [service.file for service in SERVICES.values()]
    for file in (*roots, events_pb2.DESCRIPTOR, sizing_algorithm_pb2.DESCRIPTOR):
        _add(file, files)
    lines: list[str] = []
    for file in files.values():
        for message in file.message_types_by_name.values():
            lines += _message_lines(message)
        for enum in file.enum_types_by_name.values():
            lines += (f"{enum.full_name} {value.name}={value.number}" for value in enum.values)
        for service in file.services_by_name.values():
            lines += (
                f"{method.full_name} {method.input_type.full_name} {method.output_type.full_name}"
                for method in service.methods
            )
    return sorted(lines)


def _add(file: FileDescriptor, files: dict[str, FileDescriptor]) -> None:
    """The file and what it imports, of the package."""
    if file.package == PACKAGE and file.name not in files:
        files[file.name] = file
        for imported in file.dependencies:
            _add(imported, files)


def _message_lines(message: Descriptor) -> Iterator[str]:
    for field in message.fields:
        yield f"{message.full_name} {field.name}={field.number} {field.type}"
    for nested in message.nested_types:
        yield from _message_lines(nested)


def _limits(config: Config) -> pb.ServerLimits:
    limits = pb.ServerLimits(
        lines_max=config.lines_max,
        message_bytes_max=config.message_bytes_max,
        joint_assets_max=config.joint_assets[-1],
        joint_scenarios_max=config.joint_scenarios[-1],
        page_size_max=PAGE_SIZE_MAX,
        in_flight_max=config.in_flight_max,
    )
    limits.deadline_default.FromNanoseconds(round(config.deadline_default_s * 1e9))
    return limits


def _features(config: Config, database: Database) -> list[str]:
    switched = {
        "authentication": config.auth == "required",
        "tokens": config.jwks is not None,
        "tls": config.tls_cert_file is not None,
        "client-certificates": config.tls_client_ca_file is not None,
        "broker": config.pulsar_url is not None,
        "row-security": database.has_wall,
        "algorithms": config.algorithms_file is not None,
        "quotas": config.quota_lines_per_s is not None,
        "tracing": config.otel_endpoint is not None,
        "metrics": config.metrics_port is not None,
    }
    return [name for name, is_on in switched.items() if is_on]
