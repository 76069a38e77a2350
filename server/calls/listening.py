"""The gRPC server of a process: its options, its services, and the port that it listens on."""

import socket
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection

from server.auth import gate as gates
from server.auth.tls import Certificates
from server.calls.admission import Admission
from server.calls.contract import SERVICES
from server.calls.health import Health
from server.calls.rpc import bind
from server.config import Config
from server.observability.telemetry import Telemetry
from server.observability.usage import Usage


def server_of(
    config: Config,
    implementations: Mapping[str, object],
    health: Health,
    gate: gates.Gate,
    admission: Admission,
    telemetry: Telemetry,
    usage: Usage,
    certificates: Certificates | None,
) -> grpc.aio.Server:
    """A server with every service of the contract, health and reflection, not started yet.

    implementations: by name of the service, such as "SizingService".
    """
    options = [
        ("grpc.max_receive_message_length", config.message_bytes_max),
        ("grpc.max_send_message_length", config.message_bytes_max),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.bdp_probe", 0),  # else megabytes are held of each body that nobody reads
    ]
    if certificates is not None:
        options += certificates.options()
    server = grpc.aio.server(interceptors=gate.interceptors, options=options)
    for name, descriptor in SERVICES.items():
        bind(
            server,
            descriptor,
            implementations[name],
            gate=gate,
            deadline_default_s=config.deadline_default_s,
            admission=admission,
            telemetry=telemetry,
            usage=usage,
            bytes_max=config.message_bytes_max,
        )
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    names = [*(d.full_name for d in SERVICES.values()), HEALTH_NAME]
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    return server


def bound(server: grpc.aio.Server, config: Config, certificates: Certificates | None) -> int:
    """The port that the server listens on from now on. Raises `OSError` where it is taken."""
    address = f"{config.listen_host}:{config.listen_port}"
    try:
        if certificates is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, certificates.credentials()))
    except RuntimeError as error:
        raise _not_listening(address) from error


def check_port(host: str, port: int) -> None:
    """Tells before a minute of compiling that there will be nothing to listen on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _not_listening(f"{host}:{port}") from error


def _not_listening(address: str) -> OSError:
    return OSError(f"cannot listen on {address}: is another server running?")
