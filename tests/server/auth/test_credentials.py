"""Key sets, tokens, keys and the settings of authentication, each by itself."""

import asyncio
import base64
import json
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.auth import keyset
from server.auth.access import SCOPES
from server.auth.denials import Denied
from server.auth.identity import Identity
from server.auth.keys import is_same, key_id_of, new_key
from server.auth.keyset import KeySet, KeySetError, parse
from server.auth.roles import ROLES
from server.auth.tokens import Rules, Tokens
from server.client import Client
from server.config import Config
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer

RULES = Rules(ISSUER, AUDIENCE)


async def tokens_of(issuer: Issuer, path: Path) -> tuple[KeySet, Tokens]:
    keys = KeySet(str(issuer.write(path)))
    await keys.renew()
    return keys, Tokens(keys, RULES)


def cause(tokens: Tokens, token: str) -> str:
    with pytest.raises(Denied) as error:
        tokens.identity(token)
    return error.value.cause


async def test_a_token_says_who_calls(tmp_path: Path) -> None:
    issuer = Issuer()
    _, tokens = await tokens_of(issuer, tmp_path / "keys")
    token = issuer.token(scope="sizing.size none.such", roles=["oms", "nobody"], portfolios=["a*"])
    found = tokens.identity(token)
    assert (found.tenant_id, found.subject, found.kind) == ("local", "user:ann", "human")
    assert found.scopes == {"sizing.size", "sizing.read", "sizing.settle"}
    assert found.portfolios == ("a*",)
    assert tokens.identity(token) is found, "remembered"
    assert cause(tokens, issuer.token(more="x" * 9000)) == "malformed"
    for wrong in (
        {"portfolios": "a"},
        {"roles": [1]},
        {"scope": ["sizing.read"]},
        {"sub": "a b"},
        {"sub": ""},
    ):
        assert cause(tokens, issuer.token(**wrong)) == "bad_claims"


async def test_a_token_may_be_bound_to_a_certificate_and_to_nothing_else(tmp_path: Path) -> None:
    issuer = Issuer()
    _, tokens = await tokens_of(issuer, tmp_path / "keys")
    name = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
    assert tokens.identity(issuer.token()).certificate is None
    found = tokens.identity(issuer.token(cnf={"x5t#S256": name}))
    assert found.certificate == bytes(range(32))
    for wrong in (
        *({}, {"jkt": name}, {"x5t#S256": name, "jkt": name}, {"x5t#S256": name[:-3]}),
        *({"x5t#S256": 1}, {"x5t#S256": "!" * 43}, "x5t#S256", [name], 1),
    ):
        assert cause(tokens, issuer.token(cnf=wrong)) == "bad_claims", wrong


async def test_keys_that_must_not_verify_are_left_out(tmp_path: Path) -> None:
    keys, tokens = await tokens_of(Issuer(), tmp_path / "keys")
    assert {name: key.algorithm for name, key in keys.keys.items()} == {
        "rsa": "RS256",
        "ec": "ES256",
        "ed": "EdDSA",
    }
    assert cause(tokens, Issuer().token("secret")) == "unknown_key"
    for text in (b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": [1]}', b'{"keys": {"a": 1}}'):
        with pytest.raises(KeySetError):
            parse(text)


async def test_tokens_are_forgotten_with_the_key_that_signed_them(tmp_path: Path) -> None:
    issuer, path = Issuer(), tmp_path / "keys"
    keys, tokens = await tokens_of(issuer, path)
    token = issuer.token()
    tokens.identity(token)
    await keys.renew()
    tokens.identity(token)
    Issuer().write(path)
    await keys.renew()
    assert cause(tokens, token) == "bad_signature"
    path.write_text("torn")
    with pytest.raises(KeySetError):
        await keys.renew()
    assert keys.keys, "a set that can't be read leaves the old keys"


async def test_a_flood_of_unknown_keys_is_one_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyset, "ASKED_MIN_S", 0.2)
    issuer, path = Issuer(), tmp_path / "keys"
    keys, tokens = await tokens_of(issuer, path)
    running = asyncio.create_task(keys.run())
    began = time.monotonic()
    for number in range(300):
        assert cause(tokens, issuer.token(f"k{number}")) == "unknown_key"
        await asyncio.sleep(0.002)
    renewals, took_s = keys.fetches - 1, time.monotonic() - began
    issuer.keys["new"] = (issuer.ec, "ES256")
    published = issuer.key_set()
    published["keys"].append({**published["keys"][1], "kid": "new"})
    path.write_text(json.dumps(published))
    cause_or_none = None
    for _ in range(100):
        try:
            tokens.identity(issuer.token("new"))
            break
        except Denied as error:
            cause_or_none = error.cause
            await asyncio.sleep(0.1)
    else:
        raise AssertionError(cause_or_none)
    running.cancel()
    assert 1 <= renewals <= 1 + took_s / 0.2, "never one for each token"


def test_no_role_changes_limits_and_sizes_under_them() -> None:
    for name, scopes in ROLES.items():
        assert scopes <= set(SCOPES.values()), name
        assert not {"sizing.limits.propose", "sizing.size"} <= scopes, name


def test_grants_are_the_same_in_memory_and_in_sql() -> None:
    some = Identity("t", "s", frozenset(), ("a_b", "x%*", "tech-*"))
    assert some.granted == ("a\\_b", "x\\%%", "tech-%")
    assert Identity("t", "s", frozenset()).granted is None
    assert some.is_granted("tech-1")
    assert not some.is_granted("axb")


def test_keys_have_a_form_and_are_kept_as_hashes() -> None:
    made = new_key()
    assert key_id_of(made.text) == made.key_id
    assert is_same(made.text, made.hash)
    assert not is_same(new_key().text, made.hash)
    for bad in ("", "psk_", made.text + "x", made.text[:-1], made.text.upper()):
        assert key_id_of(bad) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"listen_host": "0.0.0.0"}, "loopback"),
        ({"listen_host": "::"}, "loopback"),
        ({"listen_host": "sizing.example"}, "loopback"),
        ({"auth": "maybe"}, "off"),
        ({"auth": "required", "jwks": "keys.json"}, "jwt_issuer"),
        (
            {"jwks": "http://issuer.example/keys", "jwt_issuer": "i", "jwt_audience": "a"},
            "https",
        ),
    ],
)
def test_settings_that_would_let_strangers_in(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config(**settings)  # type: ignore[arg-type]


def test_settings_that_are_fine() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert Config(listen_host=host).auth == "off"
    assert Config(listen_host="0.0.0.0", auth="required").jwks is None
    Config(jwks="http://127.0.0.1:1/keys", jwt_issuer="i", jwt_audience="a")


def test_a_client_sends_no_token_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with pytest.raises(ValueError, match="TLS"):
        Client("sizing.example:50051", token_file=tmp_path / "token")
    Client("127.0.0.1:1", token_file=tmp_path / "token")
