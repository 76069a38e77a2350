"""Every method says who may call it, and a change of that is seen."""

from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from positionsizing.v1 import access_pb2 as pb
from positionsizing.v1 import portfolio_service_pb2 as portfolio
from positionsizing.v1 import sizing_service_pb2 as sizing
from positionsizing.v1 import webhook_service_pb2 as webhook

from server.auth.access import SCOPES, Access, AccessError, load, of_option
from server.auth.identity import Identity
from server.auth.roles import ROLES
from server.calls.contract import SERVICES
from server.calls.errors import Refusal

GOLDEN = Path(__file__).parent / "access.golden"


def line(path: str, access: Access) -> str:
    """A method and all it asks, in one line."""
    words = [path.removeprefix("/positionsizing.v1."), access.scope]
    if access.portfolio_path:
        words.append(f"portfolio={'.'.join(access.portfolio_path)}")
    if access.decision_field:
        words.append(f"decision={access.decision_field}")
    if access.is_filtered:
        words.append("filtered")
    if access.is_of_firm:
        words.append("firm")
    words += [f"{item.field}={item.value}:{item.scope}" for item in access.exceptions]
    return " ".join(words)


def test_who_may_call_what_is_as_reviewed() -> None:
    """`buf breaking` does not see a changed option; this file does. Edit it with care."""
    table = [line(path, access) for path, access in sorted(load(SERVICES.values()).items())]
    assert table == GOLDEN.read_text().splitlines()


def test_reading_never_writes() -> None:
    for path, access in load(SERVICES.values()).items():
        name = path.rsplit("/", 1)[1]
        reads = name.startswith(("Get", "List", "Watch", "Replay", "Analyze", "Compare", "Report"))
        if access.scope != "sizing.audit.read":  # which only reads as well
            assert (access.scope == "sizing.read") is reads, name


SIZE = {"scope": pb.ACCESS_SCOPE_SIZE, "portfolio_field": "portfolio_id"}


@pytest.mark.parametrize(
    ("request_type", "option", "words"),
    [
        (sizing.SizePositionsRequest, {**SIZE, "scope": 0}, "has no scope"),
        (sizing.SizePositionsRequest, {**SIZE, "scope": 99}, "has no scope"),
        (sizing.SizePositionsRequest, {"scope": 3}, "unnamed"),
        (portfolio.SetLimitsRequest, {"scope": 3}, "unnamed"),
        (sizing.SizePositionsRequest, {**SIZE, "portfolio_field": "strategy_id"}, "unnamed"),
        (portfolio.ListPortfoliosRequest, {"scope": 1, "portfolio_field": "book"}, "is no field"),
        (portfolio.ListPortfoliosRequest, {"scope": 1, "portfolio_field": "page_size"}, "type"),
        (sizing.GetDecisionRequest, {"scope": 1}, "leaves a decision"),
        (sizing.GetDecisionRequest, {"scope": 1, "decision_field": "id"}, "is no field"),
        (
            sizing.SizePositionsRequest,
            {**SIZE, "exceptions": [{"field": "dry", "value": "true", "scope": 2}]},
            "is no field",
        ),
        (
            portfolio.SetTradingStateRequest,
            {
                "scope": 1,
                "portfolio_field": "scope.portfolio_id",
                "exceptions": [{"field": "trading_state", "value": "HALT", "scope": 9}],
            },
            "is no value",
        ),
    ],
)
def test_an_incomplete_declaration_stops_the_server(
    request_type: type, option: dict[str, object], words: str
) -> None:
    descriptor: Descriptor = request_type.DESCRIPTOR  # type: ignore[attr-defined]
    with pytest.raises(AccessError, match=words):
        of_option("Method", descriptor, pb.Access(**option))  # type: ignore[arg-type]


def test_a_method_without_the_option_stops_the_server() -> None:
    from grpc_health.v1 import health_pb2

    with pytest.raises(AccessError, match=r"Health\.Check"):
        load(health_pb2.DESCRIPTOR.services_by_name.values())


ACCESS = load(SERVICES.values())


def caller(*scopes: str, portfolios: tuple[str, ...] = ("*",)) -> Identity:
    return Identity("acme", "user:ann", frozenset(scopes), portfolios)


