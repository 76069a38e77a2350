"""Every text of every request with a character that PostgreSQL has no room for: told by path."""

import copy
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.server.input.test_numbers import METHODS, message_at, paths
from tests.server.support.mutations import EXPECTED
from tests.server.support.seeds import seeds, stubs
from tests.server.support.service_client import Client, refusal_of, sizing_request

NUL = "a\x00b"


def is_text(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_STRING


@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", METHODS)
async def test_a_text_that_cannot_be_stored_is_told_by_path(client: Client, method: str) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    call: Any = stubs(client)[method]
    good = seeds(portfolio_id, decision.decision_id)[method]
    for path in paths(good.DESCRIPTOR, is_text):
        request: Any = copy.deepcopy(good)
        *way, last = path
        holder = message_at(request, way)
        if holder.DESCRIPTOR.fields_by_name[last].is_repeated:
            column = getattr(holder, last)
            size = max(len(column), 1)
            del column[:]
            column.extend([NUL, *(f"{NUL}{place}" for place in range(1, size))])
        else:
            setattr(holder, last, NUL)
        if "request_id" in request.DESCRIPTOR.fields_by_name and path != ("request_id",):
            request.request_id = str(uuid4())
        try:
            await call(request)
        except grpc.aio.AioRpcError as error:
            refused = refusal_of(error)
            assert refused.code in EXPECTED, (path, refused)
            if refused.code is grpc.StatusCode.INVALID_ARGUMENT:
                assert refused.fields, (path, refused)
