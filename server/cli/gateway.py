"""The command that runs the HTTP gateway."""

import re
from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, channel_of, say
from server.cli.errors import CommandError

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?")
"""As browsers say it: in small letters, without a path, not `*`."""


def gateway(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any.")] = 8080,
    serve_cert: Annotated[
        Path | None, typer.Option(exists=True, help="HTTPS: the gateway's certificate (PEM).")
    ] = None,
    serve_key: Annotated[
        Path | None, typer.Option(exists=True, help="Key of that certificate (PEM).")
    ] = None,
    body_max_mb: Annotated[int, typer.Option(min=1, max=64, help="Largest request.")] = 16,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Pages of it may call, such as https://desk.example; repeatable."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Runs a gateway: every call of the service over HTTP, until Ctrl-C.

    By JSON, by the Connect protocol, or by gRPC-Web; the authorization header goes on.
    """
    import socket

    try:
        import uvicorn

        from server.gateway.app import GatewaySettings
        from server.gateway.app import gateway as application
        from server.gateway.bodies import BodyLimits
        from server.gateway.patience import LimitedProtocol
    except ImportError as error:
        raise CommandError(
            f"the gateway needs {error.name}",
            "make setup, or in the project: pip install '.[gateway]'",
        ) from error
    if (serve_cert is None) != (serve_key is None):
        raise typer.BadParameter("HTTPS needs --serve-cert and --serve-key")
    for given in origin or ():
        if not _ORIGIN.fullmatch(given):
            raise typer.BadParameter(f"--origin {given}: give scheme://host or scheme://host:port")
    settings = GatewaySettings(host, tuple(origin or ()), BodyLimits(body_max_mb << 20))
    made = application(lambda: channel_of(address), settings)
    config = uvicorn.Config(
        made,
        loop="asyncio",
        http=LimitedProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=512,
        timeout_graceful_shutdown=15,
        ssl_certfile=None if serve_cert is None else str(serve_cert),
        ssl_keyfile=None if serve_key is None else str(serve_key),
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            text = f"cannot listen on {host}:{port}: {error.strerror}"
            raise CommandError(text, "is another gateway running?") from error
        scheme = "http" if serve_cert is None else "https"
        listener.listen(2048)
        say(f"gateway at {scheme}://{host}:{listener.getsockname()[1]} for {address}")
        uvicorn.Server(config).run(sockets=[listener])
