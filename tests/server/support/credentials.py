"""An issuer of tokens for tests: its keys, its key set, and tokens good and bad."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.test", "sizing"


class Issuer:
    """Three keys, one of each type; `write` makes the key set."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.keys: dict[str, tuple[Any, str]] = {
            "rsa": (self.rsa, "RS256"),
            "ec": (self.ec, "ES256"),
            "ed": (self.ed, "EdDSA"),
        }

    def key_set(self) -> dict[str, Any]:
        """The public keys, with a symmetric and a weak one that must not be used."""
        weak = rsa.generate_private_key(65537, 1024).public_key()
        secret = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
        return {
            "keys": [
                {**RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True), "kid": "rsa"},
                {**ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True), "kid": "ec"},
                {**OKPAlgorithm.to_jwk(self.ed.public_key(), as_dict=True), "kid": "ed"},
                {**RSAAlgorithm.to_jwk(weak, as_dict=True), "kid": "weak"},
                {"kty": "oct", "k": secret, "kid": "secret"},
            ]
        }

    def write(self, path: Path) -> Path:
        """The key set as a file."""
        path.write_text(json.dumps(self.key_set()))
        return path

    def token(self, kid: str = "ec", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token; a claim that is None is left out."""
        key, algorithm = self.keys.get(kid, self.keys["ec"])
        payload = {
            name: value for name, value in self.claims(**claims).items() if value is not None
        }
        return jwt.encode(payload, key, algorithm, headers={"kid": kid, **(header or {})})

    def claims(self, **given: Any) -> dict[str, Any]:
        """Of somebody who may read."""
        now = int(time.time())
        usual = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ann",
            "tenant": "local",
            "scope": "sizing.read",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
        }
        return {**usual, **given}

    def unsigned(self, **claims: Any) -> str:
        """A token of the algorithm none."""
        return jwt.encode(self.claims(**claims), None, "none", headers={"kid": "rsa"})  # type: ignore[arg-type]

    def confused(self, **claims: Any) -> str:
        """A token of HS256 whose secret is the public RSA key."""
        public = self.rsa.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        header = {"alg": "HS256", "typ": "JWT", "kid": "rsa"}
        text = ".".join(
            _part(json.dumps(part).encode()) for part in (header, self.claims(**claims))
        )
        return f"{text}.{_part(hmac.new(public, text.encode(), hashlib.sha256).digest())}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
