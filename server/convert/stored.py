"""Messages from the documents that are stored of them."""

from collections.abc import Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from server.calls.errors import Refusal

M = TypeVar("M", bound=Message)


def read_stored(stored: Mapping[str, Any], message: M) -> M:
    """The message that a document stands for, filled in.

    Raises `Refusal` for a field that this release doesn't know: one that is left out might be the
    bound that counts. While servers are replaced another one answers.
    """
    try:
        return json_format.ParseDict(dict(stored), message)
    except json_format.ParseError as error:
        what = f"{type(message).__name__} was stored by a newer release: {error}"
        code = grpc.StatusCode.UNAVAILABLE
        raise Refusal(code, "STORED_BY_NEWER_RELEASE", what, retry_after_s=1.0) from error
