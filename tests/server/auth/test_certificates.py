"""Callers by the SPIFFE ids of their certificates, and nobody by anything else in them."""

import asyncio
import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from positionsizing.v1 import portfolio_service_pb2 as pb
from pydantic import ValidationError

from compute.shapes import KernelRegistry
from server.auth.certificates import CertificateIdentities, load
from server.client import Client
from server.config import Config
from storage import embedded
from storage.postgres import credentials, tenants
from tests.fixtures_postgres import create_database
from tests.server.auth.test_tls import Authority
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer
from tests.server.support.service_client import started

BOOKS = "spiffe://acme/ns/trading/sa/books"
VIEWER = "spiffe://acme/ns/trading/sa/viewer"
STRANGER = "spiffe://acme/ns/trading/sa/book"
ELSEWHERE = "spiffe://acme/ns/other"
FILE = f"""
[[identity]]
spiffe = "{BOOKS}"
tenant = "local"
roles = ["books"]
portfolios = ["tech-*"]

[[identity]]
spiffe = "{VIEWER}"
tenant = "local"
scopes = ["sizing.read"]

[[identity]]
spiffe = "{ELSEWHERE}"
tenant = "nobody"
roles = ["viewer"]
"""


def issue(authority: Authority, name: str, *uris: str) -> tuple[Path, Path]:
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return authority.issue(name, names=[*names, x509.DNSName(BOOKS.partition("//")[2])])


