"""What clients send again by themselves may arrive twice, and nothing else is sent again."""

import json

from positionsizing import SERVICE_CONFIG

from server.auth.access import load
from server.calls.contract import SERVICES

(METHODS,) = json.loads(SERVICE_CONFIG)["methodConfig"]
REPEATED = {f"/{name['service']}/{name['method']}" for name in METHODS["name"]}
READS = {"sizing.read", "sizing.simulate", "sizing.audit.read"}


def test_a_method_is_repeated_where_it_reads_or_has_an_id_of_its_request() -> None:
    for path, access in load(SERVICES.values()).items():
        service, name = path.rsplit(".", 1)[1].split("/")
        has_id = "request_id" in SERVICES[service].methods_by_name[name].input_type.fields_by_name
        may_repeat = has_id or (access.scope in READS and name != "StartJob")
        assert (path in REPEATED) is may_repeat, path


def test_what_sizes_and_settles_is_repeated_and_what_stores_without_an_id_is_not() -> None:
    prefix = "/positionsizing.v1."
    sizing = {f"{prefix}SizingService/{name}" for name in ("SizePositions", "SettleDecision")}
    stores = {f"{prefix}PortfolioService/{name}" for name in ("SetLimits", "SetHoldings")}
    assert sizing <= REPEATED
    assert not REPEATED & {*stores, f"{prefix}JobService/StartJob"}


def test_only_unavailable_is_repeated() -> None:
    assert METHODS["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
