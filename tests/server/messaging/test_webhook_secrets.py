"""Secrets of webhooks in the database: readable with the keys in a file, and with nothing else."""

import asyncio
import base64
from pathlib import Path

import asyncpg
import pytest
from cryptography.fernet import Fernet
from positionsizing.v1 import webhook_service_pb2 as pb

from compute.shapes import KernelRegistry
from server.config import Config
from server.secret_keys import SecretKeys, SecretKeysError, ensure, keys_of, new_key
from server.webhooks.secrets import opened, sealed
from server.webhooks.signature import shown
from storage import embedded
from storage.postgres import tenants
from tests.fixtures_postgres import create_database
from tests.server.messaging.test_webhooks import SETTINGS, create, halt
from tests.server.support.receiver import Receiver, is_signed
from tests.server.support.service_client import Client, refusal, started

TENANT = "local"


def keys_in(file: Path, *keys: str) -> SecretKeys:
    file.write_text("# newest first\n\n" + "".join(f"{key}\n" for key in keys))
    return SecretKeys(file)


def test_what_is_sealed_opens_with_its_key_in_its_place_only(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    keys = keys_in(tmp_path / "keys", old)
    first = sealed(keys, "acme", "desk", b"secret" * 5)
    assert b"secret" not in base64.urlsafe_b64decode(first)
    assert sealed(keys, "acme", "desk", b"secret" * 5) != first
    keys_in(tmp_path / "keys", new, old)  # read again
    assert opened(keys, "acme", "desk", first) == b"secret" * 5
    second = sealed(keys, "acme", "desk", b"secret" * 5)
    Fernet(new).decrypt(second)
    for tenant, webhook in (("acme", "des"), ("acme", "desk2"), ("acm", "desk"), ("other", "desk")):
        with pytest.raises(SecretKeysError, match="made for something else"):
            opened(keys, tenant, webhook, first)
    keys_in(tmp_path / "keys", new)
    assert opened(keys, "acme", "desk", second) == b"secret" * 5
    with pytest.raises(SecretKeysError, match=r"no key in .*keys fits the secret of webhook/acme"):
        opened(keys, "acme", "desk", first)
    for place in range(len(second)):
        changed = second[:place] + bytes([second[place] ^ 1]) + second[place + 1 :]
        with pytest.raises(SecretKeysError):
            opened(keys, "acme", "desk", changed)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "has no key"), ("# nothing\n", "has no key"), ("short\n", "must be a key of 32 bytes")],
)
def test_a_file_without_a_key_is_refused_without_its_content(
    tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "keys"
    with pytest.raises(SecretKeysError, match="No such file"):
        SecretKeys(file).seal(b"", "x")
    file.write_text(content)
    with pytest.raises(SecretKeysError, match=said) as caught:
        SecretKeys(file).seal(b"", "x")
    assert "short" not in str(caught.value)


def test_the_file_beside_the_embedded_database_is_made_once(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "data")
    made = ensure(config).path
    assert made == tmp_path / "data" / "secret.keys"
    content = made.read_text()
    assert made.stat().st_mode & 0o777 == 0o600
    assert ensure(config).path == made
    assert made.read_text() == content
    assert keys_of(Config(dsn="postgresql:///x", data_dir=tmp_path)).path is None
    named = Config(secret_keys_file=tmp_path / "mine")
    assert ensure(named).path == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


async def test_without_keys_no_webhook_is_made(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "secret_keys_file": None}
    async with (
        started(postgres_server, kernels, tmp_path, **settings) as app,
        Client.connected(app.port) as client,
    ):
        hook = pb.Webhook(webhook_id="a", url="http://127.0.0.1:9/", topics=["alerts"])
        found = await refusal(client.webhooks.CreateWebhook(pb.CreateWebhookRequest(webhook=hook)))
        assert found.reason == "SECRET_KEYS_MISSING"
        assert "secret_keys_file" in found.message
        assert not (await client.webhooks.ListWebhooks(pb.ListWebhooksRequest())).webhooks


async def test_secrets_are_sealed_and_change_their_key_while_posts_go_on(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that an older release stored as it is, and one made now; then another key."""
    from server.cli import app as cli

    dsn = create_database(postgres_server, template=embedded.DATABASE)
    owner = await asyncpg.connect(dsn)
    await tenants.ensure(owner, TENANT)
    plain, file, old, new = bytes(range(32)), tmp_path / "secret.keys", new_key(), new_key()
    keys_in(file, old)

    async def stored() -> dict[str, bytes]:
        rows = await owner.fetch("SELECT webhook_id, secret FROM webhook")
        return {row["webhook_id"]: row["secret"] for row in rows}

    async with Receiver.started() as receiver:
        await owner.execute(
            """INSERT INTO webhook
                (tenant_id, webhook_id, url, topics, attempts_max, secret, author)
            VALUES ($1, 'before', $2, '{trading-state-changed}', 16, $3, 'a')""",
            TENANT,
            receiver.url("/before"),
            plain,
        )
        async with (
            started(postgres_server, kernels, tmp_path, dsn=dsn, **SETTINGS) as app,
            Client.connected(app.port) as client,
        ):
            assert opened(SecretKeys(file), TENANT, "before", (await stored())["before"]) == plain
            assert all(plain not in value for value in (await stored()).values())
            book = await client.put_portfolio(1e6)
            name, secret = await create(client, receiver.url("/now"), "trading-state-changed")
            monkeypatch.setenv("SIZING_DSN", dsn)
            monkeypatch.setenv("SIZING_SECRET_KEYS_FILE", str(file))

            async def posted(n: int) -> None:
                await halt(client, book, 3 if n % 2 else 1)
                await receiver.until(lambda: len(receiver.posts) == 2 * n)
                for path, mine in (("/before", shown(plain)), ("/now", secret)):
                    assert is_signed(receiver.accepted(path)[-1], mine)

            await posted(1)
            keys_in(file, new, old)
            await posted(2)
            before = await stored()
            assert await asyncio.to_thread(run, cli, "secrets", "reseal") == 0
            assert "2 webhooks" in capsys.readouterr().out
            keys_in(file, new)
            after = await stored()
            assert all(before[key] != after[key] for key in before)
            await posted(3)
            await owner.execute(  # of another webhook: not used in its place
                "UPDATE webhook SET secret = $1 WHERE webhook_id = $2", after["before"], name
            )
            await halt(client, book, 3)
            await receiver.until(lambda: len(receiver.accepted("/before")) == 4)
            assert len(receiver.accepted("/now")) == 3
            await asyncio.to_thread(run, cli, "secrets", "new-key")
            Fernet(capsys.readouterr().out.split()[-1])
            keys_in(file, old)
            assert await asyncio.to_thread(run, cli, "secrets", "reseal") == 1
    await owner.close()


def run(cli: object, *words: str) -> int:
    try:
        cli(list(words))  # type: ignore[operator]
    except SystemExit as end:
        return int(end.code or 0)
    return 0
