"""What a caller can receive, and what of it they want."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from positionsizing.v1 import portfolio_service_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from server.app import App
from server.client import Client as ShippedClient
from server.sizing.engine import SizingEngine
from server.sizing.prepared_request import PreparedRequest
from server.sizing.sized_request import SizedRequest
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

N_LINES = 200
SAID = "sizing-max-response-bytes"
ALWAYS = {"decision_id", "request_id", "portfolio_id", "status"}


def fields(decision: Message) -> set[str]:
    return {descriptor.name for descriptor, _ in decision.ListFields()}


async def wide(client: Client, n_lines: int) -> pb.SizePositionsRequest:
    """A request of many lines on a market of as many instruments."""
    names = [f"W{i:05d}-{'x' * 40}" for i in range(n_lines)]
    await client.put_market(
        instrument_ids=names,
        price=[10.0] * n_lines,
        volatility=[0.3] * n_lines,
        average_daily_volume=[1e6] * n_lines,
        sector=[],
    )
    portfolio_id = await client.put_portfolio(1e9)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1, leverage_max=1.0)
    return sizing_request(portfolio_id, names)


async def test_an_answer_beyond_the_default_of_clients_is_refused_and_reserves_nothing(
    app: App, client: Client
) -> None:
    """The plainest client there is: no options, no metadata."""
    request = await wide(client, N_LINES)
    n_bytes = (await client.size(_only(request, validate_only=True))).ByteSize()
    limit = (SAID, str(n_bytes // 2))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        size = channel.unary_unary(
            "/positionsizing.v1.SizingService/SizePositions",
            request_serializer=pb.SizePositionsRequest.SerializeToString,
            response_deserializer=pb.SizePositionsResponse.FromString,
        )
        refused = await refusal(size(request, metadata=[limit]))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RESPONSE_TOO_LARGE",
        )
        assert f"{n_bytes // 2:,}" in refused.message
        assert "read_mask" in refused.message
        assert await client.counts(request.portfolio_id) == (0, 0)
        masked = _only(request, read_mask=FieldMask(paths=["sizes.lots"]))
        answer = (await size(masked, metadata=[limit])).decision
        assert len(answer.sizes.lots) == N_LINES
        assert await client.counts(request.portfolio_id) == (1, 1)
        again = await refusal(size(request, metadata=[limit]))  # a retry that can't read it either
        assert again.reason == "RESPONSE_TOO_LARGE"
    whole = await client.size(request)
    assert whole.decision_id == answer.decision_id
    assert list(whole.sizes.lots) == list(answer.sizes.lots)


def _only(request: pb.SizePositionsRequest, **given: object) -> pb.SizePositionsRequest:
    changed = pb.SizePositionsRequest()
    changed.CopyFrom(request)
    changed.MergeFrom(pb.SizePositionsRequest(**given))  # type: ignore[arg-type]
    return changed


@pytest.mark.parametrize("said", ["0", "-2", "a lot", "1e6", "4095", str(2**31)])
async def test_a_limit_that_is_none_is_refused(client: Client, said: str) -> None:
    request = sizing_request(new_id("portfolio"))
    refused = await refusal(client.sizing.SizePositions(request, metadata=[(SAID, said)]))
    assert refused.fields == {SAID: "OUT_OF_RANGE"}


async def test_a_mask_answers_what_it_names_and_a_retry_may_name_other_fields(
    client: Client,
) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id, read_mask=FieldMask(paths=["sizes", "versions.kernel"]))
    first = await client.size(request)
    assert fields(first) == ALWAYS | {"sizes", "versions"}
    assert fields(first.versions) == {"kernel"}
    other = _only(request)
    other.read_mask.CopyFrom(FieldMask(paths=["summary"]))
    second = await client.size(other)
    assert fields(second) == ALWAYS | {"summary"}
    other.ClearField("read_mask")
    whole = await client.size(other)
    assert whole.sizes == first.sizes
    assert whole.summary == second.summary
    assert {"waterfall", "input_hash", "create_time"} <= fields(whole)
    assert await client.counts(portfolio_id) == (1, 1)
    replayed = await client.sizing.ReplayDecision(
        pb.ReplayDecisionRequest(decision_id=whole.decision_id)
    )
    assert replayed.lots_equal
    got = await client.sizing.GetDecision(
        pb.GetDecisionRequest(
            decision_id=whole.decision_id, read_mask=FieldMask(paths=["waterfall"])
        )
    )
    assert fields(got.decision) == ALWAYS | {"waterfall"}
    assert got.settlement_state == pb.SETTLEMENT_STATE_OPEN


async def test_masks_of_several_portfolios_and_of_what_is_not_recorded(client: Client) -> None:
    first, second = await client.ready(), await client.ready()
    parts = [sizing_request(name, request_id="") for name in (first, second)]
    whole = pb.SizePortfoliosRequest(
        request_id=str(uuid.uuid4()), requests=parts, read_mask=FieldMask(paths=["sizes"])
    )
    answer = await client.sizing.SizePortfolios(whole)
    assert [fields(decision) for decision in answer.decisions] == [ALWAYS | {"sizes"}] * 2
    whole.requests[0].read_mask.paths.append("sizes")
    refused = await refusal(client.sizing.SizePortfolios(whole))
    assert refused.fields == {"requests[0].read_mask": "NOT_APPLICABLE"}
    unrecorded = sizing_request(
        first, validate_only=True, request_id="", read_mask=FieldMask(paths=["sizes"])
    )
    assert fields(await client.size(unrecorded)) == {"portfolio_id", "status", "sizes"}


@pytest.mark.parametrize("path", ["size", "sizes.lot", "", "decisions", "sizes.lots.0"])
async def test_a_path_that_names_nothing_is_refused(client: Client, path: str) -> None:
    portfolio_id = await client.ready()
    mask = FieldMask(paths=["sizes", path])
    refused = await refusal(client.size(sizing_request(portfolio_id, read_mask=mask)))
    assert refused.fields == {"read_mask.paths[1]": "UNKNOWN_FIELD"}
    asked = pb.GetDecisionRequest(decision_id=str(uuid.uuid4()), read_mask=mask)
    assert (await refusal(client.sizing.GetDecision(asked))).reason == "UNKNOWN_FIELD"
    assert await client.counts(portfolio_id) == (0, 0)


async def test_what_ifs_too_large_to_receive_are_refused_before_they_are_computed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    portfolio_id = await client.ready()
    base = sizing_request(portfolio_id, request_id="")
    request = pb.WhatIfRequest(
        base=base, variations=[pb.Variation(name=f"v{i}") for i in range(900)]
    )
    n_computed: list[int] = []
    real = SizingEngine.answers

    def counted(
        self: SizingEngine, problems: Sequence[PreparedRequest], *more: Any
    ) -> list[SizedRequest]:
        n_computed.append(len(problems))
        return real(self, problems, *more)

    monkeypatch.setattr(SizingEngine, "answers", counted)
    refused = await refusal(client.sizing.WhatIf(request, metadata=[(SAID, "20000")]))
    assert refused.reason == "RESPONSE_TOO_LARGE"
    assert sum(n_computed) <= 1, "more than the base was computed"
    assert "20,000" in refused.message


async def test_the_shipped_client_says_what_it_can_receive(app: App, client: Client) -> None:
    request = await wide(client, N_LINES)
    request.validate_only = True

    def ask() -> int:
        with ShippedClient(f"127.0.0.1:{app.port}", timeout_s=120) as shipped:
            return len(shipped.sizing.SizePositions(request).decision.sizes.lots)

    assert await asyncio.to_thread(ask) == N_LINES
