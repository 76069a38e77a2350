"""A real Apache Pulsar for tests: one broker a run, asking for tokens, with a TLS port as well.

Without Java, Maven or openssl there is no broker: the tests that need it then fail where CI=true
and are skipped elsewhere, saying what is missing.
"""

import base64
import dataclasses
import hashlib
import hmac
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from storage.events import topics
from storage.events.broker.jars import BrokerMissing
from storage.events.broker.process import LocalBroker, Ports
from storage.events.client import BrokerConfig, PulsarBroker

SECRET = hashlib.sha256(b"a secret of the tests").digest()

running: dict[str, LocalBroker] = {}
"""Brokers of this run, by the names of their fixtures."""

_numbers = itertools.count(1)


def token(subject: str, secret: bytes = SECRET) -> str:
    """A JSON Web Token (HS256) for a role of the broker."""

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    head = part(json.dumps({"alg": "HS256"}).encode())
    body = part(json.dumps({"sub": subject}).encode())
    signature = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{part(signature)}"


@dataclasses.dataclass(frozen=True)
class TestBroker:
    """The broker of this run and how to reach it."""

    __test__ = False

    process: LocalBroker
    certificate: Path
    tls_port: int
    tls_web_port: int

    def config(self, namespace: str = "unused") -> BrokerConfig:
        """The plain ports, as the broker's administrator."""
        return BrokerConfig(
            service_url=self.process.service_url,
            admin_url=self.process.admin_url,
            namespace=namespace,
            token=token("admin"),
            send_timeout_s=30.0,
            operation_timeout_s=30,
        )

    def tls_config(self, namespace: str = "unused") -> BrokerConfig:
        """The same over TLS, trusting the broker's own certificate alone."""
        return dataclasses.replace(
            self.config(namespace),
            service_url=f"pulsar+ssl://127.0.0.1:{self.tls_port}",
            admin_url=f"https://127.0.0.1:{self.tls_web_port}",
            tls_trust_file=str(self.certificate),
        )


def missing(why: str) -> None:
    """Fail in CI, skip elsewhere: a run without a broker never looks like one with it."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"no broker, and CI must have one: {why}")
    pytest.skip(f"NO BROKER, so nothing about Pulsar was tested: {why}")


@pytest.fixture(scope="session")
def pulsar_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """A running broker, stopped at the end of the run."""
    folder = tmp_path_factory.mktemp("pulsar")
    broker = make_broker(folder)
    try:
        broker.process.start()
    except BrokerMissing as error:
        missing(str(error))
    running["pulsar_broker"] = broker.process
    yield broker
    broker.process.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test that has a broker shows what the broker itself complained about."""
    report = yield
    if report.failed:
        for process in [
            running[name] for name in getattr(item, "fixturenames", ()) if name in running
        ]:
            free_mb = shutil.disk_usage(process.data_dir).free // 2**20
            report.sections.append((f"the broker's log ({free_mb} MB free)", process.log_tail()))
    return report


def make_broker(folder: Path) -> TestBroker:
    """A broker with authentication and TLS, not started yet."""
    certificate = make_certificate(folder)
    tls = Ports.free()
    settings = {
        "authenticationEnabled": "true",
        "authenticationProviders": (
            "org.apache.pulsar.broker.authentication.AuthenticationProviderToken"
        ),
        "tokenSecretKey": "data:;base64," + base64.b64encode(SECRET).decode(),
        "authorizationEnabled": "true",
        "superUserRoles": "admin",
        "brokerClientAuthenticationPlugin": (
            "org.apache.pulsar.client.impl.auth.AuthenticationToken"
        ),
        "brokerClientAuthenticationParameters": f"token:{token('admin')}",
        "brokerServicePortTls": str(tls.service),
        "webServicePortTls": str(tls.web),
        "tlsCertificateFilePath": str(certificate),
        "tlsKeyFilePath": str(folder / "key.pem"),
        "tlsTrustCertsFilePath": str(certificate),
    }
    process = LocalBroker(folder / "data", Ports.free(), settings, token("admin"))
    return TestBroker(process, certificate, tls.service, tls.web)


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, its key in key.pem beside it."""
    if shutil.which("openssl") is None:
        missing("`openssl` was not found; it makes the certificate of the test broker")
    certificate = folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(folder / "key.pem"), "-out", str(certificate)),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


@pytest.fixture(scope="module")
def broker_config(pulsar_broker: TestBroker) -> BrokerConfig:
    """A namespace of this test module alone, with all topics and subscriptions in it."""
    config = pulsar_broker.config(f"test-{next(_numbers)}")
    topics.ensure(config)
    return config


@pytest_asyncio.fixture
async def broker(broker_config: BrokerConfig) -> AsyncIterator[PulsarBroker]:
    """A connection to the module's namespace."""
    opened = PulsarBroker(broker_config)
    yield opened
    await opened.close()
