"""TLS and client certificates, and both renewed while the server serves."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from positionsizing.v1 import portfolio_service_pb2 as pb
from pydantic import ValidationError

from compute.shapes import KernelRegistry
from server.auth.tls import Certificates
from server.client import Client
from server.config import Config
from storage import embedded
from tests.server.support.service_client import started

LIST = pb.ListPortfoliosRequest()


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(name, self._key, is_authority=True)
        self.file = self._write(f"{name}.pem", self._certificate.public_bytes(PEM))

    def issue(
        self, name: str, days: float = 1.0, names: Sequence[x509.GeneralName] = ()
    ) -> tuple[Path, Path]:
        """Files of a new certificate, for this machine unless `names` say another, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate = self._sign(name, key, days=days, names=names).public_bytes(PEM)
        return self._write(f"{name}.crt", certificate), self._write(f"{name}.key", secret)

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(data)
        return path

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        is_authority: bool = False,
        days: float = 1.0,
        names: Sequence[x509.GeneralName] = (),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        names = names or [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


PEM = serialization.Encoding.PEM


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def replace(pair: tuple[Path, Path], new: tuple[Path, Path]) -> None:
    """As an agent does that renews certificates: other files under the same names."""
    for old, fresh in zip(pair, new, strict=True):
        os.replace(fresh, old)


async def listed(client: Client) -> int:
    """How many portfolios there are. The blocking client runs beside the server's loop."""
    import asyncio

    answer = await asyncio.to_thread(client.portfolios.ListPortfolios, LIST, timeout=20)
    return len(answer.portfolios)


async def test_only_over_tls_with_a_certificate_and_both_are_renewed(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    clients = Authority(tmp_path, "clients")
    pair, mine = first.issue("server"), clients.issue("me")
    others = second.issue("other")
    async with started(
        postgres_server,
        kernels,
        tmp_path,
        tls_cert_file=pair[0],
        tls_key_file=pair[1],
        tls_client_ca_file=clients.file,
    ) as app:
        address = f"127.0.0.1:{app.port}"

        def client(authority: Authority, shown: tuple[Path, Path] | None = mine) -> Client:
            cert_file, key_file = shown or (None, None)
            return Client(address, ca_file=authority.file, cert_file=cert_file, key_file=key_file)

        with client(first) as held:
            assert await listed(held) == 0
            strangers = [
                Client(address),
                client(first, None),
                client(first, others),
                client(second),
            ]
            for stranger in strangers:
                with stranger, pytest.raises(grpc.RpcError) as error:
                    await listed(stranger)
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE

            replace(pair, second.issue("renewed"))
            give_up = time.monotonic() + 120
            while True:
                with client(second) as fresh:
                    try:
                        assert await listed(fresh) == 0
                        break
                    except grpc.RpcError:
                        assert time.monotonic() < give_up
            assert await listed(held) == 0, "open connections go on"
        names = {metric.name for metric in app.telemetry.registry.collect()}
        assert "sizing_certificate_not_after_seconds" in names


def test_a_pair_that_is_wrong_leaves_the_old_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "a")
    pair = authority.issue("server")
    held = Certificates(*pair, None)
    until = held.not_after
    assert held._take() is None
    other = authority.issue("other", days=3)
    replace((pair[0],), (other[0],))  # type: ignore[arg-type]
    held.look()
    assert (held.refused, held.not_after, held._take()) == (1, until, None)
    replace((pair[1],), (other[1],))  # type: ignore[arg-type]
    held.look()
    assert held.not_after > until
    assert held._take() is not None
    assert held._take() is None, "taken once"
    replace(pair, authority.issue("old", days=-1))
    held.look()
    assert held.refused == 2


def test_a_start_with_wrong_files_says_which(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "a")
    (one, key), (_, other_key) = authority.issue("one"), authority.issue("two")
    with pytest.raises(OSError, match=r"two\.key is not the key"):
        Certificates(one, other_key, None)
    with pytest.raises(OSError, match=r"old\.crt expired"):
        Certificates(*authority.issue("old", days=-1), None)
    with pytest.raises(OSError, match="TLS"):
        Certificates(key, key, None)
    for settings in ({"tls_cert_file": one}, {"tls_client_ca_file": one}):
        with pytest.raises(ValidationError, match="tls_key_file"):
            Config(**settings)  # type: ignore[arg-type]
