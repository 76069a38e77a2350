"""Secrets that have to be read again, such as those that sign webhooks: encrypted when stored.

    keys = SecretKeys(file)                     a Fernet key a line, the newest first
    sealed = keys.seal(secret, place)           by the newest
    secret = keys.open(sealed, place)           by whichever fits

Fernet is AES-128 in CBC mode with HMAC-SHA256 (https://github.com/fernet/spec). What is encrypted
begins with its place, such as the tenant and id of a webhook, so that whoever can write the
database but hasn't the keys can't use a secret in the place of another.
"""

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from server.config import Config

_FILE_NAME = "secret.keys"


class SecretKeysError(Exception):
    """There is no key, or none that fits; the text says which file to look at."""


class SecretKeys:
    """The keys in a file, read again when it changes. path None: there are none."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._read_as: tuple[int, int, int] | None = None
        self._keys: MultiFernet | None = None

    def seal(self, secret: bytes, place: str) -> bytes:
        """A secret encrypted by the first key. Errors: `SecretKeysError`."""
        return self._current().encrypt(_prefix(place) + secret)

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for a place. Errors: `SecretKeysError`."""
        try:
            content = self._current().decrypt(sealed)
        except InvalidToken as error:
            raise SecretKeysError(f"no key in {self.path} fits the secret of {place}") from error
        if not content.startswith(_prefix(place)):
            raise SecretKeysError(f"the secret of {place} was made for something else")
        return content[len(_prefix(place)) :]

    def _current(self) -> MultiFernet:
        if self.path is None:
            raise SecretKeysError("no keys for secrets are set: name a file, secret_keys_file")
        try:
            found = self.path.stat()
            read_as = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._keys is None or read_as != self._read_as:
                self._keys = _parsed(self.path.read_text())
                self._read_as = read_as
        except (OSError, ValueError) as error:
            raise SecretKeysError(f"secret_keys_file {self.path}: {error}") from error
        return self._keys


def new_key() -> str:
    """A key for the file: 256 random bits, base64."""
    return Fernet.generate_key().decode()


def keys_of(config: Config) -> SecretKeys:
    """The keys of a server; with the embedded database they are in its folder if nowhere else."""
    if config.secret_keys_file is None and config.dsn is None:
        return SecretKeys(config.data_dir / _FILE_NAME)
    return SecretKeys(config.secret_keys_file)


def ensure(config: Config) -> SecretKeys:
    """The same, the file made where it is the one beside the embedded database and missing."""
    keys = keys_of(config)
    if config.secret_keys_file is None and keys.path is not None:
        keys.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            number = os.open(keys.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return keys
        with os.fdopen(number, "w") as file:
            file.write(f"{new_key()}\n")
    return keys


def _prefix(place: str) -> bytes:
    return place.encode() + b"\0"


def _parsed(text: str) -> MultiFernet:
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError("has no key; `sizing secrets new-key` makes one")
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:  # without the key itself
        text = "each line must be a key of 32 bytes as URL-safe base64"
        raise ValueError(text) from error
