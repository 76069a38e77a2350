"""The server's certificate, renewed while it serves.

Files are looked at again and again. A new pair that fits together and has not expired counts for
the next connection; one that doesn't is logged and leaves the old one. Connections that are open go
on with what they began with, for `CONNECTION_AGE_MAX_S`.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from server.auth.files import Stamp, look_for_ever, stamp
from server.config import Config

_log = structlog.get_logger(__name__)

CONNECTION_AGE_MAX_S = 300
"""Bounds how long a peer stays whose authority is trusted no more."""
CONNECTION_GRACE_S = 600
"""For the calls of a connection that has reached its age: as long as the longest deadline."""


@dataclass(frozen=True)
class _Pair:
    configuration: Any
    not_after: datetime


class Certificates:
    """Key and certificate from files. Errors: `OSError` where they are wrong at the start."""

    def __init__(self, cert_file: Path, key_file: Path, client_ca_file: Path | None) -> None:
        self._cert_file, self._key_file, self._client_ca_file = cert_file, key_file, client_ca_file
        self._seen = self._stamp()
        try:
            self._pair = self._read()
        except ValueError as error:
            raise OSError(f"TLS: {error}") from error
        self._next: Any = None
        self.refused = 0

    @property
    def not_after(self) -> float:
        """When the certificate in use expires, seconds since 1970."""
        return self._pair.not_after.timestamp()

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. With authorities of clients, these need a certificate."""
        return grpc.dynamic_ssl_server_credentials(
            self._pair.configuration,
            self._take,
            require_client_authentication=self._client_ca_file is not None,
        )

    def options(self) -> list[tuple[str, int]]:
        """For the server: connections end after a while, and clients make new ones."""
        return [
            ("grpc.max_connection_age_ms", CONNECTION_AGE_MAX_S * 1000),
            ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_S * 1000),
        ]

    async def run(self) -> None:
        """Looks for new files for ever."""
        await look_for_ever(self.look)

    def look(self) -> None:
        """Takes new files if there are any and they are right."""
        try:
            seen = self._stamp()
            if seen == self._seen:
                return
            self._pair = self._read()
        except (OSError, ValueError) as error:
            self.refused += 1
            _log.error("the new certificate is not used", error=str(error))
            return
        self._seen = seen
        self._next = self._pair.configuration
        _log.info("a new certificate", expires=self._pair.not_after.isoformat())

    def _take(self) -> Any:
        """Called at every handshake, on a thread of gRPC's: what is new, once."""
        found, self._next = self._next, None
        return found

    def _stamp(self) -> Stamp:
        files = [self._cert_file, self._key_file, self._client_ca_file]
        return stamp(file for file in files if file is not None)

    def _read(self) -> _Pair:
        """Errors: `OSError`, `ValueError`."""
        chain, key = self._cert_file.read_bytes(), self._key_file.read_bytes()
        first = x509.load_pem_x509_certificates(chain)[0]
        try:
            secret = load_pem_private_key(key, password=None)
        except TypeError as error:
            raise ValueError(f"{self._key_file} is encrypted") from error
        if secret.public_key() != first.public_key():
            raise ValueError(f"{self._key_file} is not the key of {self._cert_file}")
        if first.not_valid_after_utc.timestamp() <= time.time():
            expired = first.not_valid_after_utc.astimezone(UTC).isoformat()
            raise ValueError(f"{self._cert_file} expired on {expired}")
        authorities = None
        if self._client_ca_file is not None:
            authorities = self._client_ca_file.read_bytes()
            x509.load_pem_x509_certificates(authorities)
        configuration = grpc.ssl_server_certificate_configuration([(key, chain)], authorities)
        return _Pair(configuration, first.not_valid_after_utc)


def certificates_of(config: Config) -> Certificates | None:
    """The certificate that the configuration names; None: plain text. Errors: `OSError`."""
    if config.tls_cert_file is None or config.tls_key_file is None:
        return None
    return Certificates(config.tls_cert_file, config.tls_key_file, config.tls_client_ca_file)