async def test_a_certificate_says_who_calls_and_a_token_beside_it_says_it_alone(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    authority, issuer = Authority(tmp_path, "authority"), Issuer()
    pair, identities = authority.issue("server"), tmp_path / "identities.toml"
    identities.write_text(FILE)
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    owner = await asyncpg.connect(dsn)
    await tenants.ensure(owner, "local")
    token = tmp_path / "token"
    token.write_text(issuer.token(sub="ann", scope="sizing.read"))
    async with started(
        postgres_server,
        kernels,
        tmp_path,
        dsn=dsn,
        auth="required",
        jwks=str(issuer.write(tmp_path / "keys.json")),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        tls_cert_file=pair[0],
        tls_key_file=pair[1],
        tls_client_ca_file=authority.file,
        identities_file=identities,
    ) as app:
        held: list[Client] = []

        def client(name: str, *uris: str, **more: Any) -> Client:
            cert, key = issue(authority, name, *uris)
            files = {"ca_file": authority.file, "cert_file": cert, "key_file": key}
            held.append(Client(f"127.0.0.1:{app.port}", **files, **more))
            return held[-1]

        async def asked(caller: Client, book: str = "") -> str:
            """The code of making a portfolio, or of listing them."""

            def call() -> str:
                try:
                    if not book:
                        caller.portfolios.ListPortfolios(pb.ListPortfoliosRequest(), timeout=30)
                    else:
                        made = pb.Portfolio(portfolio_id=book, base_currency="USD", cash=1.0)
                        request = pb.CreatePortfolioRequest(portfolio=made)
                        caller.portfolios.CreatePortfolio(request, timeout=30)
                except grpc.RpcError as error:
                    return str(error.code().name)
                return "OK"

            return await asyncio.to_thread(call)

        books, viewer = client("books", BOOKS), client("viewer", VIEWER)
        assert await asked(books, "tech-a") == "OK"
        assert await asked(books, "bonds") == "PERMISSION_DENIED"
        assert await asked(viewer) == "OK"
        assert await asked(viewer, "tech-b") == "PERMISSION_DENIED"
        for name, uris in {
            "a name that is nearly it": [STRANGER],
            "a longer name": [f"{BOOKS}/x"],
            "two names": [BOOKS, VIEWER],
            "no name, and a host of that name": [],
            "a tenant that is not there": [ELSEWHERE],
        }.items():
            assert await asked(client("other", *uris)) == "UNAUTHENTICATED", name
        both = client("both", BOOKS, token_file=token)
        assert await asked(both) == "OK"
        assert await asked(both, "tech-c") == "PERMISSION_DENIED", "the token says who it is"
        token.write_text("wrong")
        assert await asked(both) == "UNAUTHENTICATED", "and a wrong one isn't made up for"
        until = datetime.now(UTC) + timedelta(days=1)
        await credentials.block(owner, "local", VIEWER, until=until, author="op", reason="left")
        give_up = time.monotonic() + 60.0
        while await asked(viewer) == "OK":
            assert time.monotonic() < give_up
            await asyncio.sleep(0.2)
        assert await asked(viewer) == "UNAUTHENTICATED"
        # A token that names a certificate is good over connections with that one alone.
        own = issue(authority, "bound")
        digest = x509.load_pem_x509_certificate(own[0].read_bytes()).fingerprint(hashes.SHA256())
        named = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        bound = issuer.token(sub="ann", scope="sizing.read", cnf={"x5t#S256": named})
        token.write_text(bound)
        assert await asked(client("another", token_file=token)) == "UNAUTHENTICATED"
        files = {"ca_file": authority.file, "cert_file": own[0], "key_file": own[1]}
        held.append(Client(f"127.0.0.1:{app.port}", **files, token_file=token))
        assert await asked(held[-1]) == "OK"
        # The file of identities counts as it is now, over connections that are open too.
        identities.write_text("[[identity]]\nspiffe = 'nonsense'\n")
        await asyncio.sleep(0)
        assert await asked(books, "tech-d") == "OK", "a file that is wrong leaves the old one"
        identities.write_text(FILE.replace(BOOKS, STRANGER))
        give_up = time.monotonic() + 60.0
        while await asked(books) != "UNAUTHENTICATED":
            assert time.monotonic() < give_up
            await asyncio.sleep(0.2)
        assert await asked(client("stranger", STRANGER), "tech-e") == "OK"
        for one in held:
            one.__exit__()
    await owner.close()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('spiffe = "https://acme/x"', "must be like spiffe://"),
        (f'spiffe = "{BOOKS}"\nroles = ["king"]', "role 'king' is not known"),
        (f'spiffe = "{BOOKS}"\nscopes = ["all"]', "scope 'all' is not known"),
        (f'spiffe = "{BOOKS}"\nname = "x"', "'name' is not known"),
        (f'spiffe = "{BOOKS}"', "no tenant id"),
        (
            f'spiffe = "{BOOKS}"\ntenant = "a"\n[[identity]]\nspiffe = "{BOOKS}"\ntenant = "b"',
            "twice",
        ),
        ("spiffe = ", "Invalid value"),
    ],
)
def test_a_file_that_is_wrong_says_what(tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "identities.toml"
    file.write_text(f"[[identity]]\n{row}\n")
    with pytest.raises(OSError, match=said):
        load(file)
    with pytest.raises(ValidationError, match="identities_file needs"):
        Config(identities_file=file)


def test_a_new_file_is_taken_if_it_is_right(tmp_path: Path) -> None:
    file = tmp_path / "identities.toml"
    file.write_text(FILE)
    found = CertificateIdentities(file)
    assert found.of(peer(BOOKS)) is not None
    assert found.of(peer(STRANGER)) is None
    for wrong in ("[[identity]]\nspiffe = 1\n", FILE + FILE, "]"):
        file.write_text(wrong)
        found.look()
        assert found.of(peer(BOOKS)) is not None
    file.unlink()
    found.look()
    assert (found.refused, found.of(peer(BOOKS)) is not None) == (4, True)
    fresh = tmp_path / "fresh.toml"
    fresh.write_text(FILE.replace(BOOKS, STRANGER))
    file.symlink_to(fresh)
    found.look()
    assert found.of(peer(BOOKS)) is None
    assert found.of(peer(STRANGER)) is not None


def peer(spiffe: str) -> dict[str, list[bytes]]:
    return {"peer_spiffe_id": [spiffe.encode()]}
