"""`sizing profile`: where the time of a real request goes."""

import json
import statistics
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    file_to_write,
    print_json,
)
from server.cli.layout import Table
from server.cli.sizing import (
    Covariance,
    Method,
    MoreLimits,
    OfPortfolio,
    OfStrategy,
    Scenarios,
    SignalsFile,
    Snapshot,
    request_of,
)

if TYPE_CHECKING:
    from positionsizing.v1 import sizing_pb2, sizing_service_pb2

    from server.client import Client

ROUND_TRIP, SERVER = "round trip", "server"


@dataclass(frozen=True)
class Span:
    """A named piece of time: start in seconds since the first request was sent, duration, where."""

    name: str
    start_s: float
    duration_s: float
    thread: str


def profile(
    file: SignalsFile,
    portfolio: OfPortfolio = "",
    strategy: OfStrategy = "",
    method: Method = "",
    limits: MoreLimits = None,
    snapshot: Snapshot = "",
    scenarios: Scenarios = "",
    covariance: Covariance = "",
    repeat: Annotated[
        int, typer.Option(min=1, max=1000, help="Requests; the table has their medians.")
    ] = 10,
    record: Annotated[
        bool, typer.Option("--record", help="Record the decisions, to see the commit too.")
    ] = False,
    trace_file: Annotated[
        Path | None,
        file_to_write("Write a Chrome trace (chrome://tracing, Perfetto)."),
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Sizes a file of signals several times and shows where the time goes.

    The first request is shown apart: it reads what the others find kept. Without --record nothing
    is recorded, so there is no commit to be seen; with it each request is a decision that holds
    its reservation until it is settled or expires.
    """
    request = request_of(file, portfolio, strategy, method, limits, snapshot, scenarios, covariance)
    request.validate_only = not record
    runs: list[list[Span]] = []
    with connect(address) as client:
        client.is_serving_within(5.0)  # connects, which is no part of a request
        origin = time.perf_counter()
        for _ in range(repeat + 1):
            request.request_id = str(uuid.uuid4())
            spans, decision, sizes = _profiled(client, request, origin)
            runs.append(spans)
    if trace_file:
        trace_file.write_text(json.dumps(chrome_trace(runs)))
    if as_json:
        print_json({"runs": [[vars(span) for span in spans] for spans in runs]})
        return
    out = console()
    out.print(times_table(runs))
    for line in (*_shape_lines(decision), f"request {sizes[0]:,} bytes, answer {sizes[1]:,} bytes"):
        out.print(line)
    if trace_file:
        out.print(f"trace: {trace_file}")


def _profiled(
    client: "Client", request: "sizing_service_pb2.SizePositionsRequest", origin: float
) -> tuple[list[Span], "sizing_pb2.SizingDecision", tuple[int, int]]:
    """The spans of one request, the server's placed in the middle of the round trip."""
    from server.observability.profile import ANSWER, ASK

    began = time.perf_counter()
    answer, call = client.sizing.SizePositions.with_call(request, metadata=((ASK, "1"),))
    took = time.perf_counter() - began
    trailers = dict(call.trailing_metadata() or ())
    told = json.loads(trailers.get(ANSWER, b"[]"))
    whole = max((start + duration for _, start, duration, _ in told), default=0) * 1e-6
    start_s = began - origin
    inside = start_s + 0.5 * max(took - whole, 0.0)
    spans = [
        Span(ROUND_TRIP, start_s, took, "client"),
        Span(SERVER, inside, whole, "MainThread"),
        *(
            Span(n, inside + a * 1e-6, d * 1e-6, thread)
            for n, a, d, thread in sorted(told, key=_at)
        ),
    ]
    return spans, answer.decision, (request.ByteSize(), answer.ByteSize())


def _at(span: list[Any]) -> float:
    return float(span[1])


def times_table(runs: list[list[Span]]) -> Table:
    """A row a span in the order of time: the median of all requests, the first of them apart."""
    from server.cli.render import table

    first, later = runs[0], runs[1:]
    out = table(
        f"Where the time goes: medians of {len(later)} requests",
        *("span", "time", "by itself", "share", "first request"),
        left=("span",),
        drop=("first request", "by itself"),
    )
    totals = [_totals(spans) for spans in later]
    whole = statistics.median(total[ROUND_TRIP][0] for total in totals)
    once = _totals(first)
    for name in dict.fromkeys([*totals[-1], *once]):
        found = [total[name] for total in totals if name in total]
        time_s, own_s = (
            (statistics.median(row[i] for row in found) if found else 0.0) for i in (0, 1)
        )
        depth = once[name][2] if name in once else found[-1][2]
        out.add_row(
            "  " * int(depth) + name,
            _milliseconds(time_s),
            _milliseconds(own_s),
            f"{time_s / whole:.0%}",
            _milliseconds(once[name][0]) if name in once else "",
        )
    return out


def _totals(spans: list[Span]) -> dict[str, tuple[float, float, int]]:
    """By name: time in all, time outside the spans within it, and how deep it lies."""
    out: dict[str, tuple[float, float, int]] = {}
    for span in spans:
        inside = [other for other in spans if other is not span and _within(other, span)]
        direct = [
            other
            for other in inside
            if not any(_within(other, o) for o in inside if o is not other)
        ]
        own = span.duration_s - sum(other.duration_s for other in direct)
        depth = sum(_within(span, other) for other in spans if other is not span)
        before = out.get(span.name, (0.0, 0.0, depth))
        out[span.name] = before[0] + span.duration_s, before[1] + max(own, 0.0), before[2]
    return out


_ROUNDED_S = 2e-6
"""Spans come in whole microseconds."""


def _within(inner: Span, outer: Span) -> bool:
    if outer.duration_s < inner.duration_s:
        return False
    return (
        inner.start_s >= outer.start_s - _ROUNDED_S
        and inner.start_s + inner.duration_s <= outer.start_s + outer.duration_s + _ROUNDED_S
        and inner.name != outer.name
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.3f} ms"


def _shape_lines(decision: "sizing_pb2.SizingDecision") -> list[str]:
    """How much of the compiled program was padding."""
    kernel, n_lines = decision.versions.kernel, len(decision.sizes.instrument_ids)
    _, _, shape = kernel.partition("/")
    width = shape.partition("x")[0]
    if not width.isdigit() or not int(width):
        return [f"program {kernel}"]
    used = n_lines / int(width)
    return [f"program {kernel}: {n_lines} lines of {int(width)}, {1.0 - used:.0%} padding"]


def chrome_trace(runs: list[list[Span]]) -> dict[str, Any]:
    """The spans in the trace event format: complete events, microseconds, a row a thread."""
    threads = list(dict.fromkeys(span.thread for spans in runs for span in spans))
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": place, "name": "thread_name", "args": {"name": name}}
        for place, name in enumerate(threads)
    ]
    events += [
        {
            "ph": "X",
            "pid": 1,
            "tid": threads.index(span.thread),
            "name": span.name,
            "cat": "sizing",
            "ts": 1e6 * span.start_s,
            "dur": 1e6 * span.duration_s,
            "args": {"request": number},
        }
        for number, spans in enumerate(runs)
        for span in spans
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}
