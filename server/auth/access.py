"""What each method asks of its caller, as the contract declares it.

`load()` reads the option `access` of every method and raises `AccessError` where one lacks a scope,
names what is no field, or leaves a portfolio or decision of its request unnamed: a server whose
contract isn't complete does not start.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor import ServiceDescriptor as Service
from google.protobuf.message import Message
from positionsizing.v1 import access_pb2 as pb

from server.auth.identity import Identity
from server.calls.errors import Refusal

SCOPES: dict[int, str] = {
    number: "sizing." + name.removeprefix("ACCESS_SCOPE_").lower().replace("_", ".")
    for name, number in pb.AccessScope.items()
    if number != pb.ACCESS_SCOPE_UNSPECIFIED
}
"""Names of scopes in credentials, by number."""
READ = SCOPES[pb.ACCESS_SCOPE_READ]
PARAMETERS_WRITE = SCOPES[pb.ACCESS_SCOPE_PARAMETERS_WRITE]

_DEPTH_MAX = 4


class AccessError(Exception):
    """The contract does not say completely who may call a method."""


@dataclass(frozen=True)
class Exceptional:
    """Another scope where a field has a value."""

    field: str
    value: Any
    scope: str


@dataclass(frozen=True)
class Access:
    """What a method asks of its caller: see `access.proto`."""

    scope: str
    portfolio_path: tuple[str, ...] = ()
    decision_field: str = ""
    is_filtered: bool = False
    exceptions: tuple[Exceptional, ...] = ()
    is_of_firm: bool = False

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that may be needed; without any of them nothing of the method is open."""
        return frozenset({self.scope, *(item.scope for item in self.exceptions)})

    def check(self, identity: Identity, request: Message) -> None:
        """Raises `Refusal` unless the caller has the scope and the portfolios of the request.

        Decided from the request alone, so that nothing is told of what exists.
        """
        needed = self._needed(request)
        scope = needed[0]
        if identity.scopes.isdisjoint(needed):
            raise denied(scope)
        if self.is_of_firm and not identity.has_all_portfolios:
            raise denied(scope, is_of_firm=True)
        if not self.portfolio_path:
            return
        named = list(_values(request, self.portfolio_path))
        if self.is_filtered and not any(named):
            return
        if not all(map(identity.is_granted, named or [""])):
            raise denied(scope, ".".join(self.portfolio_path))

    def _needed(self, request: Message) -> list[str]:
        """Scopes of which the caller needs any."""
        found = [x.scope for x in self.exceptions if getattr(request, x.field) == x.value]
        return found or [self.scope]


def denied(scope: str, field: str = "", *, is_of_firm: bool = False) -> Refusal:
    """PERMISSION_DENIED, the same whether what is asked for exists or not."""
    where = f" on what {field} names, or it does not exist" if field else ""
    where = " on the whole firm: it needs a grant of all portfolios" if is_of_firm else where
    metadata = {"scope": scope, **({"field": field} if field else {})}
    text = f"permission {scope!r} denied{where}"
    return Refusal(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", text, metadata=metadata)


def load(services: Iterable[Service]) -> Mapping[str, Access]:
    """Access by path of the method, such as "/positionsizing.v1.SizingService/WhatIf".

    Raises `AccessError`.
    """
    return {
        f"/{service.full_name}/{method.name}": _access(method)
        for service in services
        for method in service.methods
    }


def _access(method: MethodDescriptor) -> Access:
    if not method.GetOptions().HasExtension(pb.access):
        raise AccessError(f"{method.full_name} does not say who may call it")
    return of_option(method.full_name, method.input_type, method.GetOptions().Extensions[pb.access])


def of_option(name: str, request: Descriptor, option: pb.Access) -> Access:
    """The option of a method with this request, checked. Raises `AccessError`."""
    path = tuple(option.portfolio_field.split(".")) if option.portfolio_field else ()
    if not set(_portfolio_paths(request)) <= {path}:
        raise AccessError(f"{name}: portfolio_field leaves a portfolio of the request unnamed")
    if path:
        _field(name, request, path)
    if option.decision_field:
        _field(name, request, (option.decision_field,))
    elif "decision_id" in request.fields_by_name:
        raise AccessError(f"{name}: decision_field leaves a decision of the request unnamed")
    return Access(
        scope=_scope(name, option.scope),
        portfolio_path=path,
        decision_field=option.decision_field,
        is_filtered=option.is_filtered,
        exceptions=tuple(_exceptional(name, request, item) for item in option.exceptions),
        is_of_firm=option.is_of_firm,
    )


def _scope(name: str, number: int) -> str:
    if number not in SCOPES:
        raise AccessError(f"{name} has no scope")
    return SCOPES[number]


def _exceptional(name: str, request: Descriptor, option: pb.ScopeException) -> Exceptional:
    field = _field(name, request, (option.field,), FieldDescriptor.TYPE_BOOL)
    value: Any = option.value == "true"
    if field.enum_type is not None:
        if option.value not in field.enum_type.values_by_name:
            raise AccessError(f"{name}: {option.value!r} is no value of {option.field!r}")
        value = field.enum_type.values_by_name[option.value].number
    return Exceptional(option.field, value, _scope(name, option.scope))


def _field(
    name: str, message: Descriptor, path: tuple[str, ...], kind: int = FieldDescriptor.TYPE_STRING
) -> FieldDescriptor:
    """The field that a path leads to, an enum's or of the type `kind`. Raises `AccessError`."""
    found: FieldDescriptor | None = None
    within: Descriptor | None = message
    for part in path:
        found = within.fields_by_name.get(part) if within is not None else None
        if found is None:
            raise AccessError(f"{name}: {'.'.join(path)!r} is no field of the request")
        within = found.message_type
    if found is None or (found.type != kind and found.enum_type is None):
        raise AccessError(f"{name}: {'.'.join(path)!r} is a field of another type")
    return found


def _portfolio_paths(message: Descriptor, depth: int = 0) -> Iterator[tuple[str, ...]]:
    """Where a request names portfolios."""
    for field in message.fields:
        if field.name == "portfolio_id":
            yield (field.name,)
        elif field.message_type is not None and depth < _DEPTH_MAX:
            for path in _portfolio_paths(field.message_type, depth + 1):
                yield (field.name, *path)


def _values(message: Any, path: tuple[str, ...]) -> Iterator[str]:
    """The values that a path leads to, one for each element of repeated fields."""
    value = getattr(message, path[0])
    if len(path) == 1:
        yield value
    elif isinstance(value, Message):
        yield from _values(value, path[1:])
    else:
        for item in value:
            yield from _values(item, path[1:])
