"""Process configuration: typed, validated, from the environment or a file; unknown keys refused.

Every field can be set as `SIZING_<NAME>` or as a key of the TOML file that `SIZING_CONFIG` names;
the environment comes first. What a portfolio manager tunes is not here but in ParameterService.
"""

import os
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.auth.identity import TENANT_ID
from server.hosts import is_loopback

if TYPE_CHECKING:  # only `joint_shapes` needs it, and it brings JAX
    from compute.optimize.execution import JointShapes

PREFIX = "SIZING_"
READ_ELSEWHERE = {
    "SIZING_CONFIG",
    "SIZING_CRASH_POINT",
    "SIZING_ADDRESS",
    "SIZING_TOKEN_FILE",
    "SIZING_CA_FILE",
    "SIZING_CERT_FILE",
    "SIZING_KEY_FILE",
}
"""Variables of this prefix that are read elsewhere: by this module, the chaos tests, the CLI."""


class ConfigError(Exception):
    """The configuration is wrong; the text says which key and why."""


class Config(BaseSettings):
    """All settings of one server process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    listen_host: str = "127.0.0.1"
    """Address to listen on. Only loopback unless `auth` is required."""
    listen_port: int = Field(50051, ge=0, le=65535)
    """Port; 0 lets the system choose one."""
    dsn: SecretStr | None = None
    """PostgreSQL to use; unset: the embedded server in `data_dir`."""
    migrate: Literal["auto", "check"] = "auto"
    """What a start does about an older schema: "auto" brings it up to date; "check" refuses to
    start, so that the user in `dsn` needs no right to change it."""
    data_dir: Path = Path("data")
    """Folder of the embedded PostgreSQL and the kernel cache."""
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """Port of the Prometheus metrics over HTTP; unset: none."""
    pulsar_url: str | None = None
    """Broker to publish to, e.g. "pulsar://localhost:6650"; unset: events wait in the outbox."""
    pulsar_admin_url: str | None = None
    """Admin address of the broker, needed to create topics and policies."""
    pulsar_tenant: str = "public"
    """Pulsar tenant of the topics."""
    pulsar_namespace: str = "sizing"
    """Pulsar namespace of the topics. With "{tenant}" in it, as in "sizing-{tenant}", each tenant
    of the service has one of its own, and messages are taken in for all of them."""
    pulsar_token: SecretStr | None = None
    """Token for the broker."""
    pulsar_token_file: Path | None = None
    """File with the token, read again for each connection, so that it can be renewed meanwhile."""
    pulsar_trust_file: Path | None = None
    """Certificates that the broker's must chain to, for pulsar+ssl."""
    secret_keys_file: Path | None = None
    """Keys that encrypt the secrets in the database, the same for all servers on it (a Fernet key a
    line, the newest first); unset: with the embedded database a file in `data_dir`, else none."""
    webhook_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks that webhooks may post to beside public addresses, e.g. ["127.0.0.0/8"]."""
    webhook_trust_file: Path | None = None
    """Certificates that those of webhooks may chain to, beside the usual ones."""
    webhook_timeout_s: float = Field(10.0, gt=0, le=60)
    """Longest time for one post to a webhook, from its name's resolution to the answer's status."""
    webhook_retry_s: float = Field(5.0, gt=0, le=3600)
    """Wait after the first failure of a post; it doubles with each further one, up to an hour."""
    tenant_id: str = Field("local", pattern=f"^{TENANT_ID}$")
    """Tenant of every caller without authentication, and of the topics."""
    auth: Literal["off", "required"] = "off"
    """Whether each call needs a credential: an API key, or a token where `jwks` is set."""
    jwks: str | None = None
    """The token issuer's public keys (JSON Web Key Set): a file, or a URL read every 5 minutes."""
    jwt_issuer: str | None = None
    """`iss` of accepted tokens; needed with `jwks`."""
    jwt_audience: str | None = None
    """`aud` of accepted tokens; needed with `jwks`."""
    jwt_tenant_claim: str = "tenant"
    """Claim of a token that names its tenant."""
    algorithms_file: Path | None = None
    """Custom sizing algorithms that may be asked (TOML, a table each); unset: none."""
    cluster: str | None = Field(None, pattern=r"^[^:/\s]+:\d{1,5}$")
    """HOST:PORT of the head of a Ray cluster that this machine is one of: backtests in mode FAST
    and searches of parameters run on all its machines (extra `cluster`); unset: on this one."""
    otel_endpoint: str | None = None
    """OpenTelemetry collector that spans are sent to (OTLP over gRPC), e.g. "http://localhost:4317";
    unset: none."""
    otel_sample_ratio: float = Field(0.01, ge=0, le=1)
    """Part of the requests that are traced where the caller's trace doesn't say."""
    quota_lines_per_s: float | None = Field(None, gt=0)
    """Lines a second of each caller, where `auth` is required; unset: no bound. One quota over all
    servers on a database, which they share within a second."""
    tls_cert_file: Path | None = None
    """The server's certificate and its chain (PEM), read again when it changes; unset: no TLS."""
    tls_key_file: Path | None = None
    """The key of that certificate (PEM)."""
    tls_client_ca_file: Path | None = None
    """Clients must show a certificate that chains to one of these (PEM); unset: none is asked."""
    identities_file: Path | None = None
    """Who callers are by the SPIFFE ids of their certificates (TOML, `[[identity]]`); unset: a
    certificate says nothing."""
    lines_max: int = Field(100_000, ge=1, le=100_000)
    """Most lines of one request."""
    message_bytes_max: int = Field(64 * 1024 * 1024, ge=1024)
    """Largest message received or sent."""
    deadline_default_s: float = Field(5.0, gt=0, le=600)
    """Time for a call whose caller sets no deadline."""
    connections: int = Field(8, ge=1, le=200)
    """Connections to PostgreSQL."""
    in_flight_max: int = Field(256, ge=1)
    """Calls answered at once; more are refused with advice when to come again."""
    latency_max_s: float = Field(0.25, gt=0)
    """Latency that short calls are kept within under load, by letting fewer in at once."""
    compute_waiting_max: int = Field(1024, ge=1)
    """Requests that may wait for the compute thread."""
    joint_assets: tuple[int, ...] = Field((32, 128, 512), min_length=1)
    """Sizes of book, holdings included, that joint problems are padded to, rising; a larger one is
    refused. Each adds programs that are compiled in the background of the first start."""
    joint_scenarios: tuple[int, ...] = Field((1024, 4096), min_length=1)
    """Numbers of scenarios that joint problems are padded to, rising; more are refused."""
    drain_s: float = Field(10.0, ge=0, le=60)
    """Longest time to finish admitted calls on SIGTERM."""
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe log line written."""
    log_json: bool = False
    """Writes log lines as JSON instead of text."""

    @field_validator("joint_assets", "joint_scenarios")
    @classmethod
    def _rising(cls, ladder: tuple[int, ...]) -> tuple[int, ...]:
        if not all(0 < low < high for low, high in pairwise((0.5, *ladder))):
            raise ValueError("must be positive and rising")
        return ladder

    @model_validator(mode="after")
    def _one_token(self) -> "Config":
        if self.pulsar_token is not None and self.pulsar_token_file is not None:
            raise ValueError("give pulsar_token or pulsar_token_file, not both")
        return self

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> "Config":
        if self.auth == "off" and not is_loopback(self.listen_host):
            text = "without authentication it must be loopback; set auth to required"
            raise ValueError(f"listen_host is {self.listen_host!r}: {text}")
        named = (self.tls_cert_file, self.tls_client_ca_file)
        if any(named) != bool(self.tls_key_file) or (self.tls_key_file and not named[0]):
            raise ValueError("TLS needs tls_cert_file and tls_key_file")
        if self.identities_file and not (self.tls_client_ca_file and self.auth == "required"):
            raise ValueError("identities_file needs auth required and tls_client_ca_file")
        if self.jwks is not None:
            if not (self.jwt_issuer and self.jwt_audience):
                raise ValueError("jwks needs jwt_issuer and jwt_audience")
            url = urlsplit(self.jwks)
            is_local = url.scheme == "http" and is_loopback(url.hostname or "")
            if "://" in self.jwks and url.scheme != "https" and not is_local:
                raise ValueError("jwks must be a file or an https URL")
        return self

    @property
    def joint_shapes(self) -> "JointShapes":
        """The shapes that joint problems are padded to."""
        from compute.optimize.execution import JointShapes

        return JointShapes(self.joint_assets, self.joint_scenarios)


def load(**overrides: Any) -> Config:
    """The configuration of this process. Raises `ConfigError`."""
    known = {f"{PREFIX}{name.upper()}" for name in Config.model_fields} | READ_ELSEWHERE
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(f"{name} is not a setting; `sizing doctor` lists them")
    values: dict[str, Any] = {}
    if path := os.environ.get("SIZING_CONFIG"):
        try:
            values = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"SIZING_CONFIG names {path}: {error}") from error
        for name in Config.model_fields:  # the environment comes first
            if f"{PREFIX}{name.upper()}" in os.environ:
                values.pop(name, None)
    try:
        return Config(**{**values, **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{key or 'settings'}: {first['msg']}") from error
