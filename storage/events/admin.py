"""The broker's admin REST API, as far as the topics of this service need it."""

import json
import random
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from storage.errors import StorageError
from storage.events.backoff import Backoff
from storage.events.client import BrokerConfig
from storage.events.ports import BrokerUnavailable

_TIMEOUT_S = 30.0
_BACKOFF = Backoff(0.2, 3.0)


class AdminRefused(StorageError):
    """The broker understood and refused; `status` is the HTTP status."""

    reason = "BROKER_ADMIN_REFUSED"

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f"{method} {path}: {status} {text[:500]}")
        self.status = status


class Admin:
    """Calls block: use it from a thread. `path` is relative to /admin/v2.

    A call that finds the broker unavailable is made again for `patience_s` seconds; 0: once only.
    All of them may be repeated without harm. What the broker refuses is refused at once.
    """

    def __init__(self, config: BrokerConfig, patience_s: float = 0.0) -> None:
        if not config.admin_url:
            raise ValueError("the configuration names no admin_url")
        self._base = config.admin_url.rstrip("/") + "/admin/v2/"
        self._config = config
        self._patience_s = patience_s
        self._tls = (
            ssl.create_default_context(cafile=config.tls_trust_file or None)
            if self._base.startswith("https:")
            else None
        )

    def get(self, path: str) -> Any:
        """Read something. Errors: `AdminRefused`, `BrokerUnavailable`."""
        return self._call("GET", path)

    def put(self, path: str, body: object = None) -> bool:
        """Create something; False if it is there already. Errors: as `get`."""
        try:
            self._call("PUT", path, body)
        except AdminRefused as error:
            if error.status == 409:
                return False
            raise
        return True

    def post(self, path: str, body: object) -> None:
        """Set something. Errors: as `get`."""
        self._call("POST", path, body)

    def delete(self, path: str) -> None:
        """Take something away. Errors: as `get`."""
        self._call("DELETE", path)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        give_up, n_failures, rng = time.monotonic() + self._patience_s, 0, random.Random()
        while True:
            try:
                return self._call_once(method, path, body)
            except BrokerUnavailable:
                delay_s = _BACKOFF.delay_s(n_failures, rng)
                if time.monotonic() + delay_s > give_up:
                    raise
                time.sleep(delay_s)
                n_failures += 1

    def _call_once(self, method: str, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if token := self._config.read_token():
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._tls) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            if error.code >= 500:
                raise BrokerUnavailable(f"{method} {path}: {error.code} {text[:500]}") from error
            raise AdminRefused(method, path, error.code, text) from error
        except OSError as error:
            raise BrokerUnavailable(f"no answer from {self._base}: {error}") from error
        return json.loads(content) if content else None