def is_denied(method: str, identity: Identity, request: object) -> bool:
    try:
        ACCESS[f"/positionsizing.v1.{method}"].check(identity, request)  # type: ignore[arg-type]
    except Refusal as refusal:
        assert refusal.reason == "PERMISSION_DENIED"
        return True
    return False


def test_validating_takes_less_than_sizing() -> None:
    simulate, size = caller("sizing.simulate"), caller("sizing.size")
    dry, wet = sizing.SizePositionsRequest(validate_only=True), sizing.SizePositionsRequest()
    for method in ("SizingService/SizePositions",):
        assert not is_denied(method, simulate, dry)
        assert is_denied(method, simulate, wet)
        assert not is_denied(method, size, wet)


def test_halting_takes_another_scope_than_resuming() -> None:
    halt, resume = caller("sizing.halt"), caller("sizing.resume")
    method = "PortfolioService/SetTradingState"
    for state, may_halt in ((3, True), (1, False), (0, False)):
        request = portfolio.SetTradingStateRequest(trading_state=state)  # type: ignore[arg-type]
        assert is_denied(method, halt, request) is not may_halt
        assert is_denied(method, resume, request) is may_halt
    reducing = portfolio.SetTradingStateRequest(trading_state=2)  # type: ignore[arg-type]
    for who in (halt, resume):  # whether it allows more is told where the state before is known
        assert not is_denied(method, who, reducing)
    assert is_denied(method, caller("sizing.size"), reducing)


@pytest.mark.parametrize(
    ("ids", "denied"),
    [
        (["p1"], False),
        (["tech-1", "p1"], False),
        (["p1", "p2"], True),
        (["p10"], True),
        (["tech-1", ""], True),
        ([], True),
    ],
)
def test_one_part_that_is_not_granted_denies_all(ids: list[str], denied: bool) -> None:
    someone = caller("sizing.size", portfolios=("p1", "tech-*"))
    parts = [sizing.SizePositionsRequest(portfolio_id=id) for id in ids]
    request = sizing.SizePortfoliosRequest(requests=parts)
    assert is_denied("SizingService/SizePortfolios", someone, request) is denied


def test_the_firm_needs_a_grant_of_everything() -> None:
    method, scope = "PortfolioService/SetLimits", "sizing.limits.propose"
    some = caller(scope, portfolios=("p1",))
    for given in ({}, {"group_id": "p1"}, {"strategy_id": "p1"}):
        request = portfolio.SetLimitsRequest(scope=portfolio.Scope(**given))
        assert is_denied(method, some, request)
        assert not is_denied(method, caller(scope), request)
    own = portfolio.SetLimitsRequest(scope=portfolio.Scope(portfolio_id="p1"))
    assert not is_denied(method, some, own)


def test_webhooks_are_of_the_whole_firm() -> None:
    method, scope = "WebhookService/CreateWebhook", "sizing.webhooks.write"
    request = webhook.CreateWebhookRequest()
    assert is_denied(method, caller(scope, portfolios=("p*", "q")), request)
    assert not is_denied(method, caller(scope), request)
    assert is_denied("WebhookService/ListWebhooks", caller("sizing.read", portfolios=("p",)), None)


def test_a_list_is_open_and_a_named_portfolio_is_not() -> None:
    some = caller("sizing.read", portfolios=("p1",))
    method = "SizingService/ListDecisions"
    assert not is_denied(method, some, sizing.ListDecisionsRequest())
    assert not is_denied(method, some, sizing.ListDecisionsRequest(portfolio_id="p1"))
    assert is_denied(method, some, sizing.ListDecisionsRequest(portfolio_id="p2"))


@pytest.mark.parametrize("bad", [("", "ann"), ("a b", "ann"), ("a';", "ann"), ("acme", "a\nb")])
def test_an_identity_has_ids(bad: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="no "):
        Identity(*bad, frozenset(SCOPES.values()))


def test_no_role_proposes_and_approves_or_sizes_under_its_own_limits() -> None:
    for name, scopes in ROLES.items():
        for pair in (
            {"sizing.limits.propose", "sizing.approve"},
            {"sizing.limits.propose", "sizing.size"},
            {"sizing.approve", "sizing.size"},
        ):
            assert not pair <= scopes, name
